import Glibc

/// A file that a loader reads: a kernel or an initial RAM disk, under the name that the user gave.
///
/// A regular file stays on disk and is read where it is needed, straight into guest memory: it may be large, and a
/// mapping would kill the process should somebody shorten the file meanwhile. What is no regular file (a pipe from a
/// shell's process substitution) is read to its end at once.
public struct BootFile {
  private enum Source {
    case memory([UInt8])
    case descriptor(Descriptor)
  }

  private final class Descriptor {
    let number: Int32
    init(_ number: Int32) { self.number = number }
    deinit { close(number) }
  }

  /// How much of a pipe is taken before it is held to be endless.
  public static let pipeLimit = 1 << 30

  /// For messages: the path as the user gave it.
  public let name: String
  /// In bytes, when the file was opened.
  public let size: UInt64
  private let source: Source

  /// Contents that are in memory already.
  public init(name: String, bytes: [UInt8]) {
    self.name = name
    size = UInt64(bytes.count)
    source = .memory(bytes)
  }

  /// Opens a file.
  public init(path: String) throws(BootFailure) {
    name = path
    let number = open(path, O_RDONLY | O_CLOEXEC)
    guard number >= 0 else { throw BootFailure(path, .cannotOpen(errno: errno)) }
    let descriptor = Descriptor(number)
    var status = stat()
    guard fstat(number, &status) == 0 else { throw BootFailure(path, .cannotRead(errno: errno)) }
    switch status.st_mode & S_IFMT {
    case S_IFREG:
      size = UInt64(clamping: status.st_size)
      source = .descriptor(descriptor)
    case S_IFDIR:
      throw BootFailure(path, .isDirectory)
    default:
      let bytes = try Self.readToEnd(descriptor, name: path)
      size = UInt64(bytes.count)
      source = .memory(bytes)
    }
  }

  private static func readToEnd(_ descriptor: Descriptor, name: String) throws(BootFailure) -> [UInt8] {
    var bytes: [UInt8] = []
    var chunk = [UInt8](repeating: 0, count: 1 << 16)
    while true {
      let count = chunk.withUnsafeMutableBytes { Glibc.read(descriptor.number, $0.baseAddress, $0.count) }
      if count < 0 {
        if errno == EINTR { continue }
        throw BootFailure(name, .cannotRead(errno: errno))
      }
      if count == 0 { return bytes }
      bytes += chunk[..<count]
      guard bytes.count <= pipeLimit else { throw BootFailure(name, .endless(limit: UInt64(pipeLimit))) }
    }
  }

  /// Whether the file has `count` bytes at `offset`.
  public func contains(_ offset: UInt64, count: UInt64) -> Bool { offset <= size && count <= size - offset }

  /// Fills `buffer` from the file. The file must have that many bytes at `offset`.
  public func read(at offset: UInt64, into buffer: UnsafeMutableRawBufferPointer) throws(BootFailure) {
    guard contains(offset, count: UInt64(buffer.count)) else {
      throw BootFailure(name, .truncated(needs: offset.addingClamped(UInt64(buffer.count)), has: size))
    }
    guard let base = buffer.baseAddress, !buffer.isEmpty else { return }
    switch source {
    case .memory(let bytes):
      let end = Int(offset) + buffer.count
      bytes.withUnsafeBytes { buffer.copyMemory(from: UnsafeRawBufferPointer(rebasing: $0[Int(offset)..<end])) }
    case .descriptor(let descriptor):
      var done = 0
      while done < buffer.count {
        let count = pread(descriptor.number, base + done, buffer.count - done, off_t(offset) + off_t(done))
        if count < 0 {
          if errno == EINTR { continue }
          throw BootFailure(name, .cannotRead(errno: errno))
        }
        // Somebody shortened it since it was opened.
        guard count > 0 else {
          throw BootFailure(name, .truncated(needs: offset + UInt64(buffer.count), has: offset + UInt64(done)))
        }
        done += count
      }
    }
  }

  /// `count` bytes at `offset`.
  public func bytes(at offset: UInt64, count: Int) throws(BootFailure) -> [UInt8] {
    guard contains(offset, count: UInt64(clamping: count)) else {
      throw BootFailure(name, .truncated(needs: offset.addingClamped(UInt64(clamping: count)), has: size))
    }
    var bytes = [UInt8](repeating: 0, count: count)
    var failure: BootFailure?
    bytes.withUnsafeMutableBytes { buffer in
      do throws(BootFailure) { try read(at: offset, into: buffer) } catch { failure = error }
    }
    if let failure { throw failure }
    return bytes
  }

  /// The first `count` bytes, or all if there are fewer.
  public func head(_ count: Int) throws(BootFailure) -> [UInt8] {
    try bytes(at: 0, count: Int(min(UInt64(count), size)))
  }
}

extension UInt64 {
  /// The sum, or the highest value where it would not fit.
  func addingClamped(_ other: UInt64) -> UInt64 {
    let (sum, overflow) = addingReportingOverflow(other)
    return overflow ? .max : sum
  }

  /// The next multiple of `alignment`, a power of two; nil where there is none.
  func roundedUp(to alignment: UInt64) -> UInt64? {
    let (sum, overflow) = addingReportingOverflow(alignment - 1)
    return overflow ? nil : sum & ~(alignment - 1)
  }
}
