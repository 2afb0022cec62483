import CHost
import Glibc
import Logging
import Memory
import X86

@testable import Lockstep
@testable import Machine

/// A processor in real mode, and two stepping engines in lockstep on it.
final class LockstepBench {
  let memory: GuestMemory
  let state: UnsafeMutablePointer<CPUState>
  private let attention: UnsafeMutablePointer<UInt32>
  private(set) var engines: [SteppingEngine] = []
  private(set) var lockstep: LockstepEngine!

  /// `code` is one instruction, which is repeated.
  init(
    code: [UInt8] = [0x40], window: Int = 16, errorAt: UInt64 = 0, countsInstructions: Bool = true,
    mistake: SteppingEngine.Mistake? = nil
  ) throws {
    memory = try GuestMemory(size: 1 << 20)
    let block = UnsafeMutableRawPointer.allocate(byteCount: MemoryLayout<CPUState>.size, alignment: 64)
    memset(block, 0, MemoryLayout<CPUState>.size)
    state = block.bindMemory(to: CPUState.self, capacity: 1)
    attention = .allocate(capacity: 1)
    attention.initialize(to: 0)
    state.pointee.powerUp(isBootstrap: true)
    state.pointee.engine.attention = UnsafePointer(attention)
    state.pointee.segments.1.base = 0
    state.pointee.segments.1.selector = 0
    state.pointee.rip = SteppingEngine.code
    // Before there is anybody who mirrors it.
    for offset in 0..<16 {
      _ = memory.store(code[offset % code.count], at: GuestPhysicalAddress(SteppingEngine.code + UInt64(offset)))
    }
    let context = EngineContext(
      cpu: 0, state: state, memory: memory, timeStampFrequency: 1_000_000_000, log: Logger(label: "test"))
    func side(_ name: String, _ error: SteppingEngine.Mistake?) -> LockstepEngine.Side {
      LockstepEngine.Side(name: name) { [self] context in
        let engine = SteppingEngine(
          context, length: UInt64(code.count), countsInstructions: error == nil || countsInstructions,
          errorAt: errorAt, mistake: error)
        engines.append(engine)
        return engine
      }
    }
    lockstep = try LockstepEngine(context, side("right", nil), side("wrong", mistake), window: window)
  }

  deinit {
    UnsafeMutableRawPointer(state).deallocate()
    attention.deallocate()
  }

  /// Runs to the budget's end, answering port reads; the last exit.
  @discardableResult func run(_ budget: UInt64 = 1000) throws -> VMExit {
    let end = state.pointee.instructionCount + budget
    while state.pointee.instructionCount < end {
      let exit = try lockstep.run(&state.pointee, budget: end - state.pointee.instructionCount)
      guard case .portRead = exit else { return exit }
      state.pointee.completion = ExitCompletion(
        data: state.pointee.instructionCount, isValid: 1, isRefused: 0, reserved: (0, 0, 0, 0, 0, 0))
    }
    return .budgetSpent
  }

  /// The report of the difference, which must come.
  func report(_ budget: UInt64 = 1000) -> String {
    do {
      try run(budget)
      return lockstep.finish() ?? "no difference"
    } catch {
      return "\(error)"
    }
  }

  func raise(_ bits: CPUAttention) { attentionRaise(attention, bits) }
}
