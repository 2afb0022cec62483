import CHost
import CZydis
import Glibc
import Machine
import Memory
import X86

/// Two engines that run one guest, compared as they go: the proof that they are equivalent, and the way to the bug
/// where they are not.
///
/// **Two processors.** The first engine runs on the machine's own state and memory, the second on copies
/// (`SecondProcessor`). What comes from outside goes into both: the state is copied at each `run`, since the machine
/// answers exits and delivers interrupts there; what devices and loaders write to memory is mirrored; time stamps and
/// random numbers become exits (`CPUIntercepts`), which the machine answers once. So nothing is left that could make
/// the two differ but the engines.
///
/// **Windows.** Guest code runs for at most `window` instructions on the first engine and then as far on the second.
/// Both must come to the same exit and the same state; if they do, the exit is the machine's, or the next window
/// begins. Budgets count instructions and exceptions alike in all engines, so the ends of windows are the same moments.
/// An attention would end a window at a moment that only one engine sees: the engines have attention words of their
/// own, and the machine's is looked at between windows.
///
/// **Memory** is compared from time to time: every page that either engine has ever written (`GuestMemory.dirty`),
/// often enough for the cost to stay in proportion.
///
/// **Undefined flags** may differ. Where nothing else does, the instructions at the window's end are asked whether the
/// flags are theirs to choose (`UndefinedFlags`); the second processor then gets the first's. The first engine goes
/// through the end of each window by single instructions, so that it is known which those were.
///
/// For one virtual processor: several would have to see each other's stores in the same order twice. And for devices
/// that write memory on the processor's thread, inside an exit; a write from another thread falls into different
/// moments of the two.
public final class LockstepEngine: ExecutionEngine {
  /// One of the two: what it is called in reports, and how it is made.
  public struct Side {
    public var name: String
    public var makeEngine: EngineFactory

    public init(name: String, makeEngine: @escaping EngineFactory) {
      self.name = name
      self.makeEngine = makeEngine
    }
  }

  /// Instructions between two comparisons, unless somebody wants another number.
  public static let standardWindow = 256

  public let capabilities: EngineCapabilities
  public private(set) var statistics = LockstepStatistics()

  /// The two engines.
  public var sides: [any ExecutionEngine] { [first, second] }

  let names: (String, String)
  let first: any ExecutionEngine
  let second: any ExecutionEngine
  let memory: GuestMemory
  /// What the second engine runs.
  let twin: SecondProcessor
  private let window: UInt64
  /// Where the machine asks for attention, and where the first engine looks for it.
  private let attention: UnsafePointer<UInt32>?
  private let firstAttention = AttentionWord()
  private var hasRun = false
  /// The report of the difference that ended the run.
  private var difference: String?
  private var nextMemoryComparison: UInt64

  /// The state at the beginning of the window.
  let start = UnsafeMutableRawPointer.allocate(byteCount: StateLayout.size, alignment: 64)
  /// What was around the stack pointer then.
  let stack = StackSnapshot()
  /// Where the last instructions of the window were, in the order in which they ran.
  private(set) var tail: [CodeAddress] = []

  private static let tailLength: UInt64 = 6
  /// Instructions for each page that is compared.
  private static let instructionsPerPage: UInt64 = 500
  private static let fewestBetweenMemoryComparisons: UInt64 = 1 << 18

  /// - Parameter window: most instructions between two comparisons, at least 1.
  public init(_ context: EngineContext, _ first: Side, _ second: Side, window: Int = standardWindow) throws {
    precondition(window > 0, "a window holds at least one instruction")
    self.window = UInt64(window)
    names = first.name == second.name ? ("first", "second") : (first.name, second.name)
    memory = context.memory
    twin = try SecondProcessor(of: context)
    nextMemoryComparison = Self.fewestBetweenMemoryComparisons
    attention = context.state.pointee.engine.attention
    context.state.pointee.engine.attention = firstAttention.word
    self.first = try first.makeEngine(context)
    var other = context
    other.memory = twin.memory
    other.state = twin.state
    self.second = try second.makeEngine(other)
    for (engine, name) in [(self.first, first.name), (self.second, second.name)] {
      guard engine.capabilities.countsInstructions, engine.capabilities.interceptsTime else {
        throw EngineFailure(
          "the engine '\(name)' cannot stop after a given number of instructions, as lockstep needs it")
      }
    }
    capabilities = EngineCapabilities(
      countsInstructions: true, interceptsTime: true,
      runsRealMode: self.first.capabilities.runsRealMode && self.second.capabilities.runsRealMode,
      runsProtectedMode: self.first.capabilities.runsProtectedMode && self.second.capabilities.runsProtectedMode)
    twin.mirror(memory, into: self.second)
  }

  deinit {
    twin.endMirroring(memory)
    start.deallocate()
  }

  public func invalidate(_ range: Range<UInt64>) { first.invalidate(range) }

  public func stateChanged(_ state: inout CPUState) {
    first.stateChanged(&state)
    withUnsafePointer(to: &state) { StateLayout.copy(from: $0, to: twin.state) }
    second.stateChanged(&twin.state.pointee)
  }

