import CHost
import Glibc
import Synchronization

/// A file or block device of the host.
///
/// It is locked, as its user wants to read or write it, until it goes: see `ImageLock`.
public final class HostFile: ImageFile {
  public let name: String
  public let isReadOnly: Bool
  let descriptor: Int32
  let isBlockDevice: Bool
  public var isZeroBeyondEnd: Bool { !isBlockDevice }
  /// A flush has failed. The kernel reports each lost write once only, so no later flush can be believed.
  private let hasLostWrites = Atomic(false)
  /// The host cannot make holes, or make zeroes, in this file.
  let cannotPunch = Atomic(false)
  let cannotZero = Atomic(false)

  /// Tells files apart, whatever their paths are.
  struct Identity: Equatable {
    let device: UInt64
    let number: UInt64
  }
  let identity: Identity

  /// What a transfer to or from the kernel can address: file offsets are signed.
  static let offsetLimit = UInt64(Int64.max)

  /// Opens what is at `path`. `isShared`: others may write it at the same time.
  public convenience init(path: String, isReadOnly: Bool, isShared: Bool = false) throws(ImageFailure) {
    try self.init(opening: path, isReadOnly: isReadOnly)
    try ImageLock.take(on: self, isShared: isShared)
  }

  /// Opens what is at `path`, and leaves locking it to the caller.
  convenience init(opening path: String, isReadOnly: Bool) throws(ImageFailure) {
    // Without O_NONBLOCK, opening a pipe could wait for ever. Files and block devices take no notice of it.
    let flags = (isReadOnly ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NONBLOCK
    let descriptor = open(path, flags)
    guard descriptor >= 0 else {
      if !isReadOnly, [EACCES, EPERM, EROFS].contains(errno) { throw ImageFailure(path, .notWritable(code: errno)) }
      if errno == EISDIR { throw ImageFailure(path, .notAFile) }
      throw ImageFailure(path, failedTo: "open")
    }
    try self.init(descriptor: descriptor, name: path, isReadOnly: isReadOnly)
  }

  /// Makes a new, empty file at `path`; in place of one that is there only where `replaces`.
  public static func create(path: String, replaces: Bool = true) throws(ImageFailure) -> HostFile {
    // Not truncated before it is locked: somebody may be using it.
    let flags = O_RDWR | O_CREAT | O_CLOEXEC | O_NONBLOCK | (replaces ? 0 : O_EXCL)
    let descriptor = open(path, flags, 0o644)
    guard descriptor >= 0 else {
      if errno == EEXIST { throw ImageFailure(path, .invalid("it is there already; --force replaces it")) }
      if errno == EISDIR { throw ImageFailure(path, .notAFile) }
      throw ImageFailure(path, failedTo: "create")
    }
    let file = try HostFile(descriptor: descriptor, name: path, isReadOnly: false)
    try ImageLock.take(on: file, isShared: false)
    if !file.isBlockDevice { try file.resize(to: 0) }
    return file
  }

  /// A file without a name in `directory`, gone with this object.
  public static func unnamed(in directory: String) throws(ImageFailure) -> HostFile {
    let descriptor = hostUnnamedFile(directory)
    guard descriptor >= 0 else { throw ImageFailure(directory, failedTo: "create a temporary file in") }
    return try HostFile(descriptor: descriptor, name: directory, isReadOnly: false)
  }

  /// Takes over `descriptor`, also when it throws.
  init(descriptor: Int32, name: String, isReadOnly: Bool) throws(ImageFailure) {
    self.name = name
    self.isReadOnly = isReadOnly
    self.descriptor = descriptor
    var status = stat()
    let isKnown = fstat(descriptor, &status) == 0
    isBlockDevice = status.st_mode & S_IFMT == S_IFBLK
    identity = Identity(device: UInt64(status.st_dev), number: UInt64(status.st_ino))
    guard isKnown else { throw ImageFailure(name, failedTo: "look at") }
    guard isBlockDevice || status.st_mode & S_IFMT == S_IFREG else { throw ImageFailure(name, .notAFile) }
  }

  deinit { close(descriptor) }

  public func size() throws(ImageFailure) -> UInt64 {
    if isBlockDevice {
      var size: UInt64 = 0
      guard hostBlockDeviceSize(descriptor, &size) == 0 else { throw ImageFailure(name, failedTo: "find the size of") }
      return size
    }
    var status = stat()
    guard fstat(descriptor, &status) == 0 else { throw ImageFailure(name, failedTo: "find the size of") }
    return UInt64(clamping: status.st_size)
  }

  @discardableResult
  public func read(_ buffers: [UnsafeMutableRawBufferPointer], at offset: UInt64) throws(ImageFailure) -> Int {
    // What the kernel cannot address is beyond every file's end.
    guard offset <= Self.offsetLimit else {
      buffers.clear()
      return 0
    }
    let done = try transfer(buffers, at: offset, action: "read from", with: preadv)
    let count = buffers.byteCount
    if done < count { buffers.part(done..<count).clear() }
    return done
  }

  public func write(_ buffers: [UnsafeRawBufferPointer], at offset: UInt64) throws(ImageFailure) {
    let count = buffers.byteCount
    guard offset <= Self.offsetLimit, UInt64(count) <= Self.offsetLimit - offset else {
      throw ImageFailure(name, .host(action: "write to", code: EFBIG))
    }
    guard try transfer(buffers, at: offset, action: "write to", with: pwritev) == count else {
      // The end of a block device; a file would have become longer, or said why not.
      throw ImageFailure(name, .host(action: "write to", code: ENOSPC))
    }
  }

  /// Moves bytes until all are moved, or the kernel moves no more (the end of the file). Returns how many.
  private func transfer<Buffer: IOBuffer>(
    _ buffers: [Buffer], at offset: UInt64, action: String,
    with call: (Int32, UnsafePointer<iovec>, Int32, off_t) -> Int
  ) throws(ImageFailure) -> Int {
    let total = buffers.byteCount
    var done = 0
    while done < total {
      // The kernel takes this many at a time (IOV_MAX).
      let vectors = buffers.part(done..<total).prefix(1024).map(\.vector)
      let count = vectors.withUnsafeBufferPointer {
        call(descriptor, $0.baseAddress!, Int32($0.count), off_t(offset) &+ off_t(done))
      }
      if count < 0 {
        if errno == EINTR { continue }
        throw ImageFailure(name, failedTo: action)
      }
      if count == 0 { break }
      done += count
    }
    return done
  }

  public func flush() throws(ImageFailure) {
    if hasLostWrites.load(ordering: .acquiring) { throw ImageFailure(name, .host(action: "flush", code: EIO)) }
    guard fdatasync(descriptor) == 0 else {
      let failure = ImageFailure(name, failedTo: "flush")
      hasLostWrites.store(true, ordering: .releasing)
      throw failure
    }
  }

  public func unlock() { ImageLock.release(self) }
}
