import Glibc

/// Descriptors 0, 1 and 2 as this process got them.
public enum StandardDescriptors {
  public static let input: Int32 = 0
  public static let output: Int32 = 1
  public static let error: Int32 = 2

  /// Fills those that were closed with `/dev/null`, opened so that using them in the usual direction fails as it would
  /// have: otherwise the next file that is opened takes the number, and a guest's output lands in it. To be called
  /// before anything is opened.
  public static func secure() {
    for descriptor in [input, output, error] where fcntl(descriptor, F_GETFD) < 0 {
      let placeholder = open("/dev/null", descriptor == input ? O_WRONLY : O_RDONLY)
      if placeholder >= 0, placeholder != descriptor {
        dup2(placeholder, descriptor)
        close(placeholder)
      }
    }
  }

  /// Whether a descriptor was opened for writing; false for one that `secure` had to fill.
  public static func isWritable(_ descriptor: Int32) -> Bool {
    let flags = fcntl(descriptor, F_GETFL)
    return flags >= 0 && flags & O_ACCMODE != O_RDONLY
  }

  /// Writes all of `text`; fails where not all of it could be written.
  public static func write(_ text: String, to descriptor: Int32 = output) throws(HostFailure) {
    let bytes = Array(text.utf8)
    var next = 0
    while next < bytes.count {
      let count = bytes.withUnsafeBytes { Glibc.write(descriptor, $0.baseAddress! + next, $0.count - next) }
      if count > 0 {
        next += count
      } else if errno == EAGAIN {
        var wanted = pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)
        poll(&wanted, 1, -1)
      } else if errno != EINTR {
        throw HostFailure("write to \(descriptor == output ? "standard output" : "standard error")")
      }
    }
  }
}
