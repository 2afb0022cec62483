import Glibc
import Storage

/// A folder that goes away, with all that is in it, with the object.
final class Scratch {
  let path: String

  init() throws {
    var template = Array("/tmp/ringside-storage-XXXXXX".utf8CString)
    guard mkdtemp(&template) != nil else { throw ToolFailure(description: "mkdtemp: errno \(errno)") }
    path = template.withUnsafeBufferPointer { String(cString: $0.baseAddress!) }
  }

  deinit { _ = try? Tool.run("rm -rf '\(path)'") }

  /// A path in the folder.
  func file(_ name: String) -> String { "\(path)/\(name)" }

  /// A file with these bytes.
  func file(_ name: String, _ bytes: [UInt8]) throws -> String {
    let path = file(name)
    let file = try patiently { try HostFile.create(path: path) }
    try bytes.withUnsafeBytes { try file.write([$0], at: 0) }
    return file.name
  }
}

/// Runs `body` again for a while where an image is in use: a process that another test is starting has all files of this
/// one for a moment, and with them their locks.
func patiently<Value>(_ body: () throws -> Value) throws -> Value {
  for _ in 0..<200 {
    do {
      return try body()
    } catch let failure as ImageFailure {
      guard case .inUse = failure.reason else { throw failure }
      usleep(5000)
    }
  }
  return try body()
}

/// A file that is only read.
func reading(_ path: String) throws -> HostFile { try patiently { try HostFile(path: path, isReadOnly: true) } }

/// A tool of the host's that judges images.
enum Tool {
  /// Runs a command line in a shell. Returns what it printed, on either output; fails unless it ends with `status`.
  @discardableResult
  static func run(_ command: String, status expected: Int32 = 0) throws -> String {
    guard let pipe = popen("(\(command)) 2>&1", "r") else { throw ToolFailure(description: "popen: errno \(errno)") }
    var output: [UInt8] = []
    var chunk = [UInt8](repeating: 0, count: 1 << 16)
    while true {
      let count = fread(&chunk, 1, chunk.count, pipe)
      if count == 0 { break }
      output += chunk[..<count]
    }
    let status = pclose(pipe)
    let text = String(decoding: output, as: UTF8.self)
    guard status >> 8 & 0xff == expected, status & 0x7f == 0 else {
      throw ToolFailure(description: "\(command)\nended with \(status >> 8):\n\(text)")
    }
    return text
  }

  /// Fails unless `qemu-img check` finds the image at `path` consistent; leaks are allowed where `allowingLeaks`.
  static func check(_ path: String, allowingLeaks: Bool = false) throws {
    // 0: nothing wrong, 3: leaks.
    try run("qemu-img check '\(path)'; status=$?; \(allowingLeaks ? "test $status = 3 ||" : "") exit $status")
  }
}

struct ToolFailure: Error, CustomStringConvertible {
  var description: String
}
