import Memory
import TestSupport
import Testing
import X86

@testable import Devices

@Suite struct VGATests {
  private func make(_ platform: FakePlatform) -> VGA {
    platform.start(VGA(memory: platform.memory.takeDeviceMemory(VGA.memorySize)))
  }

  private func makePlatform(displays: UInt64 = 1) throws -> FakePlatform {
    try FakePlatform(deviceMemory: displays * VGA.memorySize)
  }

  private func out(_ vga: VGA, _ port: UInt64, _ value: UInt64) { vga.poke(port - 0x3b0, value, region: 2) }
  private func input(_ vga: VGA, _ port: UInt64) -> UInt64 { vga.peek(port - 0x3b0, region: 2) }

  private func set(_ vga: VGA, _ port: UInt64, _ values: [UInt64], from first: UInt64 = 0) {
    for (index, value) in values.enumerated() {
      out(vga, port, first + UInt64(index))
      out(vga, port + 1, value)
    }
  }

  /// Mode 3 as a video BIOS sets it: 80 by 25 characters of 16 lines.
  private func enterText(_ vga: VGA) {
    out(vga, 0x3c2, 0x67)
    set(vga, 0x3c4, [0x03, 0x00, 0x03, 0x00, 0x02])
    set(vga, 0x3ce, [0, 0, 0, 0, 0, 0x10, 0x0e, 0x0f, 0xff])
    set(vga, 0x3d4, [0x5f, 79, 0x50, 0x82, 0x55, 0x81, 0xbf, 0x1f, 0, 0x4f, 0, 0, 0, 0])
    set(vga, 0x3d4, [0x9c, 0x0e, 0x8f, 0x28], from: 0x10)
    _ = input(vga, 0x3da)
    out(vga, 0x3c0, 0x20)
  }

  private func write(_ vga: VGA, _ text: String, at offset: UInt64) {
    for (index, byte) in text.utf8.enumerated() {
      vga.poke(offset + 2 * UInt64(index), UInt64(byte) | 0x0700, size: 2, region: 3)
    }
  }

  private func lines(_ vga: VGA) -> [String] {
    if case .text(let lines) = vga.screen() { lines } else { [] }
  }

  /// Without a video BIOS: after each reset as one would leave it.
  @Test func startsInTextMode() throws {
    let platform = try makePlatform()
    let vga = platform.start(
      VGA(memory: platform.memory.takeDeviceMemory(VGA.memorySize), startsInTextMode: true))
    for _ in 0..<2 {
      #expect(lines(vga) == Array(repeating: "", count: 25))
      #expect(vga.peek(0x1_8000 + 2 * 1999, size: 2, region: 3) == 0x0720)
      // The cursor is at the beginning, where a colour adapter's ports are.
      for register: UInt64 in [0x0e, 0x0f] {
        out(vga, 0x3d4, register)
        #expect(input(vga, 0x3d5) == 0)
      }
      // Brown, by way of the attribute controller, and white.
      for (index, colour) in [(0x14, [0x2a, 0x15, 0]), (0x3f, [0x3f, 0x3f, 0x3f])] as [(UInt64, [UInt64])] {
        out(vga, 0x3c7, index)
        #expect((0..<3).map { _ in input(vga, 0x3c9) } == colour)
      }
      write(vga, "gone", at: 0x1_8000)
      #expect(lines(vga)[0] == "gone")
      vga.reset()
    }
  }

  @Test func text() throws {
    let vga = make(try makePlatform())
    #expect(vga.screen() == .off)
    enterText(vga)
    write(vga, "Hello,", at: 0x1_8000)
    write(vga, "world", at: 0x1_8000 + 160 * 24 + 150)
    vga.poke(0x1_8000 + 160, 0x07b0, size: 2, region: 3)
    #expect(lines(vga).count == 25 && lines(vga)[0] == "Hello," && lines(vga)[1] == "░")
    #expect(lines(vga)[24] == String(repeating: " ", count: 75) + "world")
    #expect(vga.screen().shows("ello") && !vga.screen().shows("Hello world"))
    // What was written reads back, and other windows are empty.
    #expect(vga.peek(0x1_8000, size: 4, region: 3) == 0x0765_0748 && vga.peek(0, region: 3) == 0xff)
    // A start address of one line.
    set(vga, 0x3d4, [0, 80], from: 0x0c)
    #expect(lines(vga)[0] == "░" && lines(vga)[24] == "")
    // The attribute controller is cut off while its palette is set.
    _ = input(vga, 0x3da)
    out(vga, 0x3c0, 0)
    #expect(vga.screen() == .off)
  }

