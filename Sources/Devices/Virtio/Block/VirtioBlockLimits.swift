/// What a driver is told of a disk: its size, and how large a request may be (VIRTIO 1.2, 5.2.4).
struct VirtioBlockLimits {
  static let writeBackOffset = 32

  /// Pieces of data in a request.
  let segmentLimit: UInt32 = 254
  /// Ranges that one request discards or fills, and sectors of each.
  let rangeLimit: UInt32 = 16
  let rangeSectors: UInt32 = 1 << 22

  func configuration(sectors: UInt64, queueCount: Int, isWriteBack: Bool) -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: 60)
    bytes.put(sectors, at: 0)
    bytes.put(segmentLimit, at: 12)
    // Logical blocks of 512 bytes; physical ones of 4096: 2^3 logical ones, which is also the best size of a transfer.
    bytes.put(UInt32(512), at: 20)
    bytes[24] = 3
    bytes.put(UInt16(8), at: 26)
    bytes.put(UInt32(0), at: 28)
    bytes[Self.writeBackOffset] = isWriteBack ? 1 : 0
    bytes.put(UInt16(queueCount), at: 34)
    // Discards: sectors, ranges, and the alignment that makes sense; then the same for zeroes, which may be unmapped.
    bytes.put(rangeSectors, at: 36)
    bytes.put(rangeLimit, at: 40)
    bytes.put(UInt32(8), at: 44)
    bytes.put(rangeSectors, at: 48)
    bytes.put(rangeLimit, at: 52)
    bytes[56] = 1
    return bytes
  }
}
