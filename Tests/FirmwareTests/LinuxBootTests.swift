import CHost
import Memory
import Testing
import X86

@testable import Firmware

@Suite struct LinuxBootTests {
  private let memory: GuestMemory
  private let map: PhysicalMemoryMap

  init() throws {
    memory = try GuestMemory(size: 16 << 20)
    map = PhysicalMemoryMap(memory)
  }

  private func load<T: FixedWidthInteger & BitwiseCopyable>(_ address: UInt64, _: T.Type = T.self) -> T? {
    memory.load(GuestPhysicalAddress(address), as: T.self)
  }

  private func boot(
    _ image: [UInt8], ramDisk: [UInt8]? = nil, commandLine: String = "console=ttyS0",
    hasDisplay: Bool = false, state: inout CPUState
  ) throws(BootFailure) -> LoadedKernel {
    try BootLoader.load(
      BootParameters(
        kernel: BootFile(name: "kernel", bytes: image),
        modules: ramDisk.map { [BootModule(BootFile(name: "initrd", bytes: $0))] } ?? [], commandLine: commandLine,
        acpiRootPointer: GuestPhysicalAddress(0xe0000), hasDisplay: hasDisplay),
      memory: memory, map: map, state: &state)
  }

  private func failure(
    _ image: [UInt8], ramDisk: [UInt8]? = nil, commandLine: String = ""
  ) -> BootFailure? {
    var state = CPUState()
    do throws(BootFailure) {
      _ = try boot(image, ramDisk: ramDisk, commandLine: commandLine, state: &state)
      return nil
    } catch {
      return error
    }
  }

  @Test func entersIn64BitMode() throws {
    var state = CPUState()
    state.gpr.0 = 77
    state.rflags = .max
    let loaded = try boot(SyntheticImage.linux(), state: &state)
    #expect(loaded.bootProtocol == .linux64 && loaded.kernel == 0x20_0000..<0x20_4000)
    #expect(state.rip == 0x20_0200 && loaded.entry == state.rip)
    #expect(state.gpr.6 == BootLayout.zeroPage && state.gpr.0 == 0)
    #expect(state.rflags == RFLAGS.fixed && state.cpl == 0 && state.activity == .running)
    #expect(state.efer == EFER.lme | EFER.lma)
    #expect(state.cr0 == CR0.pe | CR0.et | CR0.pg && state.cr4 == CR4.pae)
    #expect(state.segments.1.selector == 0x10 && state.segments.1.attributes == 0xa09b)
    for data in [state.segments.0, state.segments.2, state.segments.3, state.segments.4, state.segments.5] {
      #expect(data.selector == 0x18 && data.attributes == 0xc093 && data.limit == .max && data.base == 0)
    }
    #expect(state.tr.attributes == 0x8b && state.ldtr.attributes == 0)
    #expect(load(0x20_0000, UInt8.self) == SyntheticImage.codeByte)
    #expect(load(0x20_3fff, UInt8.self) == SyntheticImage.codeByte && load(0x20_4000, UInt8.self) == 0)
  }

