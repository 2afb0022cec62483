/// A drive's status register (ATA8-ACS, 6.2).
struct ATAStatus: OptionSet, Codable, Equatable, Sendable {
  let rawValue: UInt8
  /// ERR, or CHK for packet commands: the error register says more.
  static let error = ATAStatus(rawValue: 1 << 0)
  /// DRQ: data moves now.
  static let dataRequest = ATAStatus(rawValue: 1 << 3)
  /// DSC, which old hosts wait for.
  static let seekComplete = ATAStatus(rawValue: 1 << 4)
  /// DF: the drive itself has failed.
  static let deviceFault = ATAStatus(rawValue: 1 << 5)
  /// DRDY
  static let ready = ATAStatus(rawValue: 1 << 6)
  /// BSY: nothing else in the registers means anything.
  static let busy = ATAStatus(rawValue: 1 << 7)

  static let idle: ATAStatus = [.ready, .seekComplete]
}

/// A drive's error register (ATA8-ACS, 6.3).
struct ATAError: OptionSet, Codable, Equatable, Sendable {
  let rawValue: UInt8
  /// ABRT: the drive does not do that.
  static let aborted = ATAError(rawValue: 1 << 2)
  /// IDNF: there is no such sector.
  static let notFound = ATAError(rawValue: 1 << 4)
  /// UNC: the sector cannot be read.
  static let uncorrectable = ATAError(rawValue: 1 << 6)
  /// After a reset: device 0 is in order, and device 1 is, or is not there.
  static let diagnosticsPassed = ATAError(rawValue: 1)
}
