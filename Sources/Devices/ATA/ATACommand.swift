/// Command codes (ATA8-ACS, table B.2; the obsolete ones ATA-5, table C.1).
enum ATACommand {
  static let deviceReset: UInt8 = 0x08
  static let dataSetManagement: UInt8 = 0x06
  static let recalibrate: ClosedRange<UInt8> = 0x10...0x1f
  static let readSectors: UInt8 = 0x20
  static let readSectorsNoRetry: UInt8 = 0x21
  static let readSectorsExtended: UInt8 = 0x24
  static let readDMAExtended: UInt8 = 0x25
  static let readNativeMaximumExtended: UInt8 = 0x27
  static let readMultipleExtended: UInt8 = 0x29
  static let readLogExtended: UInt8 = 0x2f
  static let writeSectors: UInt8 = 0x30
  static let writeSectorsNoRetry: UInt8 = 0x31
  static let writeSectorsExtended: UInt8 = 0x34
  static let writeDMAExtended: UInt8 = 0x35
  static let writeMultipleExtended: UInt8 = 0x39
  static let writeVerify: UInt8 = 0x3c
  static let writeDMAForcedExtended: UInt8 = 0x3d
  static let readVerify: UInt8 = 0x40
  static let readVerifyNoRetry: UInt8 = 0x41
  static let readVerifyExtended: UInt8 = 0x42
  static let readQueued: UInt8 = 0x60
  static let writeQueued: UInt8 = 0x61
  static let seek: ClosedRange<UInt8> = 0x70...0x7f
  static let executeDiagnostic: UInt8 = 0x90
  static let initializeParameters: UInt8 = 0x91
  static let packet: UInt8 = 0xa0
  static let identifyPacketDevice: UInt8 = 0xa1
  static let smart: UInt8 = 0xb0
  static let readMultiple: UInt8 = 0xc4
  static let writeMultiple: UInt8 = 0xc5
  static let setMultiple: UInt8 = 0xc6
  static let readDMA: UInt8 = 0xc8
  static let readDMANoRetry: UInt8 = 0xc9
  static let writeDMA: UInt8 = 0xca
  static let writeDMANoRetry: UInt8 = 0xcb
  static let writeMultipleForcedExtended: UInt8 = 0xce
  static let standbyImmediate: UInt8 = 0xe0
  static let idleImmediate: UInt8 = 0xe1
  static let standby: UInt8 = 0xe2
  static let idle: UInt8 = 0xe3
  static let readBuffer: UInt8 = 0xe4
  static let checkPowerMode: UInt8 = 0xe5
  static let sleep: UInt8 = 0xe6
  static let flushCache: UInt8 = 0xe7
  static let writeBuffer: UInt8 = 0xe8
  static let flushCacheExtended: UInt8 = 0xea
  static let identifyDevice: UInt8 = 0xec
  static let setFeatures: UInt8 = 0xef
  static let readNativeMaximum: UInt8 = 0xf8

  /// The codes that the power commands had first.
  static let oldPowerCommands: ClosedRange<UInt8> = 0x94...0x99

  /// A power command by its present code.
  static func modernPowerCommand(_ command: UInt8) -> UInt8 {
    switch command {
    case 0x94...0x97: command &+ (standbyImmediate - 0x94)
    case 0x98: checkPowerMode
    case 0x99: sleep
    default: command
    }
  }
}
