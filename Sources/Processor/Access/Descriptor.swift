import CHost
import X86

/// A segment or gate descriptor as it stands in a descriptor table (SDM vol. 3A, 3.4.5, 3.5 and 6.11).
struct Descriptor {
  /// The lower 8 bytes.
  let raw: UInt64
  /// Linear address of `raw`, for updates of the accessed and busy bits.
  let address: UInt64

  /// Bits 40 to 55 without the limit's, as `SegmentState.attributes` has them.
  @inline(__always) var attributes: UInt16 { UInt16(truncatingIfNeeded: raw &>> 40) & 0xf0ff }

  /// Base of a code, data or 8-byte system descriptor.
  @inline(__always) var base: UInt64 { raw &>> 16 & 0xff_ffff | raw &>> 32 & 0xff00_0000 }

  /// Highest valid offset in bytes.
  @inline(__always) var limit: UInt32 {
    let limit = UInt32(truncatingIfNeeded: raw & 0xffff | raw &>> 32 & 0xf_0000)
    return attributes & SegmentAttributes.granularity != 0 ? limit << 12 | 0xfff : limit
  }

  /// The four type bits and, as bit 4, S.
  @inline(__always) var type: UInt8 { UInt8(truncatingIfNeeded: raw &>> 40) & 0x1f }

  @inline(__always) var dpl: UInt8 { UInt8(truncatingIfNeeded: raw &>> 45) & 3 }

  @inline(__always) var isPresent: Bool { attributes & SegmentAttributes.present != 0 }

  @inline(__always) var isCode: Bool { type & 0x18 == 0x18 }

  @inline(__always) var isConforming: Bool { type & 0x1c == 0x1c }

  @inline(__always) var isWritableData: Bool { type & 0x1a == 0x12 }

  /// Data, or code that may be read.
  @inline(__always) var isReadable: Bool { type & 0x18 == 0x10 || type & 0x1a == 0x1a }

  @inline(__always) var isLong: Bool { attributes & SegmentAttributes.long != 0 }

  @inline(__always) var isBig: Bool { attributes & SegmentAttributes.big != 0 }

  /// The hidden part of a segment register, accessed bit set.
  @inline(__always) func segment(selector: UInt16) -> SegmentState {
    SegmentState(
      base: base, limit: limit, selector: selector, attributes: attributes | SegmentAttributes.accessed)
  }

  /// `raw` with the accessed bit set.
  @inline(__always) var rawWhenAccessed: UInt64 { raw | UInt64(SegmentAttributes.accessed) << 40 }

  // MARK: Gates

  /// Selector in a call, interrupt, trap or task gate.
  @inline(__always) var gateSelector: UInt16 { UInt16(truncatingIfNeeded: raw &>> 16) }

  /// Offset in a 32-bit gate, or the lower half of it in a 64-bit one.
  @inline(__always) var gateOffset: UInt64 { raw & 0xffff | raw &>> 32 & 0xffff_0000 }
}

/// System descriptor types with S clear (SDM vol. 3A, table 3-2). Bit 3 makes a TSS or a gate a 32-bit one (64-bit in
/// IA-32e mode); bit 1 of a TSS is its busy bit.
enum SystemType {
  static let availableTSS16: UInt8 = 1
  static let ldt: UInt8 = 2
  static let busyTSS16: UInt8 = 3
  static let callGate16: UInt8 = 4
  static let taskGate: UInt8 = 5
  static let interruptGate16: UInt8 = 6
  static let trapGate16: UInt8 = 7
  static let availableTSS: UInt8 = 9
  static let busyTSS: UInt8 = 11
  static let callGate: UInt8 = 12
  static let interruptGate: UInt8 = 14
  static let trapGate: UInt8 = 15
  static let busyBit: UInt8 = 2
}

extension GuestFault {
  static func segmentNotPresent(_ errorCode: UInt32) -> GuestFault {
    .exception(.segmentNotPresent, errorCode: errorCode)
  }

  static func invalidTSS(_ errorCode: UInt32) -> GuestFault { .exception(.invalidTSS, errorCode: errorCode) }

  /// A debug exception; its error code, which is never pushed, carries the bits to set in DR6.
  static func debug(_ bits: UInt32) -> GuestFault { .exception(.debug, errorCode: bits) }
}

/// The selector part of an error code: RPL cleared, EXT in bit 0 (SDM vol. 3A, 6.13).
@inline(__always) func selectorError(_ selector: UInt16, _ external: UInt32 = 0) -> UInt32 {
  UInt32(selector & 0xfffc) | external
}

extension RFLAGS {
  /// Every flag that exists.
  static let loadable: UInt64 = 0x3f_7fd7
}
