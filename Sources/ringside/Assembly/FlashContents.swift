import Firmware
import Glibc
import Host

/// What a flash memory holds when the machine starts, and the file that follows its changes.
final class FlashContents {
  let bytes: [UInt8]
  /// Nil: changes are kept nowhere.
  private let descriptor: Int32?

  /// Contents whose changes are gone in the end.
  init(_ bytes: [UInt8]) {
    self.bytes = bytes
    descriptor = nil
  }

  /// The contents of a file, which is made of `initial` where there is none.
  init(path: String, initial: [UInt8]) throws {
    let descriptor = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o666)
    guard descriptor >= 0 else { throw HostFailure("open '\(path)' for UEFI variables") }
    self.descriptor = descriptor
    var status = stat()
    guard fstat(descriptor, &status) == 0 else { throw HostFailure("look at '\(path)'") }
    if status.st_size == 0 {
      bytes = initial
      try initial.withUnsafeBytes { try Self.write($0, at: 0, descriptor) }
    } else {
      guard status.st_size == initial.count else {
        throw CommandFailure(
          description: "'\(path)' has \(status.st_size) bytes, but this firmware's variables have \(initial.count): "
            + "name another file, or an empty one")
      }
      bytes = try BootFile(path: path).bytes(at: 0, count: initial.count)
    }
  }

  deinit { if let descriptor { close(descriptor) } }

  /// Takes over a change. The kernel keeps what was written if this process dies; nobody waits for the disk.
  func write(_ change: UnsafeRawBufferPointer, at offset: Int) throws(HostFailure) {
    guard let descriptor else { return }
    try Self.write(change, at: offset, descriptor)
  }

  private static func write(_ bytes: UnsafeRawBufferPointer, at offset: Int, _ descriptor: Int32) throws(HostFailure) {
    var done = 0
    while done < bytes.count {
      let count = pwrite(descriptor, bytes.baseAddress.unsafelyUnwrapped + done, bytes.count - done, offset + done)
      if count < 0, errno == EINTR { continue }
      guard count > 0 else { throw HostFailure("write UEFI variables") }
      done += count
    }
  }
}
