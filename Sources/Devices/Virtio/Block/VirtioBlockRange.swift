/// A range that a request discards or fills with zeroes (VIRTIO 1.2, 5.2.6).
struct VirtioBlockRange {
  /// Bytes of its form in a request.
  static let size: UInt64 = 16
  private static let unmap: UInt32 = 1

  let sector: UInt64
  let sectorCount: UInt32
  private let flags: UInt32

  init(_ bytes: [UInt8], at offset: Int) {
    sector = bytes.littleEndian(at: offset, size: 8)
    sectorCount = UInt32(truncatingIfNeeded: bytes.littleEndian(at: offset + 8, size: 4))
    flags = UInt32(truncatingIfNeeded: bytes.littleEndian(at: offset + 12, size: 4))
  }

  var mayUnmap: Bool { flags & Self.unmap != 0 }

  /// In bytes; nil: beyond all disks.
  var offset: UInt64? {
    let (offset, overflow) = sector.multipliedReportingOverflow(by: VirtioBlock.sectorSize)
    return overflow ? nil : offset
  }

  /// Reserved flags are refused, and "unmap" too where there is nothing else.
  func isAllowed(for operation: VirtioBlockRequest.Operation) -> Bool {
    flags & ~Self.unmap == 0 && (operation == .writeZeroes || flags == 0)
  }
}
