import Glibc

/// Copies a disk, and leaves out what is zero.
public struct ImageCopy {
  private let source: any DiskImage
  private let target: any DiskImage
  /// Zeroes are worth leaving out from this many bytes on, at multiples of it.
  private static let grain = 4096
  /// Bytes that are read at once: a multiple of every cluster size.
  private static let chunk = 2 << 20

  /// `target` is at least as large as `source`, and reads as zeroes.
  public init(from source: any DiskImage, to target: any DiskImage) {
    self.source = source
    self.target = target
  }

  /// Copies everything. `compresses`: into compressed clusters, of a qcow2 image. `progress` gets the bytes that are done.
  public func run(compresses: Bool = false, progress: (UInt64) -> Void) throws(ImageFailure) {
    let compressed = compresses ? target as? Qcow2Image : nil
    if compresses, compressed == nil {
      throw ImageFailure(target.name, .invalid("only qcow2 images have compressed clusters"))
    }
    let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: Self.chunk, alignment: 4096)
    defer { buffer.deallocate() }
    var offset: UInt64 = 0
    while offset < source.size {
      let extent = try source.extent(at: offset)
      // Chunks begin at multiples, so that clusters are whole in them.
      let boundary = (offset / UInt64(Self.chunk) + 1) * UInt64(Self.chunk)
      if extent.isZero, compressed == nil || offset + extent.length >= boundary {
        offset = compressed == nil ? offset + extent.length : (offset + extent.length) & ~UInt64(Self.chunk - 1)
      } else {
        let end = min(boundary, source.size, compressed == nil ? offset + extent.length : .max)
        let part = buffer.part(0..<Int(end - offset))
        try source.read([part], at: offset)
        if let compressed {
          try store(UnsafeRawBufferPointer(part), at: offset, in: compressed)
        } else {
          try store(UnsafeRawBufferPointer(part), at: offset)
        }
        offset = end
      }
      progress(min(offset, source.size))
    }
  }

  private func store(_ bytes: UnsafeRawBufferPointer, at offset: UInt64) throws(ImageFailure) {
    var start = 0
    while start < bytes.count {
      let isZero = bytes.part(start..<min(start + Self.grain, bytes.count)).isZero
      var end = min(start + Self.grain, bytes.count)
      while end < bytes.count, bytes.part(end..<min(end + Self.grain, bytes.count)).isZero == isZero {
        end = min(end + Self.grain, bytes.count)
      }
      if !isZero { try target.write([bytes.part(start..<end)], at: offset + UInt64(start)) }
      start = end
    }
  }

  private func store(
    _ bytes: UnsafeRawBufferPointer, at offset: UInt64, in image: Qcow2Image
  ) throws(ImageFailure) {
    for start in stride(from: 0, to: bytes.count, by: image.clusterSize) {
      let cluster = bytes.part(start..<min(start + image.clusterSize, bytes.count))
      if !cluster.isZero { try image.writeCompressed(cluster, at: offset + UInt64(start)) }
    }
  }
}

extension UnsafeRawBufferPointer {
  /// Whether all bytes are zero.
  var isZero: Bool {
    guard let baseAddress, let first, first == 0 else { return isEmpty }
    // Equal to itself shifted by one byte: all are as the first.
    return memcmp(baseAddress, baseAddress + 1, count - 1) == 0
  }
}
