import CHost
import Memory
import Testing
import X86

@testable import Firmware

@Suite struct MultibootTests {
  private let memory: GuestMemory
  private let map: PhysicalMemoryMap

  init() throws {
    memory = try GuestMemory(size: 8 << 20)
    map = PhysicalMemoryMap(memory)
  }

  private func load<T: FixedWidthInteger & BitwiseCopyable>(_ address: some BinaryInteger, _: T.Type = T.self) -> T? {
    memory.load(GuestPhysicalAddress(UInt64(address)), as: T.self)
  }

  private func word(_ address: some BinaryInteger) -> UInt32 { load(address) ?? 0 }

  /// The text at an address, up to its terminator.
  private func text(at address: some BinaryInteger) -> String {
    var bytes: [UInt8] = []
    while let byte: UInt8 = load(UInt64(address) + UInt64(bytes.count)), byte != 0 { bytes.append(byte) }
    return String(decoding: bytes, as: UTF8.self)
  }

  private func boot(
    _ image: [UInt8], modules: [BootModule] = [], commandLine: String = "", hasDisplay: Bool = false,
    state: inout CPUState
  ) throws(BootFailure) -> LoadedKernel {
    try BootLoader.load(
      BootParameters(
        kernel: BootFile(name: "kernel", bytes: image), modules: modules, commandLine: commandLine,
        acpiRootPointer: GuestPhysicalAddress(0xe0000), hasDisplay: hasDisplay),
      memory: memory, map: map, state: &state)
  }

  private func problem(_ image: [UInt8], modules: [BootModule] = []) -> BootFailure.Problem? {
    var state = CPUState()
    do throws(BootFailure) {
      _ = try boot(image, modules: modules, state: &state)
      return nil
    } catch {
      return error.problem
    }
  }

  private let twoModules = [
    BootModule(BootFile(name: "first", bytes: [1, 2, 3]), arguments: "a b"),
    BootModule(BootFile(name: "second", bytes: [UInt8](repeating: 9, count: 5000))),
  ]

  @Test(arguments: [false, true]) func entersInProtectedMode(is64Bit: Bool) throws {
    var state = CPUState()
    let loaded = try boot(
      SyntheticImage.multiboot(is64Bit: is64Bit), modules: twoModules, commandLine: "x=1", state: &state)
    #expect(loaded.bootProtocol == .multiboot && loaded.kernel == 0x20_0000..<0x20_2000)
    #expect(state.rip == 0x20_0020 && loaded.entry == state.rip && state.gpr.0 == 0x2bad_b002)
    #expect(state.cr0 == CR0.pe | CR0.et && state.efer == 0 && state.rflags == RFLAGS.fixed)
    #expect(state.segments.1.attributes == 0xc09b && state.segments.3.attributes == 0xc093)
    #expect(load(0x20_0fff, UInt8.self) == SyntheticImage.codeByte && load(0x20_1000, UInt64.self) == 0)

    let info = state.gpr.3
    #expect(word(info) == 0x24d)
    #expect(word(info + 4) == 639 && word(info + 8) == 7 << 10)
    #expect(text(at: word(info + 16)) == "kernel x=1" && text(at: word(info + 64)) == "Ringside")
    // Behind the kernel, in whole pages.
    #expect(word(info + 20) == 2 && loaded.modules == [0x20_2000..<0x20_2003, 0x20_3000..<0x20_4388])
    let modules = word(info + 24)
    #expect(word(modules) == 0x20_2000 && word(modules + 4) == 0x20_2003)
    #expect(text(at: word(modules + 8)) == "first a b" && text(at: word(modules + 24)) == "second")
    #expect(load(0x20_2002, UInt8.self) == 3 && load(0x20_4387, UInt8.self) == 9)

    var entry = word(info + 48)
    let end = entry + word(info + 44)
    for expected in map.entries {
      #expect(word(entry) == 20 && word(entry + 20) == expected.kind.rawValue)
      #expect(load(entry + 4, UInt64.self) == expected.range.lowerBound)
      #expect(load(entry + 12, UInt64.self) == UInt64(expected.range.count))
      entry += word(entry) + 4
    }
    #expect(entry == end)
    // The descriptor table is where the register says, and holds what the segments hold.
    #expect(state.segments.1.selector == 0x08 && state.segments.3.selector == 0x10)
    #expect(load(state.gdtr.base + 0x08, UInt64.self) == 0xcf_9b00_0000_ffff)
    #expect(load(state.gdtr.base + 0x10, UInt64.self) == 0xcf_9300_0000_ffff)
  }

