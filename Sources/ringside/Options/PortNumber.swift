import ArgumentParser

/// An I/O port: `0xf4` or `244`.
struct PortNumber: Equatable, ExpressibleByArgument {
  var value: UInt16

  init?(argument: String) {
    let lowercased = argument.lowercased()
    let parsed = lowercased.hasPrefix("0x") ? UInt16(lowercased.dropFirst(2), radix: 16) : UInt16(lowercased)
    guard let parsed else { return nil }
    value = parsed
  }
}
