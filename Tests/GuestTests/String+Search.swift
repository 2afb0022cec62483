extension StringProtocol {
  /// Where `text` first stands, from `start` on.
  func range(of text: String, from start: Index? = nil) -> Range<Index>? {
    var position = start ?? startIndex
    while position < endIndex {
      if self[position...].utf8.starts(with: text.utf8) {
        return position..<utf8.index(position, offsetBy: text.utf8.count)
      }
      position = utf8.index(after: position)
    }
    return nil
  }
}
