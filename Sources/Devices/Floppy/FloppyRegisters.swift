extension FloppyController {
  /// Offsets in region 0.
  enum Register {
    static let digitalOutput: UInt64 = 2
    static let tapeDrive: UInt64 = 3
    /// Main status, read; data rate select, written.
    static let mainStatus: UInt64 = 4
    static let data: UInt64 = 5
  }

  /// Digital output register.
  enum Output {
    static let drive: UInt8 = 3
    /// Low: the chip is held in reset.
    static let isRunning: UInt8 = 1 << 2
    /// Interrupt and DMA request leave the chip.
    static let gate: UInt8 = 1 << 3
  }

  /// Main status register.
  enum MainStatus {
    static let isReady: UInt8 = 1 << 7
    /// The data register is to be read.
    static let isToHost: UInt8 = 1 << 6
    /// A command moves its data through the data register.
    static let isWithoutDMA: UInt8 = 1 << 5
    static let isBusy: UInt8 = 1 << 4
  }

  /// Status registers of a command's result (82077AA data sheet, 6.0).
  enum Status {
    // Register 0.
    static let abnormal: UInt8 = 0x40
    static let invalid: UInt8 = 0x80
    static let readyChanged: UInt8 = 0xc0
    static let seekEnd: UInt8 = 1 << 5
    static let equipmentCheck: UInt8 = 1 << 4
    // Register 1.
    static let missingAddressMark: UInt8 = 1 << 0
    static let notWritable: UInt8 = 1 << 1
    static let noData: UInt8 = 1 << 2
    static let overrun: UInt8 = 1 << 4
    static let dataError: UInt8 = 1 << 5
    static let endOfCylinder: UInt8 = 1 << 7
    // Register 2.
    static let wrongCylinder: UInt8 = 1 << 4
    static let controlMark: UInt8 = 1 << 6
    // Register 3.
    static let twoSided: UInt8 = 1 << 3
    static let trackZero: UInt8 = 1 << 4
    static let ready: UInt8 = 1 << 5
    static let writeProtected: UInt8 = 1 << 6
  }

  /// Commands by their lower five bits (82077AA data sheet, 5.0).
  enum Command: UInt8 {
    case readTrack = 0x02
    case specify = 0x03
    case senseDriveStatus = 0x04
    case writeData = 0x05
    case readData = 0x06
    case recalibrate = 0x07
    case senseInterruptStatus = 0x08
    case writeDeletedData = 0x09
    case readID = 0x0a
    case readDeletedData = 0x0c
    case formatTrack = 0x0d
    case dumpRegisters = 0x0e
    /// With bit 7: relative.
    case seek = 0x0f
    case version = 0x10
    case perpendicularMode = 0x12
    case configure = 0x13
    case lock = 0x14
    case verify = 0x16

    /// Bytes behind the first.
    var parameterCount: Int {
      switch self {
      case .readTrack, .writeData, .readData, .writeDeletedData, .readDeletedData, .verify: 8
      case .formatTrack: 5
      case .configure: 3
      case .specify, .seek: 2
      case .senseDriveStatus, .recalibrate, .readID, .perpendicularMode: 1
      case .senseInterruptStatus, .dumpRegisters, .version, .lock: 0
      }
    }
  }

  enum Phase: String, Codable, Sendable {
    /// Bytes of a command come.
    case command
    /// Data move.
    case execution
    /// Bytes of the result go.
    case result
  }

  /// A command that moves sectors.
  struct Transfer: Codable, Equatable, Sendable {
    enum Kind: String, Codable, Sendable {
      case read, readTrack, verify, write, format
    }

    var kind: Kind
    var drive: UInt8
    /// Which of the disk's sides is under the head.
    var side: UInt8
    /// What identifies the next sector.
    var cylinder: UInt8
    var head: UInt8
    var sector: UInt8
    var sizeCode: UInt8
    /// The last sector of a track; of a format command, how many are to come.
    var last: UInt8
    /// Goes on to the other side.
    var isMultitrack: Bool
    /// Looks for sectors that are marked as deleted, of which there are none.
    var wantsDeleted = false
    /// What a format command fills sectors with.
    var filler: UInt8 = 0
    /// DMA has said that this is all.
    var isTerminated = false
  }

  public struct State: Codable, Equatable, Sendable {
    var phase = Phase.command
    /// Of the command, and then of its result.
    var bytes: [UInt8] = []
    var position = 0
    var transfer: Transfer?
    /// A sector on its way through the data register.
    var data: [UInt8] = []
    var dataPosition = 0

    var output: UInt8 = 0
    var tapeDrive: UInt8 = 0
    var rate: UInt8 = 2
    /// Both bytes of SPECIFY, and those of CONFIGURE and PERPENDICULAR MODE.
    var timing: [UInt8] = [0, 0]
    var configuration: UInt8 = FloppyController.powerOnConfiguration
    var precompensation: UInt8 = 0
    var perpendicular: UInt8 = 0
    var lastSector: UInt8 = 0
    var isLocked = false

    var interrupt = false
    /// What SENSE INTERRUPT STATUS is to tell, one after the other: status register 0.
    var news: [UInt8] = []
    /// Cylinder of each drive's head.
    var cylinders: [UInt8] = [0, 0, 0, 0]
    /// The sector that READ ID gave last.
    var passingSector: UInt8 = 0
    /// A disk was put in, and no head has moved since.
    var hasChanged = [true, true, true, true]
  }
}
