import Glibc

/// The folder in which the program was started.
enum WorkingDirectory {
  static var path: String {
    guard let text = getcwd(nil, 0) else { return "." }
    defer { free(text) }
    return String(cString: text)
  }
}
