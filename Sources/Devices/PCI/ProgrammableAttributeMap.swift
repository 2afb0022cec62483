import Memory

/// What lies between 640 KiB and 1 MiB in a PC with an i440FX: ROM, RAM that ROM was copied to ("shadow RAM"), write-protected
/// or not, and the display's window (82441FX datasheet, 3.2.18 "PAM" and 3.2.21 "SMRAM").
///
/// Each of 13 segments from 0xc0000 on has two bits: whether RAM answers reads, and whether it takes writes. What RAM does
/// not take goes to the bus, where the ROM's last 128 KiB answer reads below 1 MiB and nothing takes writes. The display's
/// window is the bus's, unless the SMRAM register opens the RAM behind it.
public final class ProgrammableAttributeMap {
  /// Offsets of the registers in the host bridge's configuration space.
  public static let registers = 0x59...0x5f
  public static let smramRegister = 0x72

  private static let displayWindow: Range<UInt64> = 0xa_0000..<0xc_0000
  private static let end: UInt64 = 1 << 20
  private static let readEnable: UInt8 = 1
  private static let writeEnable: UInt8 = 2

  private let memory: GuestMemory
  /// What answers below `end` where RAM does not.
  private let shadowed: GuestMemory.DeviceMemory?
  private let shadowedRange: Range<UInt64>
  /// RAM answers in the display's window; nil: not yet said.
  private var isWindowOpen: Bool?

  public init(_ memory: GuestMemory) {
    self.memory = memory
    let rom = memory.rom
    let count = min(rom.count, 128 << 10)
    shadowed = count > 0 ? rom.part(rom.count - count, count: count) : nil
    shadowedRange = Self.end - count..<Self.end
  }

  /// Takes the registers over: `attributes` are the seven of `registers`, in order.
  public func apply(_ attributes: [UInt8], smram: UInt8) {
    guard attributes.count == Self.registers.count else { return }
    // The first register's upper half is the BIOS area, of 64 KiB; each half of the others is one of 16 KiB.
    set(0xf_0000..<Self.end, attributes[0] >> 4)
    for index in 0..<12 {
      let start = 0xc_0000 + UInt64(index) << 14
      set(start..<start + 1 << 14, attributes[1 + index / 2] >> (index % 2 == 0 ? 0 : 4))
    }
    // Open, and enabled. The window is the display's otherwise, which may do with it what it wants.
    let isOpen = smram & 0x48 == 0x48
    guard isOpen != isWindowOpen else { return }
    isWindowOpen = isOpen
    memory.map(Self.displayWindow, to: isOpen ? .ram : .bus)
  }

  /// A register's value that has RAM take writes too where it answers reads.
  static func writable(_ attributes: UInt8) -> UInt8 {
    // Two attributes; each one's write bit stands above its read bit.
    attributes | (attributes & (readEnable | readEnable << 4)) << 1
  }

  private func set(_ range: Range<UInt64>, _ attribute: UInt8) {
    let reads = attribute & Self.readEnable != 0
    let writes = attribute & Self.writeEnable != 0
    if reads { return memory.map(range, to: writes ? .ram : .protectedRAM) }
    let inROM = range.clamped(to: shadowedRange)
    if let shadowed, !inROM.isEmpty {
      let part = shadowed.part(inROM.lowerBound - shadowedRange.lowerBound, count: UInt64(inROM.count))
      memory.map(inROM, to: writes ? .memoryAndRAM(part) : .readOnlyMemory(part))
    }
    // ROMs are smaller than a segment at times.
    let rest = range.lowerBound..<max(range.lowerBound, min(range.upperBound, shadowedRange.lowerBound))
    if !rest.isEmpty { memory.map(rest, to: writes ? .busAndRAM : .bus) }
  }
}
