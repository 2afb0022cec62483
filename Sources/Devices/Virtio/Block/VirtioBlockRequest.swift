/// The header of a request to a disk (VIRTIO 1.2, 5.2.6).
struct VirtioBlockRequest {
  enum Operation {
    case read, write, flush, identify, discard, writeZeroes, unknown
  }

  static let headerSize = 16

  let operation: Operation
  /// Of 512 bytes.
  let sector: UInt64

  /// `header` has `headerSize` bytes.
  init(_ header: [UInt8]) {
    operation =
      switch header.littleEndian(at: 0, size: 4) {
      case 0: .read
      case 1: .write
      case 4: .flush
      case 8: .identify
      case 11: .discard
      case 13: .writeZeroes
      default: .unknown
      }
    sector = header.littleEndian(at: 8, size: 8)
  }
}
