import Machine
import Memory
import TestSupport
import Testing
import X86

@testable import Devices

/// An AHCI controller with a disk at port 0 and a disc in a drive at port 1, and what a driver does with them: commands
/// are put into memory as a driver does it, one table for each slot.
final class AHCIBench {
  static let sectors: UInt64 = 4096
  static let list: UInt64 = 0x10000
  static let received: UInt64 = 0x11000
  static let tables: UInt64 = 0x20000
  static let portSpacing: UInt64 = 0x40000

  let platform: FakePlatform
  let disk: FakeBlockBackend
  let disc: FakeBlockBackend
  let ahci: AHCIController
  /// What came as messages.
  private(set) var messages: [UInt32] = []
  /// The first wire's level.
  private(set) var pin = false

  init() throws {
    platform = try FakePlatform()
    disk = FakeBlockBackend(size: Self.sectors * 512, memory: platform.memory)
    disc = FakeBlockBackend(size: 256 * 2048, memory: platform.memory, isReadOnly: true)
    ahci = AHCIController(drives: [
      .disk(disk, serial: "SN1", cable: .serial), .opticalDrive(disc, serial: "SN2", cable: .serial),
    ])
    let wires = (0..<4).map { wire in InterruptLine { [unowned self] in if wire == 2 { pin = $0 } } }
    let bus = PCIBus(interrupts: PCIInterruptRouter(inputs: wires)) { [unowned self] in messages.append($1) }
    bus.insert(ahci, at: PCIAddress(device: 2))
    _ = platform.start(ahci)
    // Memory, bus master.
    ahci.pci.write(4, 6)
  }

  func host(_ offset: UInt64) -> UInt32 { UInt32(truncatingIfNeeded: ahci.peek(offset, size: 4)) }

  func port(_ offset: UInt64, port: UInt64 = 0) -> UInt32 { host(0x100 + 0x80 * port + offset) }

  func set(_ offset: UInt64, _ value: UInt32, port: UInt64 = 0) {
    ahci.poke(0x100 + 0x80 * port + offset, UInt64(value), size: 4)
  }

  /// Gives a port its memory, and starts it; all interrupts are enabled.
  func start(port: UInt64 = 0) {
    let base = Self.portSpacing * port
    set(0x00, UInt32(Self.list + base), port: port)
    set(0x08, UInt32(Self.received + base), port: port)
    set(0x18, 0x10, port: port)
    set(0x30, 0xffff_ffff, port: port)
    set(0x10, 0xffff_ffff, port: port)
    set(0x14, 0xffff_ffff, port: port)
    set(0x18, 0x11, port: port)
    ahci.poke(4, 1 << 31 | 2, size: 4)
  }

  func store<T: BitwiseCopyable>(_ value: T, _ address: UInt64) {
    #expect(platform.memory.store(value, at: GuestPhysicalAddress(address)))
  }

  func memory(_ address: UInt64, count: Int) -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: count)
    #expect(bytes.withUnsafeMutableBytes { platform.memory.read(GuestPhysicalAddress(address), into: $0) })
    return bytes
  }

  func frame(_ offset: UInt64, port: UInt64 = 0) -> [UInt8] {
    memory(Self.received + Self.portSpacing * port + offset, count: 20)
  }

  func table(_ slot: UInt64, port: UInt64 = 0) -> UInt64 { Self.tables + Self.portSpacing * port + 0x400 * slot }

  /// Puts a command into a slot, with its regions of an address and a size each.
  func prepare(
    _ slot: UInt64 = 0, _ code: UInt8, lba: UInt64 = 0, count: UInt16 = 1, features: UInt16 = 0, device: UInt8 = 0x40,
    regions: [(UInt64, UInt64)] = [], packet: [UInt8] = [], port: UInt64 = 0
  ) {
    let header = Self.list + Self.portSpacing * port + 32 * slot
    let table = table(slot, port: port)
    store(UInt32(5) | UInt32(regions.count) << 16, header)
    store(UInt32(0), header + 4)
    store(table, header + 8)
    let bytes: [UInt8] = [
      0x27, 0x80, code, UInt8(features & 0xff), UInt8(lba & 0xff), UInt8(lba >> 8 & 0xff), UInt8(lba >> 16 & 0xff),
      device, UInt8(lba >> 24 & 0xff), UInt8(lba >> 32 & 0xff), UInt8(lba >> 40 & 0xff), UInt8(features >> 8),
      UInt8(count & 0xff), UInt8(count >> 8), 0, 0, 0, 0, 0, 0,
    ]
    for (index, byte) in bytes.enumerated() { store(byte, table + UInt64(index)) }
    for index in 0..<16 { store(index < packet.count ? packet[index] : 0, table + 0x40 + UInt64(index)) }
    for (index, region) in regions.enumerated() {
      store(region.0, table + 0x80 + 16 * UInt64(index))
      store(UInt32(region.1 - 1), table + 0x8c + 16 * UInt64(index))
    }
  }

  /// A queued command: the slot is its tag.
  func prepareQueued(_ slot: UInt64, _ code: UInt8, lba: UInt64, sectors: UInt16, at address: UInt64) {
    prepare(
      slot, code, lba: lba, count: UInt16(slot) << 3, features: sectors, regions: [(address, 512 * UInt64(sectors))])
  }

  func issue(_ slots: UInt32 = 1, queued: Bool = false, port: UInt64 = 0) {
    if queued { set(0x34, slots, port: port) }
    set(0x38, slots, port: port)
  }

  /// Bytes that the host is told have moved.
  func movedCount(_ slot: UInt64 = 0, port: UInt64 = 0) -> UInt32? {
    platform.memory.load(GuestPhysicalAddress(Self.list + Self.portSpacing * port + 32 * slot + 4), as: UInt32.self)
  }

  /// Takes what a port has to tell, as a driver's interrupt handler does it.
  func takeInterrupt(port: UInt64 = 0) -> UInt32 {
    let causes = self.port(0x10, port: port)
    set(0x10, causes, port: port)
    ahci.poke(8, UInt64(1) << port, size: 4)
    return causes
  }

  /// One message, switched on.
  func enableMessages() {
    let capability = ahci.pci.read(0x34)
    for (index, byte) in [0, 0, 0xe0, 0xfe].enumerated() { ahci.pci.write(capability + 4 + UInt8(index), UInt8(byte)) }
    ahci.pci.write(capability + 12, 0x41)
    ahci.pci.write(capability + 2, 1)
  }

  func takeMessages() -> Int {
    defer { messages = [] }
    return messages.count
  }
}
