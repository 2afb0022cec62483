/// What a qcow2 image says about its backing file.
public struct BackingReference: Equatable, Sendable {
  /// As it stands in the image.
  public var path: String
  /// Nil: the image does not say it.
  public var format: ImageFormat?

  public init(path: String, format: ImageFormat?) {
    self.path = path
    self.format = format
  }

  /// Nil where the image has no backing file.
  public init?(of file: any ImageFile) throws(ImageFailure) {
    let header = try Qcow2Header(of: file)
    guard header.backingOffset != 0, header.backingLength > 0 else { return nil }
    let bytes = try file.bytes(
      at: header.backingOffset, count: Int(header.backingLength), what: "backing file's name")
    path = String(decoding: bytes, as: UTF8.self)
    guard !bytes.contains(0) else {
      throw ImageFailure(file.name, .corrupt("its backing file's name has a zero byte in it"))
    }
    let extensions = try Qcow2Extension.read(from: file, header: header)
    guard let name = extensions.first(where: { $0.type == Qcow2Extension.backingFormat }) else { return }
    let text = String(decoding: name.data, as: UTF8.self)
    // QEMU's names for files and devices without a format.
    let known = ["file", "host_device"].contains(text) ? .raw : ImageFormat(rawValue: text)
    guard let known else {
      throw ImageFailure(
        file.name,
        .unsupported("its backing file '\(path)' has the format '\(text)'; known are \(ImageFormat.list)"))
    }
    format = known
  }

  /// The backing image of the image at `overlay`: relative paths lead from there.
  public func image(beside overlay: String) throws(ImageFailure) -> ImageReference {
    ImageReference(path: try resolved(beside: overlay), format: format, isReadOnly: true)
  }

  private func resolved(beside overlay: String) throws(ImageFailure) -> String {
    var path = path[...]
    if path.hasPrefix("file:") { path = path.dropFirst(5) }
    // QEMU's other protocols: "nbd://…", "json:{…}".
    if let colon = path.firstIndex(of: ":"), !path[..<colon].contains("/") {
      throw ImageFailure(
        overlay,
        .unsupported("the file '\(path)' is reached by '\(path[..<colon])', and only files are supported"))
    }
    if path.hasPrefix("/") { return String(path) }
    guard let slash = overlay.lastIndex(of: "/") else { return String(path) }
    return "\(overlay[...slash])\(path)"
  }
}
