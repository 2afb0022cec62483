/// A disk image as a user names it, and how it is to be opened.
public struct ImageReference: Sendable {
  public var path: String
  /// Nil: as the file's first bytes say.
  public var format: ImageFormat?
  public var isReadOnly: Bool
  /// Others may write the image at the same time; without it that is refused, to them or to us.
  public var isShared: Bool
  /// What is written goes to a temporary file and ends with the object; the image itself is only read.
  public var isTemporary: Bool
  /// The disk as it was in this internal snapshot; read-only.
  public var snapshot: String?

  public init(
    path: String, format: ImageFormat? = nil, isReadOnly: Bool = false, isShared: Bool = false,
    isTemporary: Bool = false, snapshot: String? = nil
  ) {
    self.path = path
    self.format = format
    self.isReadOnly = isReadOnly
    self.isShared = isShared
    self.isTemporary = isTemporary
    self.snapshot = snapshot
  }

  /// More than anybody has, and few enough for everybody's stack.
  private static let chainLimit = 200

  /// Opens the image, and its backing files. `warn` gets what the user should know though it does not stop anything, as
  /// sentences without a full stop.
  public func open(warn: (String) -> Void) throws(ImageFailure) -> any DiskImage {
    guard isTemporary else { return try open(above: [], warn) }
    var base = self
    base.isTemporary = false
    base.isReadOnly = true
    return try TemporaryOverlay.make(over: try base.open(warn: warn))
  }

  /// Opens a qcow2 image as such, with its backing files; for what other formats do not have.
  public func openQcow2(warn: (String) -> Void) throws(ImageFailure) -> Qcow2Image {
    guard let image = try open(above: [], warn) as? Qcow2Image else {
      throw ImageFailure(path, .invalid("it is no qcow2 image"))
    }
    return image
  }

  /// `files` are those of the images that this one is the backing file of.
  private func open(
    above files: [HostFile.Identity], _ warn: (String) -> Void
  ) throws(ImageFailure) -> any DiskImage {
    let file = try HostFile(opening: path, isReadOnly: isReadOnly)
    guard !files.contains(file.identity) else {
      throw ImageFailure(
        path, .corrupt("it is its own backing file, by way of \(files.count) image\(files.count == 1 ? "" : "s")"))
    }
    guard files.count < Self.chainLimit else {
      throw ImageFailure(path, .unsupported("it is the \(files.count)th backing file in a row"))
    }
    try ImageLock.take(on: file, isShared: isShared)
    let found: ImageFormat
    if let format { found = format } else { found = try Self.probe(file) }
    if snapshot != nil, found != .qcow2 {
      throw ImageFailure(path, .invalid("it is no qcow2 image, and other formats have no snapshots"))
    }
    switch found {
    case .raw:
      let isGuess = format == nil && !isReadOnly
      if isGuess {
        warn(
          "'\(path)' is taken for a raw image, because it looks like no other; "
            + "the guest may not make it look like one, unless you say format=raw")
      }
      return try RawImage(file, guardsFirstSector: isGuess)
    case .vmdk:
      try requireReadOnly(found)
      return try VMDKImage(file) { name throws(ImageFailure) in
        let reference = try BackingReference(path: name, format: .raw).image(beside: path)
        return try HostFile(path: reference.path, isReadOnly: true, isShared: isShared)
      }
    case .vhdx:
      try requireReadOnly(found)
      return try VHDXImage(file)
    case .qcow2:
      var backing: (any DiskImage)?
      if let reference = try BackingReference(of: file) {
        do throws(ImageFailure) {
          backing = try reference.image(beside: path).open(above: files + [file.identity], warn)
        } catch {
          throw ImageFailure(path, .backing(error.description))
        }
        if reference.format == nil {
          warn(
            "'\(path)' does not say which format its backing file '\(reference.path)' has, so that is a guess; "
              + "'ringside image rebase --unsafe' writes it down")
        }
      }
      return try Qcow2Image(file, backing: backing, snapshot: snapshot)
    }
  }

  private func requireReadOnly(_ format: ImageFormat) throws(ImageFailure) {
    guard !isReadOnly else { return }
    throw ImageFailure(
      path,
      .unsupported(
        "\(format.rawValue) images can only be read: open it read-only, with a temporary overlay, "
          + "or convert it with 'ringside image convert'"))
  }

  /// The format that a file's first bytes tell. Refuses those that are known but not supported.
  public static func probe(_ file: any ImageFile) throws(ImageFailure) -> ImageFormat {
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
