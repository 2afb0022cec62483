import CHost
import Host
import Machine
import Memory
import X86

/// The engines that work on every host: decoded instructions run as chains of tail calls (the interpreter), and what runs
/// often is translated to host code (the translator, see `Translator`).
///
/// The outer loop here does what stands between instructions: it answers the attention word, delivers pending events and
/// faults, and returns exits. Everything else is in the chain (`Chain`), which the loop enters at the block of CS:RIP and
/// gets back when a handler stops it. RIP is then exact: the instruction that faulted, or the next one to run.
public final class SoftwareEngine: ExecutionEngine {
  public let capabilities = EngineCapabilities(
    countsInstructions: true, interceptsTime: true, runsRealMode: true, runsProtectedMode: true)

  private let memory: GuestMemory
  private let model: CPUModel
  private var processor: SoftwareProcessor?
  private let codeWatch: CodeWatch.Member
  /// Stands in for the attention word of a state that has none.
  private let ownAttention: UnsafeMutablePointer<UInt32>
  /// Nil: nothing is translated.
  private let translation: TranslationOptions?
  /// How undefined flags are left; other than the host's in tests alone, and set before anything runs.
  var flagRules = FlagRules.host

  /// - Parameters:
  ///   - codeWatch: shared by all engines of the machine; none where this is the only one.
  ///   - translation: how code that runs often is translated; nil: it is interpreted.
  public init(memory: GuestMemory, model: CPUModel, codeWatch: CodeWatch? = nil, translation: TranslationOptions? = nil)
  {
    self.translation = translation
    self.codeWatch = (codeWatch ?? CodeWatch(memory: memory)).join()
    self.memory = memory
    self.model = model
    ownAttention = .allocate(capacity: 1)
    ownAttention.initialize(to: 0)
  }

  deinit {
    codeWatch.resign()
    ownAttention.deallocate()
  }

  public func run(
    _ state: inout CPUState, budget: UInt64, responder: (any ExitResponder)?
  ) throws(EngineFailure) -> VMExit {
    try withUnsafeMutablePointer(to: &state) { (cpu) throws(EngineFailure) in
      let processor: SoftwareProcessor
      do throws(HostFailure) {
        processor = try attach(cpu)
        try processor.native.enter(cpu)
      } catch {
        throw EngineFailure(error.description)
      }
      processor.bringAddressLines()
      processor.responder = responder
      codeWatch.enter()
      processor.serveCodeWatch()
      defer {
        processor.responder = nil
        codeWatch.leave()
        processor.native.leave(cpu)
      }
      return run(processor, cpu, budget: budget)
    }
  }

  /// What the translator has done; nil where there is none, or nothing has run yet. Not while another thread runs the
  /// engine.
  public var translationStatistics: TranslationStatistics? { processor?.translator?.statistics }

  public func invalidate(_ range: Range<UInt64>) { codeWatch.post(.written(range)) }

  public func stateChanged(_ state: inout CPUState) {
    withUnsafeMutablePointer(to: &state) { cpu in
      // What has not run yet has nothing to forget.
      guard let processor else { return }
      processor.stateChanged()
      processor.blocks.removeAll()
    }
  }

  /// The processor around `cpu`; made at the first run. A state stays where it is for an engine's life.
  private func attach(_ cpu: CPU) throws(HostFailure) -> SoftwareProcessor {
    if let processor {
      precondition(processor.cpu == cpu, "an engine runs one CPUState, which does not move")
      return processor
    }
    if cpu.pointee.engine.attention == nil { cpu.pointee.engine.attention = UnsafePointer(ownAttention) }
    var translator: Translator?
    if let translation {
      translator = try Translator(
        translation,
        hasWideVectors: NativeFeatures.host.contains(.avx) && model.features.contains(.avx))
    }
    let made = SoftwareProcessor(
      cpu: cpu, memory: memory, model: model, codeWatch: codeWatch, translator: translator, flagRules: flagRules)
    cpu.pointee.engine.context = Unmanaged.passUnretained(made).toOpaque()
    made.stateChanged()
    processor = made
    codeWatch.setAttention(cpu.pointee.engine.attention)
    return made
  }

