/// An address on the guest's physical bus, in bytes.
public struct GuestPhysicalAddress: RawRepresentable, Hashable, Comparable, Codable, Sendable {
  public var rawValue: UInt64

  @inlinable public init(rawValue: UInt64) { self.rawValue = rawValue }
  @inlinable public init(_ value: UInt64) { rawValue = value }

  /// Number of the 4 KiB page that holds this address.
  @inlinable public var page: UInt64 { rawValue &>> 12 }

  @inlinable public static func < (left: Self, right: Self) -> Bool { left.rawValue < right.rawValue }
  /// Addition modulo 2^64.
  @inlinable public static func &+ (left: Self, right: UInt64) -> Self { Self(left.rawValue &+ right) }
}

extension GuestPhysicalAddress: CustomStringConvertible {
  public var description: String { "0x" + String(rawValue, radix: 16) }
}

/// A linear address of the guest: after segmentation, before paging.
public struct GuestLinearAddress: RawRepresentable, Hashable, Comparable, Codable, Sendable {
  public var rawValue: UInt64

  @inlinable public init(rawValue: UInt64) { self.rawValue = rawValue }
  @inlinable public init(_ value: UInt64) { rawValue = value }

  @inlinable public static func < (left: Self, right: Self) -> Bool { left.rawValue < right.rawValue }
  /// Addition modulo 2^64.
  @inlinable public static func &+ (left: Self, right: UInt64) -> Self { Self(left.rawValue &+ right) }
}

extension GuestLinearAddress: CustomStringConvertible {
  public var description: String { "0x" + String(rawValue, radix: 16) }
}
