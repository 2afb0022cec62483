import Memory

/// The PCI interrupt routing table (PCI IRQ Routing Table Specification 1.0): which of the PIIX3's route registers each slot's
/// pins lead to, for systems that use the 8259s and no ACPI.
public enum InterruptRoutingTable {
  /// Systems look for it on every 16 bytes from 0xf0000 on.
  static let address: UInt64 = 0xf_f100
  private static let devices = 1..<32 as Range<UInt8>
  /// Interrupts that the routes may be set to: 5, 10 and 11, as `_PRS` has it.
  private static let available: UInt16 = 1 << 5 | 1 << 10 | 1 << 11
  /// The first route register, by which the table names a wire.
  private static let firstRoute: UInt8 = 0x60

  /// Writes the table into guest memory, which must not be running.
  public static func install(in memory: GuestMemory) { memory.place(table, at: address) }

  static var table: [UInt8] {
    var table = ByteWriter()
    table.append("$PIR", count: 4)
    table.append(UInt16(0x0100))
    table.append(UInt16(32 + 16 * devices.count))
    // The router: bus 0, device 1, function 0. No interrupt is PCI's alone.
    table.append([0, 1 << 3])
    table.append(UInt16(0))
    // It is compatible with Intel's PIIX3.
    table.append(UInt16(0x8086))
    table.append(UInt16(0x7000))
    // No data of the maker's; 11 reserved bytes; sum.
    table.append(UInt32(0))
    table.append([UInt8](repeating: 0, count: 12))
    for device in devices {
      table.append([0, device << 3])
      for pin in 0..<4 as Range<UInt8> {
        // The first register has the wire of device 1's pin A.
        table.append(firstRoute + (device + pin - 1) & 3)
        table.append(available)
      }
      // On the board, without a slot's number.
      table.append([0, 0])
    }
    table.putChecksum(at: 31)
    return table.bytes
  }
}
