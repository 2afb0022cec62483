/// Writes what an overlay has into its backing file.
public struct ImageCommit {
  private static let chunk = 2 << 20

  private let overlay: Qcow2Image
  private let base: any DiskImage

  /// Opens the overlay at `reference`, and its backing file for writing.
  public init(_ reference: ImageReference, warn: (String) -> Void) throws(ImageFailure) {
    let file = try HostFile(path: reference.path, isReadOnly: false)
    guard let backing = try BackingReference(of: file) else {
      throw ImageFailure(reference.path, .invalid("it has no backing file that its contents could be written to"))
    }
    var target = try backing.image(beside: reference.path)
    target.isReadOnly = false
    base = try target.open(warn: warn)
    overlay = try Qcow2Image(file, backing: base)
  }

  /// `base` is the overlay's backing image, and can be written.
  public init(_ overlay: Qcow2Image, into base: any DiskImage) {
    self.overlay = overlay
    self.base = base
  }

  /// What is written to.
  public var target: String { base.name }
  public var size: UInt64 { overlay.size }

  /// Does it. `empties`: the overlay has nothing of its own afterwards. `progress` gets the bytes that are done.
  public func run(empties: Bool, progress: (UInt64) -> Void) throws(ImageFailure) {
    if overlay.size > base.size {
      guard let base = base as? any ResizableImage else {
        throw ImageFailure(base.name, .invalid("it is smaller than '\(overlay.name)', and cannot be made larger"))
      }
      try base.resize(to: overlay.size)
    }
    let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: Self.chunk, alignment: 4096)
    defer { buffer.deallocate() }
    var offset: UInt64 = 0
    while offset < overlay.size {
      let (isOwn, length) = try overlay.isOwn(at: offset)
      if isOwn {
        try copy(offset..<offset + length, by: buffer)
      }
      offset += length
      progress(offset)
    }
    try base.flush()
    // The overlay goes last: until then it says the same as the base.
    if empties { try overlay.makeEmpty() }
    try overlay.close()
  }

  private func copy(_ range: Range<UInt64>, by buffer: UnsafeMutableRawBufferPointer) throws(ImageFailure) {
    var offset = range.lowerBound
    while offset < range.upperBound {
      let extent = try overlay.extent(at: offset)
      let length = min(extent.length, range.upperBound - offset)
      if extent.isZero {
        try base.writeZeroes(offset..<offset + length, mayUnmap: true)
        offset += length
      } else {
        let part = buffer.part(0..<Int(min(length, UInt64(buffer.count))))
        try overlay.read([part], at: offset)
        try base.write([UnsafeRawBufferPointer(part)], at: offset)
        offset += UInt64(part.count)
      }
    }
  }
}
