import CHost
import Memory
import TestSupport
import Testing
import X86

@testable import Firmware

/// Damaged kernels and RAM disks are errors or boot into memory that is there; they are never a trap.
@Suite struct MutationTests {
  @Test(arguments: [
    SyntheticImage.linux(kernelSize: 0x800), SyntheticImage.linux(kernelSize: 0x800, flags: 0),
    SyntheticImage.elf(is64Bit: true), SyntheticImage.elf(is64Bit: false), SyntheticImage.flatMultiboot(),
  ])
  func damagedKernels(image: [UInt8]) throws {
    let memory = try GuestMemory(size: 8 << 20)
    let map = PhysicalMemoryMap(memory)
    var random = SeededRandom(seed: 11)
    var booted = 0
    for _ in 0..<6000 {
      var bytes = image
      // Mostly in the headers, where it hurts.
      for _ in 0..<Int.random(in: 1...4, using: &random) {
        let index = Int.random(in: 0..<min(bytes.count, 0x290), using: &random)
        bytes[index] = [0, 0xff, 0x7f, 0x80, UInt8(truncatingIfNeeded: random.next())].randomElement(using: &random)!
      }
      if Int.random(in: 0..<8, using: &random) == 0 {
        bytes.removeLast(Int.random(in: 0..<bytes.count, using: &random))
      }
      let ramDisk = SyntheticImage.ramDisk(Int.random(in: 0..<10_000, using: &random))
      var state = CPUState()
      do throws(BootFailure) {
        let loaded = try BootLoader.load(
          BootParameters(
            kernel: BootFile(name: "kernel", bytes: bytes),
            modules: [BootModule(BootFile(name: "initrd", bytes: ramDisk))], commandLine: "x"),
          memory: memory, map: map, state: &state)
        booted += 1
        let room = map.loadable
        let isMultiboot = loaded.bootProtocol == .multiboot
        #expect(loaded.kernel.clamped(to: isMultiboot ? 0..<room.upperBound : room) == loaded.kernel)
        #expect(loaded.kernel.contains(loaded.entry) && state.rip == loaded.entry)
        let disk = loaded.modules.first ?? 0..<0
        #expect(!disk.isEmpty && disk.clamped(to: room) == disk && !disk.overlaps(loaded.kernel))
      } catch {
        #expect(error.description.hasPrefix("\(error.file): "))
      }
    }
    // The test is worth something only if both outcomes are frequent.
    #expect(booted > 300 && booted < 5700)
  }

  /// Multiboot 2: the header is behind the file's own, and everything in it is checked by one sum.
  @Test(arguments: [
    SyntheticImage.multiboot2(tags: [
      SyntheticImage.headerTag(10, 0x10_0000, 0x7f_ffff, 0x1000, 2), SyntheticImage.headerTag(1, 4, 6),
      SyntheticImage.headerTag(3, 0x20_0010),
    ]),
    SyntheticImage.multiboot2(
      isELF: false,
      tags: [
        SyntheticImage.headerTag(2, 0x30_0600, 0x30_0000, 0x30_1000, 0x30_2000), SyntheticImage.headerTag(3, 0x30_0010),
      ]),
  ])
  func damagedTags(image: [UInt8]) throws {
    let memory = try GuestMemory(size: 8 << 20)
    let map = PhysicalMemoryMap(memory)
    var random = SeededRandom(seed: 13)
    var booted = 0
    for _ in 0..<6000 {
      var bytes = image
      for _ in 0..<Int.random(in: 1...3, using: &random) {
        let index = Int.random(in: 0x610..<0x660, using: &random)
        bytes[index] = [0, 0xff, 0x7f, 0x80, UInt8(truncatingIfNeeded: random.next())].randomElement(using: &random)!
      }
      if Int.random(in: 0..<8, using: &random) == 0 {
        bytes.removeLast(Int.random(in: 0..<bytes.count, using: &random))
      }
      var state = CPUState()
      do throws(BootFailure) {
        let loaded = try BootLoader.load(
          BootParameters(
            kernel: BootFile(name: "kernel", bytes: bytes),
            modules: [BootModule(BootFile(name: "module", bytes: [1, 2, 3]))]),
          memory: memory, map: map, state: &state)
        booted += 1
        #expect(loaded.kernel.upperBound <= map.loadable.upperBound && loaded.kernel.contains(loaded.entry))
        #expect(!loaded.modules[0].overlaps(loaded.kernel))
      } catch {
        #expect(error.description.hasPrefix("\(error.file): "))
      }
    }
    #expect(booted > 300 && booted < 5700)
  }

  @Test func noise() {
    var random = SeededRandom(seed: 12)
    for _ in 0..<2000 {
      var bytes = (0..<Int.random(in: 1..<2000, using: &random)).map { _ in UInt8(truncatingIfNeeded: random.next()) }
      // With a magic number that leads it past the first door.
      if bytes.count > 0x300 { bytes.replaceSubrange(0x202..<0x206, with: "HdrS".utf8) }
      if Bool.random(using: &random), bytes.count > 40 {
        bytes.replaceSubrange(16..<28, with: SyntheticImage.multiboot(is64Bit: false)[0x600..<0x60c])
      }
      if Bool.random(using: &random), bytes.count > 80 {
        bytes.replaceSubrange(48..<64, with: SyntheticImage.multiboot2(tags: [])[0x600..<0x610])
      }
      if Bool.random(using: &random), bytes.count > 5 { bytes.replaceSubrange(0..<4, with: [0x7f, 0x45, 0x4c, 0x46]) }
      #expect(throws: BootFailure.self) { try BootImage.identify(bytes, name: "noise") }
    }
  }
}
