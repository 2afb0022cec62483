/// What a display shows at one moment.
public enum Screen: Equatable, Sendable {
  /// Nothing: it is off, or not set up.
  case off
  /// Lines of text, without the spaces at their ends.
  case text([String])
  /// A picture: three bytes a pixel (red, green, blue), line by line from the top.
  case image(width: Int, height: Int, pixels: [UInt8])

  /// Whether `text` is on it, within one line.
  public func shows(_ text: String) -> Bool {
    if case .text(let lines) = self { lines.contains { $0.utf8.firstRange(of: text.utf8) != nil } } else { false }
  }
}

extension Collection where Element: Equatable {
  fileprivate func firstRange(of other: some Collection<Element>) -> Index? {
    indices.first { self[$0...].starts(with: other) }
  }
}