  @Test func addressesInTheHeader() throws {
    #expect(memory.store(UInt64.max, at: GuestPhysicalAddress(0x30_2ff8)))
    var state = CPUState()
    var loaded = try boot(SyntheticImage.flatMultiboot(), state: &state)
    // To the file's end, and zeros up to the end of its memory.
    #expect(loaded.kernel == 0x30_0000..<0x30_3000 && state.rip == 0x30_0040)
    #expect(word(0x30_0000) == 0x1bad_b002 && load(0x30_0fff, UInt8.self) == SyntheticImage.codeByte)
    #expect(load(0x30_1000, UInt64.self) == 0 && load(0x30_2ff8, UInt64.self) == 0)
    loaded = try boot(SyntheticImage.flatMultiboot(loadEnd: 0x30_0800, bssEnd: 0), state: &state)
    #expect(loaded.kernel == 0x30_0000..<0x30_0800)

    #expect(problem(SyntheticImage.flatMultiboot(entry: 0x40_0000)) != nil)
    #expect(problem(SyntheticImage.flatMultiboot(loadEnd: 0x30_0000)) != nil)
    #expect(problem(SyntheticImage.flatMultiboot(bssEnd: 0x30_0fff)) != nil)
    #expect(problem(SyntheticImage.flatMultiboot(loadEnd: 0x30_1001)) == .truncated(needs: 0x1021, has: 0x1020))
    #expect(
      problem(SyntheticImage.flatMultiboot(bssEnd: 0x80_1000)) == .segmentOutsideMemory(0x30_0000..<0x80_1000))
    // Without addresses, a file without a format cannot be loaded.
    var image = ByteWriter(SyntheticImage.flatMultiboot())
    image.put(UInt32(0), at: 0x24)
    image.put(0 &- 0x1bad_b002 as UInt32, at: 0x28)
    #expect(problem(image.bytes) != nil)
  }

  @Test func unknownFlagsAreRefused() {
    #expect(problem(SyntheticImage.multiboot(is64Bit: false, flags: 7)) == nil)
    #expect(
      problem(SyntheticImage.multiboot(is64Bit: false, flags: 8)) == .unknownMultibootFeature("flag bit 3"))
    // Those of the upper half are no conditions.
    #expect(problem(SyntheticImage.multiboot(is64Bit: false, flags: 1 << 20)) == nil)
  }

  /// A kernel in conventional memory leaves less room for what it is told.
  @Test func kernelsBelow1MiB() throws {
    func image(_ address: UInt32) -> [UInt8] {
      var image = ByteWriter(SyntheticImage.flatMultiboot())
      for (index, word) in [address, address, 0, address + 0x2000, address + 0x40].enumerated() {
        image.put(word, at: 0x2c + 4 * index)
      }
      return image.bytes
    }
    for address: UInt32 in [0, 0x1000, 0x8000, 0xf000, 0x10000, 0x9_d000] {
      var state = CPUState()
      let loaded = try boot(image(address), modules: twoModules, state: &state)
      #expect(loaded.kernel == UInt64(address)..<UInt64(address) + 0x2000)
      #expect(loaded.modules[0].lowerBound == 0x10_0000)
      #expect(!loaded.kernel.contains(state.gpr.3) && !loaded.kernel.contains(state.gdtr.base))
      #expect(word(address) == 0x1bad_b002 && text(at: word(state.gpr.3 + 16)) == "kernel")
    }
    for address: UInt32 in [0x9_f000, 0xf_0000, 0xfffe_0000] { #expect(problem(image(address)) != nil) }
  }

  /// What the BIOS's data area says of the display: equipment, mode, columns, page, CRT controller, rows, character.
  @Test(arguments: [false, true]) func biosAreasTellOfADisplay(hasDisplay: Bool) throws {
    var state = CPUState()
    _ = try boot(SyntheticImage.flatMultiboot(), hasDisplay: hasDisplay, state: &state)
    let words = [0x410, 0x44a, 0x44c, 0x463, 0x485].map { load(UInt64($0), UInt16.self) }
    #expect(words == (hasDisplay ? [0x20, 80, 0x1000, 0x3d4, 16] : [0, 0, 0, 0, 0]))
    #expect([0x449, 0x484].map { load(UInt64($0), UInt8.self) } == (hasDisplay ? [3, 24] : [0, 0]))
  }

  /// What there is of a BIOS, but not in a kernel's own memory.
  @Test func biosAreas() throws {
    var state = CPUState()
    _ = try boot(SyntheticImage.flatMultiboot(), state: &state)
    #expect(load(0x40e, UInt16.self) == 0x9fc0 && load(0x413, UInt16.self) == 639)
    #expect(load(0x9_fc00, UInt8.self) == 1)
    for vector in 0..<256 {
      let entry = word(vector * 4)
      #expect(entry >> 16 == 0x9fc0 && (0x20..<0x100).contains(entry & 0xffff))
    }
    let service = 0x9_fc00 + UInt64(word(0x15 * 4) & 0xffff)
    #expect(
      load(service, UInt64.self) == 0x5d01_064e_80e5_8955 && load(service + 8, UInt32.self)! & 0xff_ffff == 0xcf86b4)
    let memorySize = 0x9_fc00 + UInt64(word(0x12 * 4) & 0xffff)
    #expect(load(memorySize, UInt32.self) == 0xcf02_7fb8)
  }

  @Test func modulesThatDoNotFit() {
    let image = SyntheticImage.multiboot(is64Bit: false)
    let large = BootModule(BootFile(name: "large", bytes: [UInt8](repeating: 0, count: 7 << 20)))
    #expect(problem(image, modules: [large]) == .ramDiskDoesNotFit(size: 7 << 20, room: 0x5f_e000))
    #expect(problem(image, modules: [BootModule(BootFile(name: "nothing", bytes: []))]) == .empty)
    #expect(problem(image, modules: [BootModule(twoModules[0].file, arguments: "a\0b")]) == .commandLineHasNUL)
  }

  // MARK: Version 2

  /// Bodies of the information's tags, by type.
  private func tags(_ info: UInt64) -> [UInt32: [UInt64]] {
    var tags: [UInt32: [UInt64]] = [:]
    var next = info + 8
    while word(next) != 0, next < info + UInt64(word(info)) {
      tags[word(next), default: []].append(next)
      next += (UInt64(word(next + 4)) + 7) & ~7
    }
    #expect(next + 8 == info + UInt64(word(info)) && word(next + 4) == 8)
    return tags
  }

  @Test(arguments: [false, true]) func version2(is64Bit: Bool) throws {
    let pointer = [UInt8](0..<36)
    memory.place(pointer, at: 0xe0000)
    var state = CPUState()
    let image = SyntheticImage.multiboot2(
      is64Bit: is64Bit,
      tags: [SyntheticImage.headerTag(1, 1, 3, 4, 6, 14, 15), SyntheticImage.headerTag(6)])
    let loaded = try boot(image, modules: twoModules, commandLine: "x=1", state: &state)
    #expect(loaded.bootProtocol == .multiboot2 && state.rip == 0x20_0020 && state.gpr.0 == 0x36d7_6289)
    #expect(state.gpr.3 & 7 == 0 && state.cr0 == CR0.pe | CR0.et)

    let tags = tags(state.gpr.3)
    #expect(tags[1].map { text(at: $0[0] + 8) } == "kernel x=1")
    #expect(tags[2].map { text(at: $0[0] + 8) } == "Ringside")
    let modules = try #require(tags[3])
    #expect(modules.map { word($0 + 8) } == [0x20_2000, 0x20_3000])
    #expect(modules.map { text(at: $0 + 16) } == ["first a b", "second"])
    #expect(tags[4].map { [word($0[0] + 8), word($0[0] + 12)] } == [639, 7 << 10])
    let memoryMap = try #require(tags[6]?[0])
    #expect(word(memoryMap + 8) == 24 && word(memoryMap + 4) == UInt32(16 + 24 * map.entries.count))
    for (index, expected) in map.entries.enumerated() {
      let entry = memoryMap + 16 + 24 * UInt64(index)
      #expect(load(entry, UInt64.self) == expected.range.lowerBound && word(entry + 16) == expected.kind.rawValue)
    }
    let old = try #require(tags[14]?[0])
    #expect(word(old + 4) == 28 && (0..<20).map { load(old + 8 + $0, UInt8.self) } == Array(pointer[..<20]))
    let new = try #require(tags[15]?[0])
    #expect(word(new + 4) == 44 && (0..<36).map { load(new + 8 + $0, UInt8.self) } == pointer)
    #expect(tags[21] == nil && tags[8] == nil)
  }

  @Test func addressAndEntryTags() throws {
    let image = SyntheticImage.multiboot2(
      isELF: false,
      tags: [
        SyntheticImage.headerTag(2, 0x30_0600, 0x30_0100, 0x30_1000, 0x30_2000), SyntheticImage.headerTag(3, 0x30_0110),
      ])
    var state = CPUState()
    var loaded = try boot(image, state: &state)
    #expect(loaded.kernel == 0x30_0100..<0x30_2000 && state.rip == 0x30_0110 && word(0x30_0600) == 0xe852_50d6)
    // From the file's first byte.
    loaded = try boot(
      SyntheticImage.multiboot2(
        isELF: false,
        tags: [SyntheticImage.headerTag(2, 0x30_0600, .max, 0, 0), SyntheticImage.headerTag(3, 0x30_0110)]),
      state: &state)
    #expect(loaded.kernel == 0x30_0000..<0x30_1200)
    // An entry tag goes before the ELF header's.
    loaded = try boot(SyntheticImage.multiboot2(tags: [SyntheticImage.headerTag(3, 0x20_0100)]), state: &state)
    #expect(loaded.entry == 0x20_0100)
    #expect(problem(SyntheticImage.multiboot2(isELF: false, tags: [SyntheticImage.headerTag(3, 0x30_0110)])) != nil)
    #expect(
      problem(SyntheticImage.multiboot2(isELF: false, tags: [SyntheticImage.headerTag(2, 0x30_0600, 0x30_0000, 0, 0)]))
        == .malformed("its entry point is in none of its segments"))
  }

  @Test func relocation() throws {
    func boot(_ words: UInt32...) throws -> LoadedKernel {
      var state = CPUState()
      let tag = SyntheticImage.headerTag(10, words[0], words[1], words[2], words[3])
      let loaded = try self.boot(SyntheticImage.multiboot2(tags: [tag]), state: &state)
      let base = try #require(tags(state.gpr.3)[21]?[0])
      #expect(word(base + 8) == UInt32(loaded.kernel.lowerBound) && state.rip == loaded.kernel.lowerBound + 0x20)
      #expect(load(loaded.kernel.lowerBound, UInt8.self) == SyntheticImage.codeByte)
      return loaded
    }
    // No preference: where it was linked, if that is allowed.
    #expect(try boot(0x10_0000, .max, 0x1000, 0).kernel == 0x20_0000..<0x20_2000)
    #expect(try boot(0x30_0001, .max, 0x1000, 0).kernel.lowerBound == 0x30_1000)
    #expect(try boot(0, .max, 0x10_0000, 1).kernel.lowerBound == 0x10_0000)
    #expect(try boot(0, .max, 0x1000, 2).kernel == 0x7f_e000..<0x80_0000)
    #expect(try boot(0, 0x5f_ffff, 0x20_0000, 2).kernel.lowerBound == 0x40_0000)
    func image(_ words: [UInt32], flags: UInt16 = 0) -> [UInt8] {
      SyntheticImage.multiboot2(tags: [
        SyntheticImage.headerTag(10, words[0], words[1], words[2], words[3], flags: flags)
      ])
    }
    #expect(problem(image([0x80_0000, .max, 0x1000, 0])) != nil)
    // What cannot be understood is fatal unless it is optional.
    #expect(problem(image([0, .max, 3, 0])) == .unknownMultibootFeature("header tag 10"))
    #expect(problem(image([0, .max, 3, 0], flags: 1)) == nil)
  }

  @Test func unknownTags() {
    #expect(
      problem(SyntheticImage.multiboot2(tags: [SyntheticImage.headerTag(77)]))
        == .unknownMultibootFeature("header tag 77"))
    #expect(problem(SyntheticImage.multiboot2(tags: [SyntheticImage.headerTag(77, 1, 2, 3, flags: 1)])) == nil)
    #expect(
      problem(SyntheticImage.multiboot2(tags: [SyntheticImage.headerTag(1, 4, 1000)]))
        == .unknownMultibootFeature("header tag 1"))
    #expect(problem(SyntheticImage.multiboot2(tags: [SyntheticImage.headerTag(1, 4, 1000, flags: 1)])) == nil)
    // What this machine has not is no reason to refuse.
    #expect(
      problem(
        SyntheticImage.multiboot2(tags: [SyntheticImage.headerTag(5, 1024, 768, 32), SyntheticImage.headerTag(4, 3)]))
        == nil)
  }

  /// A kernel for several protocols is booted by the most telling of them.
  @Test func preference() throws {
    var image = SyntheticImage.elf(is64Bit: true)
    let header1 = SyntheticImage.multiboot(is64Bit: false)[0x600..<0x60c]
    image.replaceSubrange(0x700..<0x70c, with: header1)
    guard case .multiboot(let first) = try BootImage.identify(image, name: "k") else {
      Issue.record("not multiboot")
      return
    }
    #expect(first.version == .one && first.entry == 0x20_0020)
    let header2 = SyntheticImage.multiboot2(tags: [])[0x600..<0x618]
    image.replaceSubrange(0x800..<0x818, with: header2)
    guard case .multiboot(let second) = try BootImage.identify(image, name: "k") else {
      Issue.record("not multiboot")
      return
    }
    #expect(second.version == .two)
    // A wrong sum is no header.
    image[0x80c] ^= 1
    image[0x708] ^= 1
    guard case .pvh = try BootImage.identify(image, name: "k") else {
      Issue.record("not PVH")
      return
    }
  }
}
