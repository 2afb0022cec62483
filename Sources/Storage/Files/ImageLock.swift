import CHost
import Glibc

/// Keeps two machines from writing one image, and anybody from reading what somebody writes.
///
/// The scheme is QEMU's (block/file-posix.c speaks of it), so that both keep out of each other's way. A lock for reading
/// on byte 100 + n of the file says "I do n", one on byte 200 + n "nobody else may do n". Whoever has put his own looks
/// for contradicting ones of others. Two who come at the same time may both be refused, but never both be let in.
///
/// Locks belong to the open file, not to the process (fcntl(2), "Open file description locks"): they go when it is closed,
/// also by the end of the process, and two images of one process exclude each other as well.
enum ImageLock {
  /// What can be done with an image; the numbers are QEMU's permissions.
  private enum Use: off_t, CaseIterable {
    case read = 0
    case write = 1
    case resize = 3

    var doing: off_t { 100 + rawValue }
    var forbidding: off_t { 200 + rawValue }
  }

  /// Locks the file for what it was opened for. `isShared`: others may write it meanwhile.
  static func take(on file: HostFile, isShared: Bool) throws(ImageFailure) {
    let uses: [Use] = file.isReadOnly ? [.read] : Use.allCases
    let forbidden: [Use] = isShared ? [] : [.write, .resize]
    for byte in uses.map(\.doing) + forbidden.map(\.forbidding) where hostLockByte(file.descriptor, byte) != 0 {
      // File systems without locks have to do without.
      if [ENOLCK, EOPNOTSUPP, ENOSYS, EINVAL].contains(errno) { return }
      throw ImageFailure(file.name, failedTo: "lock")
    }
    for byte in uses.map(\.forbidding) + forbidden.map(\.doing) where hostByteIsLocked(file.descriptor, byte) == 1 {
      throw ImageFailure(file.name, .inUse(wantsToWrite: !file.isReadOnly))
    }
  }

  /// Gives all locks back.
  static func release(_ file: HostFile) {
    for use in Use.allCases {
      _ = hostUnlockByte(file.descriptor, use.doing)
      _ = hostUnlockByte(file.descriptor, use.forbidding)
    }
  }
}
