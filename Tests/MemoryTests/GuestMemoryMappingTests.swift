import Synchronization
import Testing
import X86

@testable import Memory

/// Who answers where, when a chip set or a device has put something in RAM's place.
@Suite struct GuestMemoryMappingTests {
  private let rom: Range<UInt64> = 0xfffe_0000..<0x1_0000_0000

  private func makeMemory() throws -> GuestMemory {
    let memory = try GuestMemory(size: 2 << 20, readOnly: rom, deviceMemory: 64 << 10)
    memory.install(readOnly: [UInt8](repeating: 0x11, count: rom.count))
    #expect(memory.fill(GuestPhysicalAddress(0), count: 2 << 20, with: 0x22))
    return memory
  }

  private func read(_ memory: GuestMemory, _ address: UInt64) -> UInt8? {
    memory.load(GuestPhysicalAddress(address), as: UInt8.self)
  }

  private func write(_ memory: GuestMemory, _ address: UInt64, _ value: UInt8) -> Bool {
    memory.store(value, at: GuestPhysicalAddress(address))
  }

  @Test func shadowing() throws {
    let memory = try makeMemory()
    let area: Range<UInt64> = 0xf_0000..<0x10_0000
    let part = memory.rom.part(0x1_0000, count: 0x1_0000)
    #expect(read(memory, 0xf_0000) == 0x22)
    // Reads of ROM, writes lost.
    memory.map(area, to: .readOnlyMemory(part))
    #expect(read(memory, 0xf_0000) == 0x11 && !write(memory, 0xf_0000, 1) && read(memory, 0xe_ffff) == 0x22)
    #expect(!memory.contains(GuestPhysicalAddress(0xf_0000), count: 1))
    // Reads of ROM, writes to the RAM below.
    memory.map(area, to: .memoryAndRAM(part))
    #expect(write(memory, 0xf_0000, 0x33) && read(memory, 0xf_0000) == 0x11)
    #expect(memory.plainHostPage(of: GuestPhysicalAddress(0xf_0000)) == nil)
    // Reads of RAM, writes lost.
    memory.map(area, to: .protectedRAM)
    #expect(read(memory, 0xf_0000) == 0x33 && !write(memory, 0xf_0000, 1))
    // As ever.
    memory.map(area, to: .ram)
    #expect(write(memory, 0xf_0000, 0x44) && read(memory, 0xf_0000) == 0x44)
    #expect(memory.contains(GuestPhysicalAddress(0), count: 2 << 20))
  }

  @Test func holes() throws {
    let memory = try makeMemory()
    memory.map(0xa_0000..<0xc_0000, to: .bus)
    #expect(read(memory, 0xa_0000) == nil && read(memory, 0xb_ffff) == nil && read(memory, 0x9_ffff) == 0x22)
    #expect(!write(memory, 0xb_8000, 1) && read(memory, 0xc_0000) == 0x22)
    // DMA does not go across.
    #expect(!memory.contains(GuestPhysicalAddress(0x9_ff00), count: 0x200))
    #expect(!memory.fill(GuestPhysicalAddress(0x9_ff00), count: 0x200, with: 0) && read(memory, 0x9_ff00) == 0x22)
    memory.map(0xa_0000..<0xc_0000, to: .busAndRAM)
    #expect(read(memory, 0xa_0000) == nil && write(memory, 0xa_0000, 5))
    memory.map(0xa_0000..<0xc_0000, to: .ram)
    #expect(read(memory, 0xa_0000) == 5)
  }

  @Test func deviceMemory() throws {
    let memory = try makeMemory()
    let first = memory.takeDeviceMemory(16 << 10)
    let second = memory.takeDeviceMemory(48 << 10)
    #expect(first.base + (16 << 10) == second.base)
    let place: Range<UInt64> = 0xe000_0000..<0xe000_4000
    #expect(memory.isFree(place) && !memory.isFree(0x1f_f000..<0x20_1000) && !memory.isFree(rom))
    memory.map(place, to: .memory(first))
    #expect(!memory.isFree(place))
    #expect(write(memory, 0xe000_3fff, 7) && first.base.load(fromByteOffset: 0x3fff, as: UInt8.self) == 7)
    #expect(read(memory, 0xe000_4000) == nil)
    memory.map(place, to: .ram)
    #expect(read(memory, 0xe000_3fff) == nil)
  }

  /// Whoever follows hears which pages have come and gone, once for each real change.
  @Test func observers() throws {
    let memory = try makeMemory()
    let changes = Mutex<[GuestMemory.Remapping]>([])
    memory.observeRemapping { change in changes.withLock { $0.append(change) } }
    memory.map(0xa_0000..<0xa_2000, to: .bus)
    memory.map(0xa_0000..<0xa_2000, to: .bus)
    let seen = changes.withLock { $0 }
    #expect(seen.count == 1 && seen.first?.range == 0xa_0000..<0xa_2000 && seen.first?.pages == [0xa0..<0xa2])
    let copy = try makeMemory()
    if let change = seen.first { copy.takeOver(change, from: memory) }
    #expect(read(copy, 0xa_1fff) == nil && read(copy, 0xa_2000) == 0x22)
  }
}
