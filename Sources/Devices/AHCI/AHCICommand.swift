import Memory
import X86

/// A command as a slot of the command list describes it (AHCI 1.3.1, 4.2.2 and 4.2.3): a header, and a table with what goes
/// to the drive and where data lie.
struct AHCICommand {
  private static let headerSize: UInt64 = 32
  private static let packetOffset: UInt64 = 0x40
  private static let regionsOffset: UInt64 = 0x80

  let slot: Int
  let frame: FrameInformation.ToDevice
  let packet: [UInt8]
  private let header: UInt64
  private let table: UInt64
  private let regionCount: UInt64

  /// Nil where header or table are not in memory, or what goes to the drive is no frame of registers.
  init?(slot: Int, list: UInt64, memory: GuestMemory) {
    self.slot = slot
    header = list &+ UInt64(slot) * Self.headerSize
    guard let flags = memory.load(GuestPhysicalAddress(header), as: UInt32.self),
      let table = memory.load(GuestPhysicalAddress(header &+ 8), as: UInt64.self)
    else { return nil }
    self.table = table & ~0x7f
    regionCount = UInt64(flags >> 16)
    var bytes = [UInt8](repeating: 0, count: Int(Self.packetOffset) + 16)
    guard bytes.withUnsafeMutableBytes({ memory.read(GuestPhysicalAddress(table & ~0x7f), into: $0) }),
      let frame = FrameInformation.ToDevice(bytes)
    else { return nil }
    self.frame = frame
    packet = Array(bytes[Int(Self.packetOffset)...])
  }

  /// Reads the table of regions until `count` bytes are described, or all that it has. An entry is an address and a size of
  /// up to 4 MiB, both even. Nil where the table is not in memory.
  func segments(_ memory: GuestMemory, count: UInt64) -> GuestSegments? {
    var segments = GuestSegments()
    var entry = table &+ Self.regionsOffset
    for _ in 0..<regionCount where segments.count < count {
      guard let address = memory.load(GuestPhysicalAddress(entry), as: UInt64.self),
        let size = memory.load(GuestPhysicalAddress(entry &+ 12), as: UInt32.self)
      else { return nil }
      segments.append(address & ~1, count: UInt64(size & 0x3f_ffff | 1) + 1, limit: count)
      entry &+= 16
    }
    return segments
  }

  /// Tells the host how many bytes have moved.
  func noteCount(_ count: UInt64, in memory: GuestMemory) {
    _ = memory.store(UInt32(truncatingIfNeeded: count), at: GuestPhysicalAddress(header &+ 4))
  }
}