  private func run(_ processor: SoftwareProcessor, _ cpu: CPU, budget: UInt64) -> VMExit {
    if cpu.pointee.completion.isValid != 0 {
      processor.replay.append(cpu.pointee.completion)
      cpu.pointee.completion.isValid = 0
      cpu.pointee.completion.isRefused = 0
    }
    var remaining = Int64(clamping: budget)
    processor.translations.select(root: processor.addressSpaceRoot, flushes: false)
    while true {
      if let exit = processor.pendingExits.next() {
        // After a write, state is whole.
        guard exit.isWrite, processor.respond(to: exit) else { return exit }
        continue
      }
      if let exit = takeAttention(processor, cpu) { return exit }
      // Before events are looked at: the instruction that an interrupt shadow lets run is another budget's.
      if remaining <= 0 { return .budgetSpent }
      processor.modeChanged()
      switch processor.deliverPendingEvents() {
      case .runFreely:
        if cpu.pointee.wantsInterruptWindow != 0, cpu.pointee.interruptPending == 0, processor.canTakeInterrupt {
          cpu.pointee.wantsInterruptWindow = 0
          return .interruptWindow
        }
      case .runOneInstruction: cpu.pointee.engine.blockKey |= CodeMode.stepping.rawValue
      case .stayInactive: return cpu.pointee.activity == .shutdown ? .shutdown : .halt
      case .leaveForAnswer: continue
      case .trapsAtOnce:
        // Such handlers can go on without end.
        remaining -= 1
        continue
      }
      runChain(processor, cpu, &remaining)
    }
  }

  private func takeAttention(_ processor: SoftwareProcessor, _ cpu: CPU) -> VMExit? {
    guard let word = cpu.pointee.engine.attention, attentionLoad(word) != 0 else { return nil }
    let bits = attentionTake(UnsafeMutablePointer(mutating: word))
    if bits & CPUAttention.invalidate.rawValue != 0 { processor.serveCodeWatch() }
    let others = bits & ~CPUAttention.invalidate.rawValue
    return others == 0 ? nil : .attention(others)
  }

  /// Runs blocks until something has to be done outside the chain, and does what the chain left over.
  private func runChain(_ processor: SoftwareProcessor, _ cpu: CPU, _ remaining: inout Int64) {
    let isStepping = processor.codeMode.contains(.stepping)
    if isStepping, let fault = processor.beginStep() {
      remaining -= 1
      processor.deliver(fault)
      return
    }
    let isSingle = cpu.pointee.engine.blockKey & CodeMode.stepping.rawValue != 0
    let spent = Self.spend(processor, cpu, isSingle ? min(1, remaining) : remaining)
    remaining -= spent
    cpu.pointee.instructionCount &+= UInt64(spent)
    guard cpu.pointee.engine.stopReason & StopReason.fault != 0 else {
      // An attention may have kept the instruction from running. SYSRET traps by the flag that it has just set.
      if isStepping || processor.events.isSingleStep, spent > 0 { processor.endStep() }
      return
    }
    // A guest that faults without end comes back as any other does.
    if processor.fault != .exit { remaining -= 1 }
    processor.deliver(processor.fault)
  }

  /// One chain of at most `charge` instructions; returns how many ran.
  private static func spend(_ processor: SoftwareProcessor, _ cpu: CPU, _ charge: Int64) -> Int64 {
    cpu.pointee.engine.stopReason = 0
    guard var block = processor.currentBlock() else { return 0 }
    if Int64(block.pointee.instructionCount) > charge {
      // The budget ends inside this block: go by single instructions.
      cpu.pointee.engine.blockKey |= CodeMode.stepping.rawValue
      guard let first = processor.currentBlock() else { return 0 }
      block = first
    }
    cpu.pointee.engine.budget = charge
    // One that is there covers the first instruction.
    cpu.pointee.engine.shadowBudget = charge
    Chain.enter(cpu, block, 0, 0, cpu.pointee.rflags, LazyFlags.materialized)
    processor.dropShadow(unlessCastAt: cpu.pointee.engine.budget)
    let engine = cpu.pointee.engine
    cpu.pointee.rflags =
      cpu.pointee.rflags & ~RFLAGS.arithmetic
      | LazyFlags.materialize(engine.flagA, engine.flagB, engine.flagResult, engine.flagKind)
    return charge - cpu.pointee.engine.budget
  }
}
