import CHost
import Memory
import Testing
import X86

@testable import Firmware

@Suite struct PVHBootTests {
  private let memory: GuestMemory
  private let map: PhysicalMemoryMap

  init() throws {
    memory = try GuestMemory(size: 8 << 20)
    map = PhysicalMemoryMap(memory)
  }

  private func load<T: FixedWidthInteger & BitwiseCopyable>(_ address: UInt64, _: T.Type = T.self) -> T? {
    memory.load(GuestPhysicalAddress(address), as: T.self)
  }

  @Test(arguments: [false, true]) func entersWithStartInformation(is64Bit: Bool) throws {
    memory.clear(0x20_0000..<0x20_3000)
    for page in 0x200..<0x203 as Range<UInt64> {
      #expect(memory.store(UInt64.max, at: GuestPhysicalAddress(page << 12)))
    }
    var state = CPUState()
    let loaded = try BootLoader.load(
      BootParameters(
        kernel: BootFile(name: "kernel", bytes: SyntheticImage.elf(is64Bit: is64Bit)),
        modules: [
          BootModule(BootFile(name: "module", bytes: [1, 2, 3])),
          BootModule(BootFile(name: "other", bytes: [4, 5]), arguments: "text"),
        ], commandLine: "hello",
        acpiRootPointer: GuestPhysicalAddress(0xe0000)),
      memory: memory, map: map, state: &state)
    #expect(loaded.bootProtocol == .pvh && loaded.kernel == 0x20_0000..<0x20_2000)
    #expect(state.rip == 0x20_0010)
    #expect(state.cr0 == CR0.pe | CR0.et && state.cr4 == 0 && state.efer == 0)
    #expect(state.rflags == RFLAGS.fixed)
    #expect(state.segments.1.attributes == 0xc09b && state.segments.3.attributes == 0xc093)
    #expect(state.tr.limit == 0x67 && state.tr.base == 0)

    // File contents, zeros behind them, and nothing beyond.
    #expect(load(0x20_0fff, UInt8.self) == SyntheticImage.codeByte && load(0x20_1000, UInt64.self) == 0)
    #expect(load(0x20_2000, UInt64.self) == .max)

    let info = state.gpr.3
    #expect(load(info, UInt32.self) == 0x336e_c578 && load(info + 4, UInt32.self) == 1)
    #expect(load(info + 12, UInt32.self) == 2)
    let module = try #require(load(info + 16, UInt64.self))
    #expect(load(module, UInt64.self) == 0x7f_f000 && load(module + 8, UInt64.self) == 3)
    #expect(load(0x7f_f000, UInt16.self) == 0x0201 && load(module + 16, UInt64.self) == 0)
    #expect(load(module + 32, UInt64.self) == 0x7f_e000 && load(0x7f_e000, UInt16.self) == 0x0504)
    let moduleText = try #require(load(module + 48, UInt64.self))
    #expect((0..<5).map { load(moduleText + $0, UInt8.self) } == Array("text".utf8) + [0])
    #expect(loaded.modules == [0x7f_f000..<0x7f_f003, 0x7f_e000..<0x7f_e002])
    let text = try #require(load(info + 24, UInt64.self))
    #expect((0..<6).map { load(text + $0, UInt8.self) } == Array("hello".utf8) + [0])
    #expect(load(info + 32, UInt64.self) == 0xe0000)
    let entries = try #require(load(info + 40, UInt64.self))
    #expect(load(info + 48, UInt32.self) == UInt32(map.entries.count))
    for (index, entry) in map.entries.enumerated() {
      let base = entries + 24 * UInt64(index)
      #expect(load(base, UInt64.self) == entry.range.lowerBound)
      #expect(load(base + 8, UInt64.self) == UInt64(entry.range.count))
      #expect(load(base + 16, UInt32.self) == entry.kind.rawValue)
    }
  }

  @Test func refusesSegmentsWithoutMemory() throws {
    func failure(_ address: UInt32) -> BootFailure? {
      var image = ByteWriter(SyntheticImage.elf(is64Bit: false, entry: address))
      image.put(address, at: 0x34 + 0x0c)
      var state = CPUState()
      do throws(BootFailure) {
        _ = try BootLoader.load(
          BootParameters(kernel: BootFile(name: "kernel", bytes: image.bytes)), memory: memory, map: map, state: &state)
        return nil
      } catch {
        return error
      }
    }
    #expect(failure(0x10_0000) == nil)
    for address: UInt32 in [0, 0xf_f000, 0x7f_f000, 0x80_0000, 0xffff_0000] {
      let range = UInt64(address)..<UInt64(address) + 0x2000
      #expect(failure(address) == BootFailure("kernel", .segmentOutsideMemory(range)))
    }
  }
}
