import CHost
import Memory
import Testing
import X86

@testable import Firmware

/// Flat binaries and ROM images.
@Suite struct RealModeBootTests {
  private func load<T: FixedWidthInteger & BitwiseCopyable>(
    _ memory: GuestMemory, _ address: UInt64, _: T.Type = T.self
  ) -> T? {
    memory.load(GuestPhysicalAddress(address), as: T.self)
  }

  @Test func addresses() {
    #expect(RealModeAddress(linear: 0x7c00) == RealModeAddress(segment: 0, offset: 0x7c00))
    #expect(RealModeAddress(linear: 0x1_2345) == RealModeAddress(segment: 0x1000, offset: 0x2345))
    #expect(RealModeAddress(linear: 0xf_ffff)?.linear == 0xf_ffff)
    #expect(RealModeAddress(linear: 0x10_0000) == nil)
    #expect(RealModeAddress(segment: 0xffff, offset: 0xffff).linear == 0x10_ffef)
  }

  @Test func flatBinary() throws {
    let memory = try GuestMemory(size: 2 << 20)
    var state = CPUState()
    let file = BootFile(name: "sector", bytes: [UInt8](repeating: 0xf4, count: 512))
    let address = RealModeAddress(segment: 0, offset: 0x7c00)
    let loaded = try BootLoader.loadFlat(file, at: address, memory: memory, state: &state)
    #expect(loaded.kernel == 0x7c00..<0x7e00 && loaded.bootProtocol == .flat)
    #expect(state.rip == 0x7c00 && state.gpr.4 == 0x7c00 && state.segments.1.base == 0)
    #expect(load(memory, 0x7dff, UInt8.self) == 0xf4)

    _ = try BootLoader.loadFlat(
      file, at: RealModeAddress(segment: 0x1234, offset: 0x100), memory: memory, state: &state)
    #expect(state.rip == 0x100 && state.gpr.4 == 0xfffe)
    #expect(state.segments.1.attributes == 0x9b && state.segments.1.base == 0x1_2340)
    for data in [state.segments.0, state.segments.2, state.segments.3, state.segments.4, state.segments.5] {
      #expect(data.selector == 0x1234 && data.base == 0x1_2340 && data.limit == 0xffff && data.attributes == 0x93)
    }
  }

  @Test func flatBinaryThatDoesNotFit() throws {
    let memory = try GuestMemory(size: 1 << 20)
    var state = CPUState()
    func problem(_ count: Int, _ segment: UInt16) -> BootFailure.Problem? {
      do throws(BootFailure) {
        _ = try BootLoader.loadFlat(
          BootFile(name: "f", bytes: [UInt8](repeating: 0, count: count)),
          at: RealModeAddress(segment: segment, offset: 0), memory: memory, state: &state)
        return nil
      } catch {
        return error.problem
      }
    }
    #expect(problem(0, 0) == .empty)
    #expect(problem(1 << 20, 0) == nil)
    #expect(problem(1 << 20, 1) == .kernelDoesNotFit(needs: 0x10_0010, has: 0x10_0000))
  }

  @Test func romIsAtTheTop() throws {
    // Not a whole number of pages.
    var bytes = [UInt8](repeating: 0x11, count: (256 << 10) + 5)
    bytes[bytes.count - 16] = 0xea
    bytes[bytes.count - (128 << 10)] = 0x22
    let image = try FirmwareImage(BootFile(name: "bios", bytes: bytes))
    #expect(image.range == 0xfffb_f000..<0x1_0000_0000)
    let memory = try GuestMemory(size: 1 << 20, readOnly: image.range)
    image.install(in: memory)
    #expect(load(memory, 0xffff_fff0, UInt8.self) == 0xea && load(memory, 0xfffe_0000, UInt8.self) == 0x22)
    #expect(load(memory, 0xfffb_f000, UInt8.self) == 0xff && load(memory, 0xfffb_fffb, UInt8.self) == 0x11)
  }

  @Test func smallAndLargeROMs() throws {
    let small = try FirmwareImage(BootFile(name: "bios", bytes: [1, 2, 3]))
    let memory = try GuestMemory(size: 1 << 20, readOnly: small.range)
    small.install(in: memory)
    #expect(load(memory, 0xffff_fffd, UInt16.self) == 0x0201 && load(memory, 0xffff_fffc, UInt8.self) == 0xff)
    #expect(throws: BootFailure("b", .empty)) { try FirmwareImage(BootFile(name: "b", bytes: [])) }
    let size = (16 << 20) + 1
    #expect(throws: BootFailure("b", .firmwareTooLarge(size: UInt64(size)))) {
      try FirmwareImage(BootFile(name: "b", bytes: [UInt8](repeating: 0, count: size)))
    }
  }

  @Test func waking() throws {
    let memory = try GuestMemory(size: 1 << 20)
    var state = CPUState()
    #expect(!BootLoader.wake(memory: memory, state: &state))
    let pointer = try ACPITables.install(ACPIConfiguration(processorCount: 1), in: memory)
    #expect(!BootLoader.wake(memory: memory, state: &state))
    let facs = pointer &+ 64
    #expect(memory.load(facs, as: UInt32.self) == 0x5343_4146)
    #expect(memory.store(0x1_2345 as UInt32, at: facs &+ 12))
    #expect(BootLoader.wake(memory: memory, state: &state))
    #expect(state.rip == 5 && state.segments.1.selector == 0x1234 && state.segments.1.base == 0x1_2340)
    #expect(state.cr0 & CR0.pe == 0)
    #expect(state.segments.3.base == 0 && state.segments.2.selector == 0 && state.segments.3.limit == 0xffff)
    // The extended vector goes before, and is for 32-bit code.
    #expect(memory.store(0x20_0000 as UInt64, at: facs &+ 24))
    #expect(BootLoader.wake(memory: memory, state: &state))
    #expect(state.rip == 0x20_0000 && state.cr0 & CR0.pe != 0 && state.segments.1.attributes == 0xc09b)
    // Nonsense is as good as nothing.
    #expect(memory.store(UInt64.max, at: facs &+ 24) && memory.store(UInt32.max, at: facs &+ 12))
    #expect(!BootLoader.wake(memory: memory, state: &state))
  }

  @Test func partsOfARAMDiskAreConcatenated() throws {
    let memory = try GuestMemory(size: 8 << 20)
    var state = CPUState()
    let parts = [10, 7].map { BootModule(BootFile(name: "part", bytes: SyntheticImage.ramDisk($0))) }
    let loaded = try BootLoader.load(
      BootParameters(
        kernel: BootFile(name: "kernel", bytes: SyntheticImage.linux(kernelSize: 0x800)), modules: parts),
      memory: memory, map: PhysicalMemoryMap(memory), state: &state)
    #expect(loaded.modules == [0x7f_f000..<0x7f_f013])
    #expect(load(memory, 0x7f_f000, UInt16.self) == 0x3730 && load(memory, 0x7f_f009, UInt8.self) == 0x30)
    #expect(load(memory, 0x7f_f00a, UInt16.self) == 0 && load(memory, 0x7f_f00c, UInt16.self) == 0x3730)
    #expect(load(memory, BootLayout.zeroPage + 0x21c, UInt32.self) == 0x13)
  }
}
