/// Why a packet command failed (SPC-4, 4.5): a key, and a code with its qualifier.
struct SCSISense: Error, Codable, Equatable, Sendable {
  var key: UInt8
  var code: UInt8 = 0
  var qualifier: UInt8 = 0

  static let none = SCSISense(key: 0)
  static let mediumNotPresent = SCSISense(key: 2, code: 0x3a)
  static let trayIsOpen = SCSISense(key: 2, code: 0x3a, qualifier: 2)
  static let unrecoveredReadError = SCSISense(key: 3, code: 0x11)
  static let invalidCommand = SCSISense(key: 5, code: 0x20)
  static let addressOutOfRange = SCSISense(key: 5, code: 0x21)
  static let invalidField = SCSISense(key: 5, code: 0x24)
  static let incompatibleMedium = SCSISense(key: 5, code: 0x30, qualifier: 2)
  static let savingNotSupported = SCSISense(key: 5, code: 0x39)
  static let removalPrevented = SCSISense(key: 5, code: 0x53, qualifier: 2)
  static let mediumMayHaveChanged = SCSISense(key: 6, code: 0x28)
  static let wasReset = SCSISense(key: 6, code: 0x29)

  /// In fixed format (SPC-4, 4.5.3).
  var fixedFormat: [UInt8] {
    var bytes = [UInt8](repeating: 0, count: 18)
    bytes[0] = 0x70
    bytes[2] = key
    bytes[7] = 10
    bytes[12] = code
    bytes[13] = qualifier
    return bytes
  }
}
