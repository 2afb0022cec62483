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
    SyntheticImage.elf(is64Bit: true), SyntheticImage.elf(is64Bit: false),
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
            kernel: BootFile(name: "kernel", bytes: bytes), initialRAMDisk: BootFile(name: "initrd", bytes: ramDisk),
            commandLine: "x"),
          memory: memory, map: map, state: &state)
        booted += 1
        let room = map.loadable
        #expect(loaded.kernel.clamped(to: room) == loaded.kernel)
        #expect(loaded.kernel.contains(loaded.entry) && state.rip == loaded.entry)
        let disk = loaded.initialRAMDisk ?? 0..<0
        #expect(!disk.isEmpty && disk.clamped(to: room) == disk && !disk.overlaps(loaded.kernel))
      } catch {
        #expect(error.description.hasPrefix("\(error.file): "))
      }
    }
    // The test is worth something only if both outcomes are frequent.
    #expect(booted > 300 && booted < 5700)
  }

  @Test func noise() {
    var random = SeededRandom(seed: 12)
    for _ in 0..<2000 {
      var bytes = (0..<Int.random(in: 1..<2000, using: &random)).map { _ in UInt8(truncatingIfNeeded: random.next()) }
      // With a magic number that leads it past the first door.
      if bytes.count > 0x300 { bytes.replaceSubrange(0x202..<0x206, with: "HdrS".utf8) }
      if Bool.random(using: &random), bytes.count > 5 { bytes.replaceSubrange(0..<4, with: [0x7f, 0x45, 0x4c, 0x46]) }
      #expect(throws: BootFailure.self) { try BootImage.identify(bytes, name: "noise") }
    }
  }
}
