/// What SeaBIOS and OVMF are told about the machine by files of the configuration device (SeaBIOS, docs/Runtime_config.md;
/// OVMF, PlatformPei).
public enum FirmwareFiles {
  /// Bits of "etc/system-states": the state is offered; below it, the value for its SLP_TYP.
  private static let isOffered: UInt8 = 0x80

  /// The RAM, as ranges of the E820h interface.
  public static func memoryMap(_ ranges: [Range<UInt64>]) -> (name: String, bytes: [UInt8]) {
    var map = ByteWriter()
    for range in ranges {
      map.append(range.lowerBound)
      map.append(UInt64(range.count))
      map.append(PhysicalMemoryMap.Kind.ram.rawValue)
    }
    return ("etc/e820", map.bytes)
  }

  /// Which sleeping states there are: S3 where the hardware offers it, and power-off.
  public static func systemStates(_ hardware: ACPIConfiguration.FixedHardware) -> (name: String, bytes: [UInt8]) {
    var states = [UInt8](repeating: 0, count: 6)
    states[0] = isOffered
    if let type = hardware.suspendType { states[3] = isOffered | type }
    states[5] = isOffered | hardware.powerOffType
    return ("etc/system-states", states)
  }

  /// The serial port that SeaBIOS is to use as its console, beside the display if there is one.
  public static func serialConsole(port: UInt16) -> (name: String, bytes: [UInt8]) {
    ("etc/sercon-port", bytes(port))
  }

  /// Where the port is by which a guest tells that it has crashed.
  public static func panicPort(_ port: UInt16) -> (name: String, bytes: [UInt8]) {
    ("etc/pvpanic-port", bytes(port))
  }

  private static func bytes(_ port: UInt16) -> [UInt8] { withUnsafeBytes(of: port.littleEndian) { Array($0) } }

  /// The display's option ROM, which SeaBIOS runs for that PCI device.
  public static func displayROM(_ bytes: [UInt8], vendor: UInt16, device: UInt16) -> (name: String, bytes: [UInt8]) {
    func digits(_ value: UInt16) -> String {
      let text = String(value, radix: 16)
      return String(repeating: "0", count: 4 - text.count) + text
    }
    return ("pci\(digits(vendor)),\(digits(device)).rom", bytes)
  }

  /// Where to look for a system, best first, as Open Firmware paths.
  public static func bootOrder(_ paths: [String]) -> (name: String, bytes: [UInt8]) {
    ("bootorder", Array(paths.joined(separator: "\n").utf8) + [0])
  }
}
