import CHost
import Machine
import Synchronization

/// An engine that runs a script instead of guest code: each step does something to the state and says how to exit.
///
/// It does what the contract asks of every engine: looks at the attention word first, delivers a pending interrupt by
/// noting it, and reports a window that somebody wants. Behind the last step it halts.
final class ScriptedEngine: ExecutionEngine {
  typealias Step = (inout CPUState) throws -> VMExit

  let capabilities = EngineCapabilities(
    countsInstructions: true, interceptsTime: true, runsRealMode: true, runsProtectedMode: true)
  private let script: [Step]
  private(set) var position = 0
  /// Vectors that the guest has taken.
  private(set) var delivered: [UInt8] = []
  private(set) var stateChanges = 0
  /// Who answers accesses in this run.
  private(set) var responder: (any ExitResponder)?
  let invalidated = Mutex<[Range<UInt64>]>([])
  /// Starts over when the state was changed from outside, as a guest does after a reset.
  var restarts = false
  /// Does not react to `CPUAttention.invalidate`, so that a step can see it.
  var leavesInvalidation = false

  init(_ script: [Step]) { self.script = script }

  func run(
    _ state: inout CPUState, budget: UInt64, responder: (any ExitResponder)?
  ) throws(EngineFailure) -> VMExit {
    self.responder = responder
    defer { self.responder = nil }
    guard let attention = state.engine.attention else { throw EngineFailure("no attention word") }
    let ignored: UInt32 = leavesInvalidation ? 4 : 0
    if attentionLoad(attention) & ~ignored != 0 {
      return .attention(attentionTake(UnsafeMutablePointer(mutating: attention)))
    }
    if state.interruptPending != 0 {
      delivered.append(state.interruptVector)
      state.interruptPending = 0
    } else if state.wantsInterruptWindow != 0, state.rflags & 0x200 != 0, state.interruptShadow.isEmpty {
      return .interruptWindow
    }
    state.interruptShadow = []
    guard position < script.count else {
      state.activity = .halted
      return .halt
    }
    position += 1
    do {
      return try script[position - 1](&state)
    } catch {
      throw EngineFailure("\(error)")
    }
  }

  func invalidate(_ range: Range<UInt64>) { invalidated.withLock { $0.append(range) } }

  func stateChanged(_ state: inout CPUState) {
    stateChanges += 1
    if restarts { position = 0 }
  }
}
