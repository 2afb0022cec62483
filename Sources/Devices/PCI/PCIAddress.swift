/// Where a function sits on a PCI bus: device 0 to 31, function 0 to 7.
public struct PCIAddress: Hashable, Comparable, Codable, Sendable, CustomStringConvertible {
  public let device: Int
  public let function: Int

  /// Only the low five bits of the device and the low three of the function count.
  public init(device: Int, function: Int = 0) {
    self.device = device & 0x1f
    self.function = function & 7
  }

  public static func < (left: Self, right: Self) -> Bool {
    (left.device, left.function) < (right.device, right.function)
  }

  /// As lspci writes it: "01.3".
  public var description: String {
    (device < 16 ? "0" : "") + String(device, radix: 16) + "." + String(function)
  }
}
