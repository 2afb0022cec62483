/// A command as it lies in a submission queue (NVMe 1.4, 4.2).
struct NVMeCommand {
  static let size = 64

  /// Codes of the commands for the controller (5, figure 139).
  enum Admin {
    static let deleteSubmissionQueue: UInt8 = 0x00
    static let createSubmissionQueue: UInt8 = 0x01
    static let getLogPage: UInt8 = 0x02
    static let deleteCompletionQueue: UInt8 = 0x04
    static let createCompletionQueue: UInt8 = 0x05
    static let identify: UInt8 = 0x06
    static let abort: UInt8 = 0x08
    static let setFeatures: UInt8 = 0x09
    static let getFeatures: UInt8 = 0x0a
    static let asynchronousEventRequest: UInt8 = 0x0c
  }

  /// Codes of the commands for the disk (6, figure 346).
  enum Disk {
    static let flush: UInt8 = 0x00
    static let write: UInt8 = 0x01
    static let read: UInt8 = 0x02
    static let writeZeroes: UInt8 = 0x08
    static let datasetManagement: UInt8 = 0x09
  }

  private let words: [UInt8]

  /// `bytes` has `size` bytes.
  init(_ bytes: [UInt8]) { words = bytes }

  var opcode: UInt8 { words[0] }
  var identifier: UInt16 { UInt16(truncatingIfNeeded: words.littleEndian(at: 2, size: 2)) }
  /// Not by pages but by scatter-gather lists, or fused with another command.
  var isUnsupportedKind: Bool { words[1] & 0xc3 != 0 }
  var namespace: UInt32 { UInt32(truncatingIfNeeded: words.littleEndian(at: 4, size: 4)) }
  var page1: UInt64 { words.littleEndian(at: 24, size: 8) }
  var page2: UInt64 { words.littleEndian(at: 32, size: 8) }

  /// Command doubleword `index`, 0 to 15.
  func word(_ index: Int) -> UInt32 { UInt32(truncatingIfNeeded: words.littleEndian(at: 4 * index, size: 4)) }

  /// First block of a transfer, and the number of blocks.
  var firstBlock: UInt64 { words.littleEndian(at: 40, size: 8) }
  var blockCount: UInt64 { UInt64(word(12) & 0xffff) + 1 }
}
