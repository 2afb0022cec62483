import Glibc

/// Small files of the kernel's: `/proc`, `/sys`.
enum TextFile {
  /// At most 64 KiB of the file's text; nil where it cannot be read.
  static func read(_ path: String) -> String? {
    let descriptor = open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { return nil }
    defer { close(descriptor) }
    let bytes = [UInt8](unsafeUninitializedCapacity: 64 << 10) { buffer, count in
      count = 0
      while count < buffer.count {
        let got = Glibc.read(descriptor, buffer.baseAddress! + count, buffer.count - count)
        guard got > 0 else { break }
        count += got
      }
    }
    return String(decoding: bytes, as: UTF8.self)
  }

  /// The number that the file holds.
  static func number(_ path: String) -> UInt64? {
    read(path).flatMap { UInt64($0.split(whereSeparator: \.isWhitespace).first ?? "") }
  }
}
