import X86

/// Where devices answer: ports and guest-physical ranges that are not RAM. Built before the machine runs; accesses come
/// under the machine lock.
public protocol BusMapping: AnyObject {
  /// Routes ports `ports` to `device`'s region `region`; the first port is offset `offset`.
  func map(_ device: any Device, region: Int, ports: ClosedRange<UInt16>, offset: UInt64) throws(BusConflict)
  /// Routes a guest-physical range to `device`'s region `region`.
  func map(_ device: any Device, region: Int, memory: Range<UInt64>) throws(BusConflict)
  /// Puts a region that the guest can move where it wants it now, or nowhere. What is there already, by `map` or earlier,
  /// keeps answering. Under the machine lock.
  func place(_ device: any Device, region: Int, at placement: BusPlacement?)
}

/// A place for a device's region; its first address is offset 0.
public enum BusPlacement: Equatable, Sendable {
  case ports(ClosedRange<UInt16>)
  case memory(Range<UInt64>)
}

/// Two devices claim one address.
public struct BusConflict: Error, CustomStringConvertible, Sendable {
  public var description: String
  public init(_ description: String) { self.description = description }
}
