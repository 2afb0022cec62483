/// Where things are in the memory of every guest, by physical address; linear ones are the same except where a page table
/// says otherwise.
enum Layout {
  static let memorySize: UInt64 = 4 << 20
  static let gdt: UInt64 = 0x1000
  static let gdtCount = 64
  static let ldt: UInt64 = 0x1800
  static let idt: UInt64 = 0x2000
  static let task: UInt64 = 0x3000
  static let otherTask: UInt64 = 0x3800
  /// One handler of 16 bytes for each vector.
  static let handlers: UInt64 = 0x4000
  static let code = 0x8000
  static let codeSize = 0x6000
  static let data = 0x1_0000
  static let dataSize = 0x1_0000
  static func stack(_ ring: Int) -> UInt64 { 0x2_1000 + UInt64(ring) * 0x1000 }
  static func interruptStack(_ number: Int) -> UInt64 { 0x2_8000 + UInt64(number) * 0x1000 }
  /// Page tables follow here; only guests that are to see them have them mapped.
  static let tables: UInt64 = 0x30_0000
  /// An address with nothing behind it.
  static let device: UInt64 = 0xfed0_0000

  /// Descriptors of a ring.
  enum Kind: Int {
    case code32, data32, code64, data64, code16, data16
  }

  static func entry(_ kind: Kind, ring: Int) -> Int { 4 + 6 * ring + kind.rawValue }
  static let conforming32 = 28
  static let conforming64 = 29
  static let taskEntry = 30
  static let otherTaskEntry = 32
  static let localTableEntry = 34
  /// From here on: gates and random descriptors.
  static let oddEntries = 36..<gdtCount

  static func selector(_ entry: Int, ring: Int = 0) -> UInt16 { UInt16(entry * 8 + ring) }
}
