import ArgumentParser
import Firmware

/// `0x7c00`, an address below 1 MiB, or `07c0:0000`, a segment and an offset in hexadecimal.
extension RealModeAddress: ExpressibleByArgument {
  public init?(argument: String) {
    func hexadecimal<T: FixedWidthInteger>(_ text: some StringProtocol) -> T? {
      let text = text.lowercased()
      return T(text.hasPrefix("0x") ? String(text.dropFirst(2)) : text, radix: 16)
    }
    let parts = argument.split(separator: ":", omittingEmptySubsequences: false)
    if parts.count == 2 {
      guard let segment: UInt16 = hexadecimal(parts[0]), let offset: UInt16 = hexadecimal(parts[1]) else { return nil }
      self.init(segment: segment, offset: offset)
    } else {
      let isHexadecimal = argument.lowercased().hasPrefix("0x")
      guard parts.count == 1, let address: UInt64 = isHexadecimal ? hexadecimal(argument) : UInt64(argument) else {
        return nil
      }
      self.init(linear: address)
    }
  }
}