  /// Set/reset, bit mask, latches and the logical operations of write mode 0; modes 1 to 3; read mode 1.
  @Test func planes() throws {
    let vga = make(try makePlatform())
    set(vga, 0x3c4, [0x03, 0x01, 0x0f, 0x00, 0x06])
    set(vga, 0x3ce, [0, 0, 0, 0, 0, 0, 0x05, 0x0f, 0xff])
    func plane(_ number: UInt64, _ offset: UInt64) -> UInt64 {
      set(vga, 0x3ce, [number], from: 4)
      return vga.peek(offset, region: 3)
    }
    vga.poke(0, 0xa5, region: 3)
    #expect((0..<4).map { plane($0, 0) } == [0xa5, 0xa5, 0xa5, 0xa5])
    // Colour 5 in the pixels of the mask; the others keep theirs, by way of the latches.
    set(vga, 0x3ce, [0x05, 0x0f], from: 0)
    set(vga, 0x3ce, [0xf0], from: 8)
    _ = vga.peek(0, region: 3)
    vga.poke(0, 0, region: 3)
    #expect((0..<4).map { plane($0, 0) } == [0xf5, 0x05, 0xf5, 0x05])
    // Write mode 1 copies all planes.
    set(vga, 0x3ce, [1], from: 5)
    _ = vga.peek(0, region: 3)
    vga.poke(9, 0, region: 3)
    set(vga, 0x3ce, [0], from: 5)
    #expect((0..<4).map { plane($0, 9) } == [0xf5, 0x05, 0xf5, 0x05])
    // Read mode 1 finds the pixels of a colour.
    set(vga, 0x3ce, [8], from: 5)
    set(vga, 0x3ce, [0x05], from: 2)
    #expect(vga.peek(0, region: 3) == 0xf0)
    // Write mode 2: a colour from the processor. Only plane 1 may be changed.
    set(vga, 0x3ce, [2], from: 5)
    set(vga, 0x3ce, [0xff], from: 8)
    set(vga, 0x3c4, [2], from: 2)
    vga.poke(0, 0xf, region: 3)
    set(vga, 0x3ce, [0], from: 5)
    #expect((0..<4).map { plane($0, 0) } == [0xf5, 0xff, 0xf5, 0x05])
    // XOR with the latches, rotated.
    set(vga, 0x3ce, [0, 0, 0, 0x1c], from: 0)
    _ = vga.peek(0, region: 3)
    vga.poke(0, 0x0f, region: 3)
    #expect(plane(1, 0) == 0x0f)
    // Write mode 3: the rotated byte masks the set/reset colour.
    set(vga, 0x3ce, [0x02, 0, 0, 0], from: 0)
    set(vga, 0x3ce, [3], from: 5)
    _ = vga.peek(0, region: 3)
    vga.poke(0, 0x80, region: 3)
    set(vga, 0x3ce, [0], from: 5)
    #expect(plane(1, 0) == 0x8f)
  }

