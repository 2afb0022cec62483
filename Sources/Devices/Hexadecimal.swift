extension FixedWidthInteger {
  /// `0x` and hexadecimal digits, for messages.
  var hexadecimal: String { "0x" + String(self, radix: 16) }
}