  /// `struct screen_info`: a VGA in mode 3, or nothing.
  @Test(arguments: [false, true]) func tellsOfADisplay(hasDisplay: Bool) throws {
    var state = CPUState()
    _ = try boot(SyntheticImage.linux(), hasDisplay: hasDisplay, state: &state)
    let bytes = (0..<0x12).map { load(BootLayout.zeroPage + $0, UInt8.self) ?? 0xff }
    #expect(
      bytes
        == (hasDisplay ? [0, 0, 0, 0, 0, 0, 3, 80, 0, 0, 3, 0, 0, 0, 25, 1, 16, 0] : Array(repeating: 0, count: 18)))
  }

  @Test func descriptorTableHoldsWhatIsLoaded() throws {
    var state = CPUState()
    _ = try boot(SyntheticImage.linux(), state: &state)
    #expect(state.gdtr.limit == 0x2f)
    #expect(load(state.gdtr.base, UInt64.self) == 0)
    #expect(load(state.gdtr.base + 0x10, UInt64.self) == 0x00af_9b00_0000_ffff)
    #expect(load(state.gdtr.base + 0x18, UInt64.self) == 0x00cf_9300_0000_ffff)
    #expect(load(state.gdtr.base + 0x20, UInt64.self) == 0x0000_8b00_0000_0067)
  }

  @Test func mapsTheLow4GiBToThemselves() throws {
    var state = CPUState()
    _ = try boot(SyntheticImage.linux(), state: &state)
    func entry(_ table: UInt64, _ address: UInt64, shift: UInt64) -> UInt64 {
      load(table & 0xf_ffff_ffff_f000 + 8 * (address >> shift & 0x1ff)) ?? 0
    }
    for address: UInt64 in [0, 0x1f_ffff, 0x20_0000, 0x4000_0000, 0xbfff_ffff, 0xfee0_0000, 0xffff_ffff] {
      let directory = entry(entry(state.cr3, address, shift: 39), address, shift: 30)
      let page = entry(directory, address, shift: 21)
      #expect(directory & 3 == 3 && page & 0x83 == 0x83)
      #expect(page & ~0x1f_ffff == address & ~0x1f_ffff)
    }
    #expect(entry(entry(state.cr3, 1 << 32, shift: 39), 1 << 32, shift: 30) == 0)
  }

  @Test func zeroPageSaysWhatIsWhere() throws {
    var state = CPUState()
    let disk = SyntheticImage.ramDisk(5000)
    let loaded = try boot(SyntheticImage.linux(), ramDisk: disk, commandLine: "quiet ä", state: &state)
    let page = BootLayout.zeroPage
    #expect(load(page + 0x1fe, UInt16.self) == 0xaa55 && load(page + 0x202, UInt32.self) == 0x5372_6448)
    #expect(load(page + 0x210, UInt8.self) == 0xff)
    #expect(load(page + 0x214, UInt32.self) == 0x20_0000)
    #expect(load(page + 0x070, UInt64.self) == 0xe0000)

    // The initial RAM disk: whole pages at the end of memory.
    let place: Range<UInt64> = 0xff_e000..<0xff_e000 + 5000
    #expect(loaded.modules == [place])
    #expect(load(page + 0x218, UInt32.self) == 0xff_e000 && load(page + 0x21c, UInt32.self) == 5000)
    var copy = [UInt8](repeating: 0, count: disk.count)
    #expect(copy.withUnsafeMutableBytes { memory.read(GuestPhysicalAddress(0xff_e000), into: $0) })
    #expect(copy == disk)

    let address = try #require(load(page + 0x228, UInt32.self))
    let text = (0..<9).map { load(UInt64(address) + $0, UInt8.self) ?? 0xff }
    #expect(text == Array("quiet ä".utf8) + [0])

    #expect(load(page + 0x1e8, UInt8.self) == UInt8(map.entries.count))
    for (index, entry) in map.entries.enumerated() {
      let base = page + 0x2d0 + 20 * UInt64(index)
      #expect(load(base, UInt64.self) == entry.range.lowerBound)
      #expect(load(base + 8, UInt64.self) == UInt64(entry.range.count))
      #expect(load(base + 16, UInt32.self) == entry.kind.rawValue)
    }
  }

  @Test func entersIn32BitModeWithoutA64BitEntry() throws {
    var state = CPUState()
    let loaded = try boot(SyntheticImage.linux(flags: 0), state: &state)
    #expect(loaded.bootProtocol == .linux32 && state.rip == 0x20_0000)
    #expect(state.cr0 == CR0.pe | CR0.et && state.cr4 == 0 && state.efer == 0 && state.cr3 == 0)
    #expect(state.segments.1.attributes == 0xc09b && state.segments.1.selector == 0x10)
    #expect(state.gpr.6 == BootLayout.zeroPage && state.gpr.3 == 0)
  }

  @Test func choosesTheLoadAddress() throws {
    func address(_ image: [UInt8]) throws(BootFailure) -> UInt64 {
      var state = CPUState()
      return try boot(image, state: &state).kernel.lowerBound
    }
    #expect(try address(SyntheticImage.linux(preferredAddress: 0x40_0000)) == 0x40_0000)
    #expect(try address(SyntheticImage.linux(preferredAddress: 0)) == 0x20_0000)
    #expect(try address(SyntheticImage.linux(preferredAddress: 0, alignment: 0x1000)) == 0x10_0000)
    #expect(try address(SyntheticImage.linux(isRelocatable: false, preferredAddress: 0x40_0000)) == 0x10_0000)
  }

  @Test func refusesWhatDoesNotFit() {
    let inMemory: UInt64 = 16 << 20
    #expect(
      failure(SyntheticImage.linux(initSize: 15 << 20))?.problem
        == .kernelDoesNotFit(needs: 17 << 20, has: inMemory))
    // Where it runs counts, not only where it is loaded.
    #expect(
      failure(SyntheticImage.linux(isRelocatable: false, preferredAddress: 1 << 30))?.problem
        == .kernelDoesNotFit(needs: 1 << 30 | 0x10_0000, has: inMemory))
    #expect(
      failure(SyntheticImage.linux(preferredAddress: .max))?.problem == .kernelDoesNotFit(needs: .max, has: inMemory))
    #expect(failure(SyntheticImage.linux(), commandLine: String(repeating: "x", count: 255)) == nil)
    #expect(
      failure(SyntheticImage.linux(), commandLine: String(repeating: "x", count: 256))
        == BootFailure("kernel", .commandLineTooLong(count: 256, limit: 255)))
    #expect(
      failure(SyntheticImage.linux(commandLineLimit: .max), commandLine: String(repeating: "x", count: 65536))?.problem
        == .commandLineTooLong(count: 65536, limit: 65535))
    #expect(failure(SyntheticImage.linux(), commandLine: "a\0b")?.problem == .commandLineHasNUL)
  }

  @Test func refusesRAMDisksThatDoNotFit() {
    let room: UInt64 = (16 << 20) - 0x30_0000
    #expect(failure(SyntheticImage.linux(), ramDisk: SyntheticImage.ramDisk(Int(room))) == nil)
    #expect(
      failure(SyntheticImage.linux(), ramDisk: SyntheticImage.ramDisk(Int(room) + 1))
        == BootFailure("initrd", .ramDiskDoesNotFit(size: room + 1, room: room)))
    // Its highest address is the kernel's to say.
    let low = SyntheticImage.linux(ramDiskAddressMax: 0x3f_ffff)
    #expect(failure(low, ramDisk: SyntheticImage.ramDisk(0x10_0000)) == nil)
    #expect(
      failure(low, ramDisk: SyntheticImage.ramDisk(0x10_0001))?.problem
        == .ramDiskDoesNotFit(size: 0x10_0001, room: 0x10_0000))
    #expect(
      failure(SyntheticImage.linux(ramDiskAddressMax: 0), ramDisk: SyntheticImage.ramDisk(10))?.problem
        == .ramDiskDoesNotFit(size: 10, room: 0))
  }

  @Test func refusesWhatIsNoRAMDisk() {
    #expect(failure(SyntheticImage.linux(), ramDisk: [])?.problem == .empty)
    #expect(failure(SyntheticImage.linux(), ramDisk: Array("random".utf8))?.problem == .notARAMDisk(found: nil))
    #expect(
      failure(SyntheticImage.linux(), ramDisk: SyntheticImage.elf(is64Bit: true))?.problem
        == .notARAMDisk(found: "an ELF file"))
    #expect(failure(SyntheticImage.linux(), ramDisk: [0x1f, 0x8b, 8]) == nil)
    #expect(failure(SyntheticImage.linux(), ramDisk: [0, 0, 0, 0] + SyntheticImage.ramDisk(100)) == nil)
  }

  @Test func smallestGuestHasNoRoom() throws {
    let memory = try GuestMemory(size: 1 << 20)
    var state = CPUState()
    #expect(throws: BootFailure("k", .kernelDoesNotFit(needs: 0x30_0000, has: 1 << 20))) {
      try BootLoader.load(
        BootParameters(kernel: BootFile(name: "k", bytes: SyntheticImage.linux())), memory: memory,
        map: PhysicalMemoryMap(memory), state: &state)
    }
  }
}
