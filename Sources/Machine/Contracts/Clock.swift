/// The machine's only source of time. Nanoseconds since the machine was first started; stands still while the machine is
/// paused. Called under the machine lock.
public protocol Clock: AnyObject {
  var now: UInt64 { get }
  /// A timer that calls `fire` under the machine lock, at or soon after its deadline, once for each `arm`.
  func makeTimer(_ name: String, fire: @escaping () -> Void) -> any ClockTimer
  /// A timer that is part of a virtual processor: whoever runs processors may wait for it where that one sleeps.
  func makeTimer(_ name: String, processor: Int, fire: @escaping () -> Void) -> any ClockTimer
  /// The guest's time-stamp counter frequency in Hz, constant.
  var timeStampFrequency: UInt64 { get }
  /// The guest's time-stamp counter now, before per-CPU offsets.
  var timeStamp: UInt64 { get }
}

extension Clock {
  /// For clocks that make no difference.
  public func makeTimer(_ name: String, processor: Int, fire: @escaping () -> Void) -> any ClockTimer {
    makeTimer(name, fire: fire)
  }
}

public protocol ClockTimer: AnyObject {
  /// Replaces any earlier deadline. A deadline in the past fires as soon as possible, but not from inside this call.
  func arm(at deadline: UInt64)
  func cancel()
  var deadline: UInt64? { get }
}
