import Glibc

/// An image for what a machine writes to a disk that is to stay as it is.
enum TemporaryOverlay {
  /// An image over `base` in a file that has no name. It is in TMPDIR, or in /var/tmp, which is rarely in memory.
  static func make(over base: any DiskImage) throws(ImageFailure) -> Qcow2Image {
    let directory = getenv("TMPDIR").map { String(cString: $0) } ?? "/var/tmp"
    let file = try HostFile.unnamed(in: directory)
    try Qcow2Creation(size: base.size).write(to: file)
    return try Qcow2Image(file, backing: base, isVolatile: true)
  }
}
