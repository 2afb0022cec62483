import CHost
import Glibc
import Host
import Logging
import Synchronization
import X86

// A virtual processor is one host thread that goes round in a loop: see whether anybody wants something (the attention
// word), let the engine run guest code until it exits, handle the exit.
//
// The attention word is how other threads reach this one. They set bits in it and, if the processor sleeps in a halt,
// wake it; the engine polls the word once a block and exits when it is not zero. Interrupts take the same way: whoever
// changes what is pending raises `interrupt`, and the processor then asks the interrupt controller itself, under the
// machine lock. So neither the loop nor an engine ever takes the lock to find out that there is nothing to do.
//
// The machine lock is taken once for each exit that reaches a device, never around guest code. Lock order: see
// `VirtualMachine`.

/// One virtual processor: its state, its engine, and the thread that runs it.
public final class VirtualCPU: @unchecked Sendable {
  /// From 0; processor 0 is the bootstrap processor.
  public let index: Int
  /// The architectural state, 64-byte aligned, at this address for life. Its own thread's, and anybody's while the
  /// machine is paused.
  public let state: UnsafeMutablePointer<CPUState>
  /// What this processor's exits cost.
  public let statistics = ExitStatistics()
  /// Runs guest code.
  public let engine: any ExecutionEngine

  /// Not counted, since it is used several times for each exit: the machine owns its processors, and a processor's thread
  /// holds the machine.
  unowned(unsafe) let machine: VirtualMachine
  /// Guarded by the machine lock.
  var signals = ProcessorSignals()
  /// The state was changed from outside while the processor was parked, and the engine is to be told.
  var stateHasChanged = true
  var unknownMSRs = RateLimiter(perSecond: 10)

  /// `invalidate`, which is the engine's, was taken out of the attention word with the other bits.
  private var owesInvalidation = false
  private let attention: UnsafeMutablePointer<UInt32>
  private let isSleeping = Atomic<Bool>(false)

  /// The most instructions between two looks at the rest of the world; the attention word cuts it short.
  private static let budget = UInt64(Int64.max)

  init(index: Int, machine: VirtualMachine, makeEngine: EngineFactory) throws {
    self.index = index
    self.machine = machine
    let size = MemoryLayout<CPUState>.size
    let block = UnsafeMutableRawPointer.allocate(byteCount: size, alignment: 64)
    memset(block, 0, size)
    state = block.bindMemory(to: CPUState.self, capacity: 1)
    // A cache line of its own: other threads write it while the engine's lines are hot.
    let word = UnsafeMutableRawPointer.allocate(byteCount: 64, alignment: 64)
    memset(word, 0, 64)
    attention = word.bindMemory(to: UInt32.self, capacity: 1)
    state.pointee.engine.attention = UnsafePointer(attention)
    state.pointee.engine.numberAddress = ~0
    state.pointee.powerUp(isBootstrap: index == 0)
    do {
      engine = try makeEngine(
        EngineContext(
          cpu: index, state: state, memory: machine.memory, timeStampFrequency: machine.clock.timeStampFrequency,
          log: machine.log))
    } catch {
      block.deallocate()
      word.deallocate()
      throw error
    }
  }

  deinit {
    UnsafeMutableRawPointer(state).deallocate()
    UnsafeMutableRawPointer(attention).deallocate()
  }

  /// Asks the processor to look up. Any thread, no lock needed.
  func raise(_ bits: CPUAttention) {
    attentionRaise(attention, bits)
    if isSleeping.load(ordering: .sequentiallyConsistent) { hostFutexWake(attention) }
  }

  /// The processor's life; returns when the machine has ended.
  func run() {
    hostWakeThreadOnTime()
    guard attend(to: [.stop, .interrupt]) else { return }
    while true {
      guard state.pointee.activity == .running else {
        if attentionLoad(attention) == 0 {
          let start = hostTimeStamp()
          sleep()
          statistics.addTime(.halt, ticks: hostTimeStamp() &- start)
        }
        guard attend(to: takeAttention()) else { return }
        continue
      }
      if owesInvalidation {
        owesInvalidation = false
        raise(.invalidate)
      }
      do throws(EngineFailure) {
        // Who watches exits is to find the state whole.
        let responder = machine.events.wants(.accesses) ? nil : self
        let exit = try engine.run(&state.pointee, budget: Self.budget, responder: responder)
        if case .attention(let bits) = exit {
          let start = hostTimeStamp()
          if machine.events.wants(.exit) { machine.events.publish(.exit(cpu: index, exit)) }
          guard attend(to: CPUAttention(rawValue: bits)) else { return }
          statistics.record(exit, ticks: hostTimeStamp() &- start)
        } else {
          respond(to: exit)
        }
        // What an access asked of the whole machine comes before the next instruction.
        if attentionLoad(attention) & CPUAttention.stop.rawValue != 0 {
          guard attend(to: takeAttention()) else { return }
        }
      } catch {
        machine.end(.failed("the engine cannot go on: \(error.description)"))
      }
    }
  }

  /// Does what others asked for. False when the machine has ended.
  private func attend(to bits: CPUAttention) -> Bool {
    if bits.contains(.stop) {
      guard machine.park(self) else { return false }
      if let controller = machine.interruptController { machine.lock.withLock { takeNumber(from: controller) } }
      if stateHasChanged {
        stateHasChanged = false
        engine.stateChanged(&state.pointee)
      }
    }
    if !bits.isDisjoint(with: [.stop, .interrupt]) { machine.lock.withLock { takeEvents() } }
    return true
  }

  /// Waits, as a halted processor or one that waits for a SIPI, until somebody wants something or one of its timers has
  /// run out.
  func sleep() {
    machine.onIdle?()
    let deadline = machine.lock.withLock { machine.clock.entrust(to: index) }
    sleepUntilAttention(or: deadline)
    if deadline != .max { machine.lock.withLock { machine.clock.takeBack(from: index) } }
  }

  /// Waits until the attention word is raised, at most until `deadline` (`MonotonicTime`).
  func sleepUntilAttention(or deadline: UInt64 = .max) {
    isSleeping.store(true, ordering: .sequentiallyConsistent)
    while attentionLoad(attention) == 0, hostFutexWait(attention, 0, deadline) {}
    isSleeping.store(false, ordering: .relaxed)
  }

  /// The raised bits, which are then clear. On the processor's thread.
  func takeAttention() -> CPUAttention {
    let bits = CPUAttention(rawValue: attentionTake(attention))
    if bits.contains(.invalidate) { owesInvalidation = true }
    return bits
  }
}

/// What interrupt controllers have sent to a processor and it has not taken yet.
struct ProcessorSignals: Codable, Equatable, Sendable {
  var initialize = false
  var startUpVector: UInt8?
  var nonMaskableInterrupts: UInt8 = 0
  /// A20M#, if it has changed: whether the line passes.
  var addressLine20: Bool?
  /// IGNNE# is asserted.
  var ignoresNumericErrors = false
}
