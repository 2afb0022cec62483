import Glibc

/// A folder that goes away, with the files in it, with the object.
final class TemporaryDirectory {
  let path: String
  private var files: [String] = []

  init() throws {
    var template = Array("/tmp/ringside-test-XXXXXX".utf8CString)
    guard mkdtemp(&template) != nil else { throw HostCallFailure("mkdtemp") }
    path = template.withUnsafeBufferPointer { String(cString: $0.baseAddress!) }
  }

  deinit {
    for file in files { unlink(file) }
    rmdir(path)
  }

  /// A path in the folder, whose file goes away with it.
  func file(_ name: String) -> String {
    let file = path + "/" + name
    files.append(file)
    return file
  }

  /// Makes a file and returns its path.
  func file(_ name: String, containing bytes: [UInt8]) throws -> String {
    let file = file(name)
    let descriptor = open(file, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
    guard descriptor >= 0 else { throw HostCallFailure("open \(file)") }
    defer { close(descriptor) }
    var next = 0
    while next < bytes.count {
      let count = bytes.withUnsafeBytes { write(descriptor, $0.baseAddress! + next, $0.count - next) }
      guard count > 0 else { throw HostCallFailure("write \(file)") }
      next += count
    }
    return file
  }
}

/// The bytes of a file of the host.
func contents(ofFile path: String) throws -> [UInt8] {
  let descriptor = open(path, O_RDONLY | O_CLOEXEC)
  guard descriptor >= 0 else { throw HostCallFailure("open \(path)") }
  defer { close(descriptor) }
  var status = stat()
  guard fstat(descriptor, &status) == 0 else { throw HostCallFailure("fstat \(path)") }
  return [UInt8](unsafeUninitializedCapacity: Int(status.st_size)) { buffer, count in
    while count < buffer.count {
      let more = read(descriptor, buffer.baseAddress! + count, buffer.count - count)
      if more <= 0 { break }
      count += more
    }
  }
}