  @Test func linearModes() throws {
    let platform = try makePlatform()
    let vga = make(platform)
    func set(_ index: UInt64, _ value: UInt64) {
      vga.poke(0, index, size: 2, region: 4)
      vga.poke(1, value, size: 2, region: 4)
    }
    func get(_ index: UInt64) -> UInt64 {
      vga.poke(0, index, size: 2, region: 4)
      return vga.peek(1, size: 2, region: 4)
    }
    #expect(get(0) == 0xb0c5 && get(10) == 256)
    for (index, value) in [(1, 64), (2, 48), (3, 32), (4, 0x41)] as [(UInt64, UInt64)] { set(index, value) }
    #expect(get(6) == 64 && vga.peek(0x502, size: 2, region: 1) == 64)
    // The guest places the memory, and writes to it without this device.
    for (offset, value) in [0x10: 0, 0x11: 0, 0x12: 0, 0x13: 0xe0, 0x04: 2] as [UInt8: UInt8] {
      vga.pci.write(offset, value)
    }
    #expect(platform.memory.store(0x0012_3456 as UInt32, at: GuestPhysicalAddress(0xe000_0000 + 4 * 65)))
    guard case .image(let width, let height, let pixels) = vga.screen() else {
      Issue.record("there is no picture")
      return
    }
    #expect(width == 64 && height == 48 && Array(pixels[(65 * 3)..<(66 * 3)]) == [0x12, 0x34, 0x56])
    #expect(vga.peek(4 * 65, size: 4, region: 0) == 0x0012_3456)
    vga.pci.write(0x04, 0)
    #expect(platform.memory.load(GuestPhysicalAddress(0xe000_0000), as: UInt8.self) == nil)
    // 64 KiB of it are in the old window as well, the second here.
    set(5, 1)
    #expect(platform.memory.store(0x99 as UInt8, at: GuestPhysicalAddress(0xa_0000)))
    #expect(vga.peek(0x1_0000, region: 0) == 0x99)
    set(4, 0)
    self.set(vga, 0x3c4, [0x06], from: 4)
    #expect(platform.memory.load(GuestPhysicalAddress(0xa_0000), as: UInt8.self) == nil)
    // Limits.
    for (index, value) in [(1, 0xffff), (2, 0xffff), (3, 7), (4, 1), (6, 0xffff), (9, 0xffff)] as [(UInt64, UInt64)] {
      set(index, value)
    }
    #expect(get(1) == 2560 && get(2) <= 1600 && get(3) == 32)
    set(2, 9)
    _ = vga.screen()
  }

  @Test func paletteAndStatus() throws {
    let platform = try makePlatform()
    let vga = make(platform)
    out(vga, 0x3c8, 7)
    for value: UInt64 in [1, 2, 0xff] { out(vga, 0x3c9, value) }
    out(vga, 0x3c7, 7)
    #expect((0..<3).map { _ in input(vga, 0x3c9) } == [1, 2, 0x3f])
    // The beam: a retrace, a shown line, the end of a line.
    #expect(input(vga, 0x3ba) == 0x09)
    platform.clock.advance(by: 1_557_000 + 10_000)
    let seen = Set(
      (0..<40).map { _ in
        platform.clock.advance(by: 1000)
        return input(vga, 0x3ba)
      })
    #expect(seen == [0, 1])
    // Locked registers stay as they are.
    out(vga, 0x3c2, 1)
    set(vga, 0x3d4, [0x80], from: 0x11)
    set(vga, 0x3d4, [0x55], from: 1)
    #expect(input(vga, 0x3d5) == 0)
  }

  @Test func snapshots() throws {
    let platform = try makePlatform(displays: 2)
    let (vga, copy) = (make(platform), make(platform))
    enterText(vga)
    write(vga, "kept", at: 0x1_8000)
    try transfer(from: vga, to: copy)
    #expect(lines(copy) == lines(vga) && copy.save() == vga.save())
    var state = vga.save()
    state.crtc = [1]
    state.palette = []
    state.paletteStep = 200
    state.extensions = []
    copy.restore(state)
    _ = copy.screen()
  }

  @Test(arguments: 1...3 as ClosedRange<UInt64>) func randomAccesses(seed: UInt64) throws {
    let platform = try makePlatform()
    let vga = make(platform)
    var random = SeededRandom(seed: seed)
    for step in 0..<40_000 {
      let region = Int(random.next() % 6)
      let limit: UInt64 = region == 3 ? 0x2_0000 : region == 0 ? VGA.memorySize + 16 : region == 1 ? 0x700 : 0x40
      let offset = random.next() % 50 == 0 ? random.next() : random.next() % limit
      let size = 1 << Int(random.next() % 4)
      switch random.next() % 8 {
      case 0, 1: _ = vga.read(region: region, offset: offset, size: size)
      case 2: vga.pci.write(UInt8(truncatingIfNeeded: random.next() % 0x40), UInt8(truncatingIfNeeded: random.next()))
      default: vga.write(region: region, offset: offset, size: size, value: random.next() >> (random.next() % 64))
      }
      if step % 20_000 == 0 { _ = vga.screen() }
    }
  }
}
