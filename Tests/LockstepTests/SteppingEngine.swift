import CHost
import Machine
import Memory
import X86

/// An engine of a few lines: each instruction, whatever it is, adds one to RAX, stores RAX at 0x2000 and goes on to the
/// next, `length` bytes on and round and round in sixteen bytes. Every hundredth reads a port into RBX first.
///
/// One that errs does so behind its `errorAt`th instruction, once.
final class SteppingEngine: ExecutionEngine {
  typealias Mistake = (inout CPUState, GuestMemory) -> VMExit?

  static let code: UInt64 = 0x1000
  static let data = GuestPhysicalAddress(0x2000)

  let capabilities: EngineCapabilities
  private(set) var stateChanges = 0
  private(set) var invalidated: [Range<UInt64>] = []
  private let memory: GuestMemory
  private let length: UInt64
  private let errorAt: UInt64
  private let mistake: Mistake?

  init(
    _ context: EngineContext, length: UInt64 = 1, countsInstructions: Bool = true, errorAt: UInt64 = 0,
    mistake: Mistake? = nil
  ) {
    memory = context.memory
    self.length = length
    self.errorAt = errorAt
    self.mistake = mistake
    capabilities = EngineCapabilities(
      countsInstructions: countsInstructions, interceptsTime: true, runsRealMode: true, runsProtectedMode: true)
  }

  func run(
    _ state: inout CPUState, budget: UInt64, responder: (any ExitResponder)?
  ) throws(EngineFailure) -> VMExit {
    for _ in 0..<budget {
      if state.instructionCount % 100 == 99 {
        guard state.completion.isValid != 0 else { return .portRead(port: 0x10, size: 1) }
        state.completion.isValid = 0
        state.gpr.3 = state.completion.data
      }
      state.instructionCount += 1
      state.gpr.0 += 1
      state.rip = Self.code + (state.rip &- Self.code &+ length) % 16
      _ = memory.store(state.gpr.0, at: Self.data)
      if state.instructionCount == errorAt, let exit = mistake?(&state, memory) { return exit }
    }
    return .budgetSpent
  }

  func invalidate(_ range: Range<UInt64>) { invalidated.append(range) }
  func stateChanged(_ state: inout CPUState) { stateChanges += 1 }
}
