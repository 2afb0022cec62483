import Memory
import Testing
import X86

@testable import Devices

@Suite struct ProgrammableAttributeMapTests {
  private func read(_ memory: GuestMemory, _ address: UInt64) -> UInt8? {
    memory.load(GuestPhysicalAddress(address), as: UInt8.self)
  }

  @Test func segments() throws {
    let rom: Range<UInt64> = 0xfffc_0000..<0x1_0000_0000
    let memory = try GuestMemory(size: 1 << 20, readOnly: rom)
    memory.install(readOnly: (0..<rom.count).map { UInt8(truncatingIfNeeded: $0 >> 14) })
    let map = ProgrammableAttributeMap(memory)
    let bridge = PCIBridge.hostBridge440FX()
    bridge.pci.onChange = { [unowned bridge] in
      map.apply(
        ProgrammableAttributeMap.registers.map { bridge.pci.read(UInt8($0)) },
        smram: bridge.pci.read(UInt8(ProgrammableAttributeMap.smramRegister)))
    }
    bridge.reset()
    // The ROM's last 128 KiB are 16 KiB pieces 8 to 15.
    for (index, address) in stride(from: 0xe_0000 as UInt64, to: 0x10_0000, by: 0x4000).enumerated() {
      #expect(read(memory, address) == UInt8(8 + index))
    }
    for address: UInt64 in [0xa_0000, 0xb_8000, 0xc_0000, 0xd_ffff] { #expect(read(memory, address) == nil) }
    // All read from ROM and written to RAM, then all RAM: what firmware does to copy itself.
    bridge.pci.write(0x59, 0x20)
    #expect(memory.store(0x77 as UInt8, at: GuestPhysicalAddress(0xf_1234)) && read(memory, 0xf_1234) == 12)
    bridge.pci.write(0x59, 0x30)
    #expect(read(memory, 0xf_1234) == 0x77)
    // One segment of 16 KiB, the upper of its register.
    bridge.pci.write(0x5b, 0x30)
    #expect(read(memory, 0xc_8000) == nil && read(memory, 0xc_c000) == 0 && read(memory, 0xd_0000) == nil)
    bridge.pci.write(0x59, 0x10)
    #expect(!memory.store(0 as UInt8, at: GuestPhysicalAddress(0xf_1234)) && read(memory, 0xf_1234) == 0x77)
    // A machine that wakes keeps its memory, which is open for firmware's stack; one that is reset does not.
    bridge.reset()
    #expect(read(memory, 0xf_1234) == 12)
    bridge.wake()
    #expect(read(memory, 0xf_1234) == 0x77 && read(memory, 0xc_8000) == nil)
    #expect(memory.store(0x78 as UInt8, at: GuestPhysicalAddress(0xf_1234)) && read(memory, 0xf_1234) == 0x78)
    // The RAM behind the display.
    bridge.pci.write(0x72, 0x4a)
    #expect(read(memory, 0xa_0000) == 0)
    bridge.pci.write(0x72, 0x0a)
    #expect(read(memory, 0xa_0000) == nil)
  }

  /// A ROM that is smaller than what it is shown in.
  @Test func smallROM() throws {
    let memory = try GuestMemory(size: 1 << 20, readOnly: 0xffff_f000..<0x1_0000_0000)
    memory.install(readOnly: [UInt8](repeating: 9, count: 4096))
    ProgrammableAttributeMap(memory).apply([UInt8](repeating: 0, count: 7), smram: 0)
    #expect(read(memory, 0xf_f000) == 9 && read(memory, 0xf_efff) == nil && read(memory, 0xe_0000) == nil)
  }
}
