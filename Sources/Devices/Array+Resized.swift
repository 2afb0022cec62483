extension Array {
  /// The first `count` elements, made up with `filler`: what a device restores has the size it indexes.
  func resized(to count: Int, with filler: Element) -> [Element] {
    prefix(count) + Array(repeating: filler, count: Swift.max(0, count - self.count))
  }
}
