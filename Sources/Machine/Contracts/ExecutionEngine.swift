import CHost
import X86

/// What an engine can do, as data: ask, do not try and fail.
public struct EngineCapabilities: Sendable, Equatable {
  /// `run(budget:)` stops after exactly that many instructions (otherwise: at some moment after it was asked to stop).
  public var countsInstructions: Bool
  /// Honours `CPUIntercepts`.
  public var interceptsTime: Bool
  /// Guest code modes it can run.
  public var runsRealMode: Bool
  public var runsProtectedMode: Bool

  public init(countsInstructions: Bool, interceptsTime: Bool, runsRealMode: Bool, runsProtectedMode: Bool) {
    self.countsInstructions = countsInstructions
    self.interceptsTime = interceptsTime
    self.runsRealMode = runsRealMode
    self.runsProtectedMode = runsProtectedMode
  }
}

/// The engine itself could not go on: a host problem, never a guest's doing.
public struct EngineFailure: Error, CustomStringConvertible, Sendable {
  public var description: String
  public init(_ description: String) { self.description = description }
}

/// A technique that runs guest code on one virtual processor.
///
/// An engine object belongs to one virtual CPU and is used by that CPU's thread alone, except for `invalidate` and the
/// attention word. All guest-visible state is in `CPUState`, so that another engine can go on from any exit.
public protocol ExecutionEngine: AnyObject {
  var capabilities: EngineCapabilities { get }

  /// Runs guest code until an exit, for at most `budget` instructions, where one that raises an exception instead of
  /// completing counts too. On return `state` is whole: flags, RIP, x87 and vector state are in their architectural
  /// places. Pending events in `state` (`interruptPending`, `nmiPending`, `pendingDebug`) are delivered before the first
  /// instruction.
  ///
  /// An engine may have accesses to devices (reads and writes of ports, memory and model-specific registers, time stamps,
  /// random numbers) answered by `responder` instead of returning.
  func run(
    _ state: inout CPUState, budget: UInt64, responder: (any ExitResponder)?
  ) throws(EngineFailure) -> VMExit

  /// Guest-physical memory in `range` was changed from outside: drop what was decoded or translated from it. Any
  /// thread; takes effect before the engine's next block.
  func invalidate(_ range: Range<UInt64>)

  /// State was changed from outside `run` (reset, restore, debugger): drop everything derived from it. The CPU's thread.
  func stateChanged(_ state: inout CPUState)
}

extension ExecutionEngine {
  /// As `run(_:budget:responder:)`; every access to a device is an exit.
  public func run(_ state: inout CPUState, budget: UInt64) throws(EngineFailure) -> VMExit {
    try run(&state, budget: budget, responder: nil)
  }
}

/// Answers accesses to devices while the engine runs: leaving it for each, and running the instruction again, costs
/// several times what most devices take.
public protocol ExitResponder: AnyObject {
  /// Does what `exit` asks for; what a read gets is in `CPUState.completion` then. On the processor's thread.
  ///
  /// Of the state, `rip`, the arithmetic flags, `instructionCount` and x87 and vector state need not be those of the
  /// moment.
  func respond(to exit: VMExit)
}
