import Machine

/// What one kind of virtio device does, whatever the transport in front of it. All calls under the machine lock.
///
/// It gets a `VirtioCore` to work with: chains come from there and go back there.
public protocol VirtioModel: AnyObject {
  /// What a snapshot must hold beside the queues.
  associatedtype State: Codable

  var kind: VirtioKind { get }
  /// Feature bits of this kind that are offered.
  var features: UInt64 { get }
  /// The most descriptors of each queue: powers of two.
  var queueSizes: [UInt16] { get }
  /// The configuration structure as it is now.
  var configuration: [UInt8] { get }

  /// Called once, before `reset`.
  func attach(to core: VirtioCore, platform: DevicePlatform)
  func reset()
  /// The driver has written a byte of the configuration structure. Drivers write fields lowest byte first.
  func writeConfiguration(_ offset: Int, _ value: UInt8)
  /// The driver has put something into a queue.
  func notify(_ queue: Int)
  func save() -> State
  func restore(_ state: State)
}
