import ArgumentParser

/// A guest-linear address in hexadecimal: `0xffffffff81000000`, or without the prefix.
struct LinearAddress: Equatable, ExpressibleByArgument {
  var value: UInt64

  init?(argument: String) {
    let lowercased = argument.lowercased()
    let digits = lowercased.hasPrefix("0x") ? lowercased.dropFirst(2) : lowercased[...]
    // The conversion would take a sign.
    guard digits.first?.isHexDigit == true, let value = UInt64(digits, radix: 16) else { return nil }
    self.value = value
  }
}
