import Host
import Synchronization

/// Where those who watch a machine subscribe.
///
/// A publisher first asks `wants` with the event's kind and makes the event only then, so without a subscriber an event
/// costs one test of a mask. Subscribers are called on the thread on which the event happens, one after another, some
/// of them under the machine lock: they must be quick and must not ask the machine for anything that takes a lock.
public final class EventStream: Sendable {
  private let wanted = Atomic<UInt32>(0)
  private let subscribers = Mutex<[Subscriber]>([])

  struct Subscriber: Sendable {
    let identity: ObjectIdentifier
    let mask: EventMask
    let handler: @Sendable (MachineEvent) -> Void
  }

  public init() {}

  /// Calls `handler` for each event of the kinds in `mask` for as long as the trap lives.
  public func subscribe(to mask: EventMask, _ handler: @escaping @Sendable (MachineEvent) -> Void) -> Trap {
    let trap = Trap(stream: self)
    let subscriber = Subscriber(identity: ObjectIdentifier(trap), mask: mask, handler: handler)
    change { $0.append(subscriber) }
    return trap
  }

  /// Whether anybody wants events of one of these kinds.
  public func wants(_ mask: EventMask) -> Bool { wanted.load(ordering: .relaxed) & mask.rawValue != 0 }

  /// Tells all who want it.
  public func publish(_ event: MachineEvent) {
    // Called outside the mutex: a subscriber may subscribe or unsubscribe.
    for subscriber in subscribers.withLock({ $0 }) where !subscriber.mask.isDisjoint(with: event.mask) {
      subscriber.handler(event)
    }
  }

  func remove(_ trap: ObjectIdentifier) { change { $0.removeAll { $0.identity == trap } } }

  private func change(_ body: (inout [Subscriber]) -> Void) {
    subscribers.withLock {
      body(&$0)
      wanted.store($0.reduce(0) { $0 | $1.mask.rawValue }, ordering: .relaxed)
    }
  }
}

/// A subscription to a machine's events. Releasing it ends the subscription; a handler that another thread is running at
/// that moment still returns.
public final class Trap: Sendable {
  private let stream: EventStream

  fileprivate init(stream: EventStream) { self.stream = stream }

  deinit { stream.remove(ObjectIdentifier(self)) }
}
