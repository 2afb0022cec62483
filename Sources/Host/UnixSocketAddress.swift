import Glibc

/// Where a socket in the file system is.
struct UnixSocketAddress {
  private var address = sockaddr_un()

  /// `action` is what is to be done there, as an infinitive, for the error of a path that is too long (ENAMETOOLONG).
  init(path: String, action: String) throws(HostFailure) {
    address.sun_family = sa_family_t(AF_UNIX)
    let bytes = Array(path.utf8)
    guard !bytes.isEmpty, bytes.count < MemoryLayout.size(ofValue: address.sun_path), !bytes.contains(0) else {
      throw HostFailure(action, code: ENAMETOOLONG)
    }
    withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: bytes) }
  }

  /// bind(2) or connect(2).
  func apply(_ call: (Int32, UnsafePointer<sockaddr>, socklen_t) -> Int32, to descriptor: Int32) -> Int32 {
    withUnsafePointer(to: address) { pointer in
      pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        call(descriptor, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
      }
    }
  }
}
