/// What a guest reads of a controller and its disk (NVMe 1.4, 5.15).
struct NVMeIdentity {
  static let vendor: UInt16 = 0x1234
  static let device: UInt16 = 0x4e56
  /// Version 1.4.
  static let version: UInt32 = 0x0001_0400
  private static let model = "Ringside NVMe disk"
  private static let firmware = "1.0"
  private static let pageSize = 4096
  /// The largest transfer: 2^7 pages.
  static let transferExponent: UInt8 = 7
  /// Requests for asynchronous events that may be outstanding.
  static let eventRequestLimit = 4

  let serial: String
  let blockCount: UInt64

  /// A number that goes with the serial number (FNV-1a).
  private var uniqueIdentifier: UInt64 {
    serial.utf8.reduce(0xcbf2_9ce4_8422_2325) { ($0 ^ UInt64($1)) &* 0x100_0000_01b3 }
  }

  /// Text of a fixed length, filled up with blanks.
  private static func put(_ text: String, _ bytes: inout [UInt8], at offset: Int, count: Int) {
    for (index, byte) in (Array(text.utf8.prefix(count)) + [UInt8](repeating: 0x20, count: count)).prefix(count)
      .enumerated()
    {
      bytes[offset + index] = byte
    }
  }

  /// Figure 247.
  var controller: [UInt8] {
    var bytes = [UInt8](repeating: 0, count: Self.pageSize)
    bytes.put(Self.vendor, at: 0)
    bytes.put(Self.vendor, at: 2)
    Self.put(serial, &bytes, at: 4, count: 20)
    Self.put(Self.model, &bytes, at: 24, count: 40)
    Self.put(Self.firmware, &bytes, at: 64, count: 8)
    bytes[77] = Self.transferExponent
    bytes.put(Self.version, at: 80)
    // An I/O controller.
    bytes[111] = 1
    // Limits: aborts and event requests, less one; one firmware slot, read-only.
    bytes[258] = 3
    bytes[259] = UInt8(Self.eventRequestLimit - 1)
    bytes[260] = 0x03
    // Warning and critical temperature, in kelvins.
    bytes.put(UInt16(343), at: 266)
    bytes.put(UInt16(373), at: 268)
    // Entries of 64 and 16 bytes; one namespace.
    bytes[512] = 0x66
    bytes[513] = 0x44
    bytes.put(UInt32(1), at: 516)
    // Dataset management and write zeroes; a volatile write cache.
    bytes.put(UInt16(0x000c), at: 520)
    bytes[525] = 1
    let name = "nqn.2026-01.org.ringside:\(serial)"
    for (index, byte) in name.utf8.prefix(222).enumerated() { bytes[768 + index] = byte }
    // One power state: 25 W.
    bytes.put(UInt16(2500), at: 2048)
    return bytes
  }

  /// Figure 245. One format: blocks of 512 bytes without metadata.
  var namespace: [UInt8] {
    var bytes = [UInt8](repeating: 0, count: Self.pageSize)
    for offset in [0, 8, 16] { bytes.put(blockCount, at: offset) }
    bytes.put(uniqueIdentifier.byteSwapped, at: 120)
    bytes[130] = 9
    return bytes
  }

  /// The list of namespaces with a number above `number`.
  func namespaces(above number: UInt32) -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: Self.pageSize)
    if number < 1 { bytes[0] = 1 }
    return bytes
  }

  /// The namespace's names: an EUI-64 (figure 249).
  var descriptors: [UInt8] {
    var bytes = [UInt8](repeating: 0, count: Self.pageSize)
    bytes[0] = 1
    bytes[1] = 8
    bytes.put(uniqueIdentifier.byteSwapped, at: 4)
    return bytes
  }

  /// A log page (5.14.1); nil: there is none of this number.
  func log(_ number: UInt8) -> [UInt8]? {
    var bytes = [UInt8](repeating: 0, count: Self.pageSize)
    switch number {
    // Errors: none.
    case 1: break
    // Health: 27 degrees Celsius, all of the spare left.
    case 2:
      bytes.put(UInt16(300), at: 1)
      bytes[3] = 100
      bytes[4] = 10
    // Firmware: slot 1 is active.
    case 3:
      bytes[0] = 1
      Self.put(Self.firmware, &bytes, at: 8, count: 8)
    default: return nil
    }
    return bytes
  }
}
