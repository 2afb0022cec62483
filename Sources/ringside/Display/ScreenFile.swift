import Devices
import Glibc
import Host

/// A file that always holds the screen as it was last seen: as UTF-8 text, or as a picture (PPM) if its name says so. It is
/// replaced as a whole, so that nobody reads half of one.
final class ScreenFile {
  private let path: String
  private var last: Screen?
  /// Text modes have no picture here: such a file gets one of graphics modes only, and text as text.
  let isPicture: Bool

  init(path: String) {
    self.path = path
    isPicture = path.hasSuffix(".ppm")
  }

  /// Writes the screen, if it is another than before.
  func show(_ screen: Screen) throws(HostFailure) {
    guard screen != last else { return }
    last = screen
    try replace(contents(screen))
  }

  private func contents(_ screen: Screen) -> [UInt8] {
    switch screen {
    case .off: return Array("(the display is off)\n".utf8)
    case .text(let lines): return Array((lines.joined(separator: "\n") + "\n").utf8)
    case .image(let width, let height, let pixels):
      guard isPicture else { return Array("(a picture of \(width) by \(height) pixels)\n".utf8) }
      return Array("P6\n\(width) \(height)\n255\n".utf8) + pixels
    }
  }

  private func replace(_ bytes: [UInt8]) throws(HostFailure) {
    let new = path + ".new"
    let descriptor = open(new, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o666)
    guard descriptor >= 0 else { throw HostFailure("open '\(new)' for the screen") }
    var written = 0
    while written < bytes.count {
      let count = bytes[written...].withUnsafeBytes { write(descriptor, $0.baseAddress, $0.count) }
      if count < 0, errno == EINTR { continue }
      guard count > 0 else {
        let failure = HostFailure("write '\(new)'")
        close(descriptor)
        throw failure
      }
      written += count
    }
    close(descriptor)
    guard rename(new, path) == 0 else { throw HostFailure("rename '\(new)' to '\(path)'") }
  }
}
