import Glibc

/// Gives an overlay another backing file, or none.
public struct ImageRebase {
  private static let chunk = 1 << 20

  private let overlay: Qcow2Image
  private let path: String
  private let backing: (path: String, format: ImageFormat)?
  private let warn: (String) -> Void

  /// `backing` is as it is to stand in the image at `path`; nil: it is to have none. `opensOld`: the backing file that it
  /// has now is needed.
  public init(
    _ path: String, to backing: (path: String, format: ImageFormat)?, opensOld: Bool,
    warn: @escaping (String) -> Void
  ) throws(ImageFailure) {
    self.path = path
    self.backing = backing
    self.warn = warn
    if opensOld {
      overlay = try ImageReference(path: path, format: .qcow2).openQcow2(warn: { _ in })
    } else {
      overlay = try Qcow2Image(HostFile(path: path, isReadOnly: false), backing: nil)
    }
  }

  public var size: UInt64 { overlay.size }

  /// Writes the new name down, and nothing else: right where the new backing file has the same contents as the old one.
  public func runUnsafely() throws(ImageFailure) {
    try overlay.setBacking(backing)
    try overlay.close()
  }

  /// Copies what differs between the old backing file and the new one into the overlay first, so that the disk stays as
  /// it is. `progress` gets the bytes that are done.
  public func run(progress: (UInt64) -> Void) throws(ImageFailure) {
    var new: (any DiskImage)?
    if let backing {
      let reference = try BackingReference(path: backing.path, format: backing.format).image(beside: path)
      new = try reference.open(warn: warn)
    }
    let buffers = (0..<2).map { _ in UnsafeMutableRawBufferPointer.allocate(byteCount: Self.chunk, alignment: 4096) }
    defer { for buffer in buffers { buffer.deallocate() } }
    var offset: UInt64 = 0
    while offset < overlay.size {
      let (isOwn, length) = try overlay.isOwn(at: offset)
      let count = isOwn ? length : min(length, UInt64(Self.chunk))
      if !isOwn { try keep(offset, buffers.map { $0.part(0..<Int(count)) }, new) }
      offset += count
      progress(offset)
    }
    try overlay.setBacking(backing)
    try overlay.close()
    try new?.close()
  }

  /// Copies a piece into the overlay if it is not the same in the new backing file.
  private func keep(
    _ offset: UInt64, _ buffers: [UnsafeMutableRawBufferPointer], _ new: (any DiskImage)?
  ) throws(ImageFailure) {
    let (old, other) = (buffers[0], buffers[1])
    try overlay.read([old], at: offset)
    let there = new.map { $0.size <= offset ? 0 : Int(min($0.size - offset, UInt64(other.count))) } ?? 0
    if let new, there > 0 { try new.read([other.part(0..<there)], at: offset) }
    other.part(there..<other.count).clear()
    // By pieces, so that one changed byte does not copy everything.
    let piece = min(overlay.clusterSize, 65536)
    for start in stride(from: 0, to: old.count, by: piece) {
      let range = start..<min(start + piece, old.count)
      guard memcmp(old.part(range).baseAddress!, other.part(range).baseAddress!, range.count) != 0 else { continue }
      try overlay.write([UnsafeRawBufferPointer(old.part(range))], at: offset + UInt64(start))
    }
  }
}
