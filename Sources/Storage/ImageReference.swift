import Host

/// A disk image as a user names it, and how it is to be opened.
public struct ImageReference: Sendable {
  public var path: String
  /// Nil: as the file's first bytes say.
  public var format: ImageFormat?
  public var isReadOnly: Bool
  /// Others may write the image at the same time; without it that is refused, to them or to us.
  public var isShared: Bool

  public init(path: String, format: ImageFormat? = nil, isReadOnly: Bool = false, isShared: Bool = false) {
    self.path = path
    self.format = format
    self.isReadOnly = isReadOnly
    self.isShared = isShared
  }

  /// Opens the image. `warn` gets what the user should know though it does not stop anything, as sentences without a
  /// full stop.
  public func open(warn: (String) -> Void) throws(ImageFailure) -> any DiskImage {
    let file = try HostFile(path: path, isReadOnly: isReadOnly, isShared: isShared)
    let format: ImageFormat
    if let given = self.format { format = given } else { format = try Self.probe(file) }
    switch format {
    case .raw:
      let isGuess = self.format == nil && !isReadOnly
      if isGuess {
        warn(
          "'\(path)' is taken for a raw image, because it looks like no other; "
            + "the guest may not make it look like one, unless you say format=raw")
      }
      return try RawImage(file, guardsFirstSector: isGuess)
    case .qcow2:
      throw ImageFailure(path, .unsupported("qcow2"))
    }
  }

  /// The format that a file's first bytes tell. Refuses those that are known but not supported.
  static func probe(_ file: any ImageFile) throws(ImageFailure) -> ImageFormat {
    var head = [UInt8](repeating: 0, count: ImageFormat.probeLength)
    let result = head.withUnsafeMutableBytes { head in
      Result { () throws(ImageFailure) in
        try file.read([head], at: 0)
        return ImageFormat.signature(of: UnsafeRawBufferPointer(head))
      }
    }
    guard let signature = try result.get() else { return .raw }
    guard let format = signature.format else {
      throw ImageFailure(
        file.name,
        .unsupported(
          "it is \(signature.title), which is not supported; convert it with 'qemu-img convert -O qcow2', "
            + "or say format=raw to use its bytes as they are"))
    }
    return format
  }
}