  /// Without the responder: what devices answer goes into both engines.
  public func run(
    _ state: inout CPUState, budget: UInt64, responder: (any ExitResponder)?
  ) throws(EngineFailure) -> VMExit {
    try withUnsafeMutablePointer(to: &state) { (cpu) throws(EngineFailure) in
      if let difference {
        if let bits = takeAttention() { return .attention(bits) }
        throw EngineFailure(difference)
      }
      if !hasRun {
        hasRun = true
        twin.copyMemory(from: memory)
      }
      cpu.pointee.intercepts = [.timeStampCounter, .randomNumber]
      StateLayout.copy(from: cpu, to: twin.state)
      var remaining = budget
      while true {
        // Exits that are due come before attention, as in any engine.
        let hasAttention = attention.map { attentionLoad($0) != 0 } ?? false
        let size = hasAttention ? 0 : min(remaining, window)
        let exit = try runWindow(cpu, size)
        guard exit == .budgetSpent else { return exit }
        if hasAttention, let bits = takeAttention() { return .attention(bits) }
        remaining -= size
        if remaining == 0 { return .budgetSpent }
      }
    }
  }

  /// Compares what windows do not: all of the memory that was written. At the end of the run; nil if it is the same.
  public func finish() -> String? {
    guard hasRun, difference == nil else { return nil }
    return compareMemory()
  }

  private func takeAttention() -> UInt32? {
    guard let attention, attentionLoad(attention) != 0 else { return nil }
    let bits = attentionTake(UnsafeMutablePointer(mutating: attention))
    if bits & CPUAttention.invalidate.rawValue != 0 {
      firstAttention.raise(.invalidate)
      twin.attention.raise(.invalidate)
    }
    let others = bits & ~CPUAttention.invalidate.rawValue
    return others == 0 ? nil : others
  }

  private func runWindow(_ cpu: UnsafeMutablePointer<CPUState>, _ size: UInt64) throws(EngineFailure) -> VMExit {
    StateLayout.copy(from: cpu, to: start)
    stack.take(cpu, memory)
    let count = cpu.pointee.instructionCount
    let firstExit = try runFirst(cpu, size)
    let secondExit = try second.run(&twin.state.pointee, budget: size)
    statistics.windows += 1
    statistics.instructions += cpu.pointee.instructionCount &- count
    if firstExit != secondExit || !StateLayout.areEqual(cpu, twin.state) {
      try settle(cpu, size, firstExit, secondExit)
    }
    if statistics.instructions >= nextMemoryComparison, let report = compareMemory() { throw fail(report) }
    return firstExit
  }

  /// The window's end goes by single instructions, to be known.
  private func runFirst(_ cpu: UnsafeMutablePointer<CPUState>, _ size: UInt64) throws(EngineFailure) -> VMExit {
    tail.removeAll(keepingCapacity: true)
    let stepped = min(size, Self.tailLength)
    if stepped < size || size == 0 {
      let exit = try first.run(&cpu.pointee, budget: size - stepped)
      if exit != .budgetSpent { return exit }
    }
    for _ in 0..<stepped {
      tail.append(CodeAddress(cpu.pointee))
      let exit = try first.run(&cpu.pointee, budget: 1)
      if exit != .budgetSpent { return exit }
    }
    return .budgetSpent
  }

  /// The two have come to different ends: undefined flags, or a bug.
  private func settle(
    _ cpu: UnsafeMutablePointer<CPUState>, _ size: UInt64, _ firstExit: VMExit, _ secondExit: VMExit
  ) throws(EngineFailure) {
    let flags = cpu.pointee.rflags ^ twin.state.pointee.rflags
    if firstExit == secondExit, flags & ~RFLAGS.arithmetic == 0, StateLayout.areEqualButForFlags(cpu, twin.state) {
      let decoder = CodeReader(memory: memory, state: cpu)
      switch UndefinedFlags.verdict(on: flags, behind: tail, decoder) {
      case .undefined(let instruction):
        statistics.undefinedFlags[String(cString: ZydisMnemonicGetString(instruction)), default: 0] += 1
        twin.state.pointee.rflags = cpu.pointee.rflags
        return
      case .unknown:
        statistics.unexplainedFlags += 1
        twin.state.pointee.rflags = cpu.pointee.rflags
        return
      case .defined: break
      }
    }
    throw fail(report(cpu, size, firstExit, secondExit))
  }

  private func fail(_ report: String) -> EngineFailure {
    difference = report
    return EngineFailure(report)
  }

  /// Nil: the same.
  private func compareMemory() -> String? {
    let comparison = MemoryComparison(memory, twin.memory)
    statistics.memoryComparisons += 1
    nextMemoryComparison =
      statistics.instructions
      &+ max(Self.fewestBetweenMemoryComparisons, UInt64(comparison.pages) &* Self.instructionsPerPage)
    return comparison.difference.map { memoryReport($0) }
  }
}
