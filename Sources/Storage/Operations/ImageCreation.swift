/// A new image of any format that can be written.
public enum ImageCreation: Sendable {
  /// Of this many bytes.
  case raw(size: UInt64)
  case qcow2(Qcow2Creation)

  /// Makes the file and opens it. A file that is there is only replaced where `replaces`; `backing` is the image's own,
  /// if it has one.
  public func make(
    at path: String, replaces: Bool, backing: (any DiskImage)? = nil
  ) throws(ImageFailure) -> any DiskImage {
    if case .qcow2(let creation) = self, let problem = creation.problem { throw ImageFailure(path, .invalid(problem)) }
    if case .raw(let size) = self, size > HostFile.offsetLimit {
      throw ImageFailure(path, .invalid("a disk of \(size) bytes is too large for a file"))
    }
    let file = try HostFile.create(path: path, replaces: replaces)
    switch self {
    case .raw(let size):
      try file.resize(to: size)
      return try RawImage(file)
    case .qcow2(let creation):
      try creation.write(to: file)
      return try Qcow2Image(file, backing: backing)
    }
  }
}
