import Machine
import TestSupport
import Testing

@testable import Devices

@Suite struct FloppyTests {
  /// What Linux asks to know the chip (drivers/block/floppy.c, get_fdc_version).
  @Test func theChipIsAn82077AA() throws {
    let bench = try FloppyBench()
    bench.start()
    #expect(bench.command([0x0e]).count == 10)
    #expect(bench.command([0x13, 0, 0x1a, 7]) == [])
    #expect(bench.command([0x0e]) == [0, 0, 0, 0, 0xaf, 2, 0, 0, 0x1a, 7])
    #expect(bench.command([0x12, 0]) == [] && bench.command([0x14]) == [0] && bench.command([0x94]) == [0x10])
    #expect(bench.command([0x18]) == [0x80] && bench.command([0x10]) == [0x90] && bench.command([8]) == [0x80])
    // A reset leaves what is locked.
    bench.floppy.poke(2, 0x18)
    bench.floppy.poke(2, 0x1c)
    #expect(bench.command([8]) == [0x80] || bench.line.level)
    while bench.command([8]) != [0x80] {}
    #expect(Array(bench.command([0x0e])[7...]) == [0x80, 0x1a, 7])
  }

  @Test(arguments: [false, true]) func readingATrack(withoutDMA: Bool) throws {
    let bench = try FloppyBench()
    bench.start(withoutDMA: withoutDMA)
    bench.seek(3)
    // Both sides of cylinder 3, from sector 17 of the first on, to the end of the second.
    let count = 2 * 512 + 18 * 512
    let first = ((3 * 2) * 18 + 16) * 512
    let expected = Array(bench.disk.contents[first..<first + count])
    if withoutDMA {
      bench.send([0xe6, 0, 3, 0, 17, 2, 18, 0x1b, 0xff])
      var bytes: [UInt8] = []
      while bytes.count < count {
        bench.disk.completeAll()
        #expect(bench.status == 0xf0 && bench.line.level)
        for _ in 0..<512 { bytes.append(UInt8(bench.floppy.peek(5))) }
        #expect(!bench.line.level || bench.status & 0x20 == 0)
      }
      #expect(bytes == expected)
      // Nobody has said that this is all.
      #expect(bench.result() == [0x44, 0x80, 0, 4, 0, 1, 2])
    } else {
      bench.setDMA(UInt64(count), toMemory: true)
      #expect(bench.command([0xe6, 0, 3, 0, 17, 2, 18, 0x1b, 0xff]) == [0x04, 0, 0, 4, 0, 1, 2])
      #expect(bench.memory(count) == expected)
    }
  }

  @Test(arguments: [false, true]) func writing(withoutDMA: Bool) throws {
    let bench = try FloppyBench()
    bench.start(withoutDMA: withoutDMA)
    let data = (0..<1024).map { UInt8(truncatingIfNeeded: $0 * 7) }
    if withoutDMA {
      bench.send([0x45, 4, 0, 1, 5, 2, 6, 0x1b, 0xff])
      for (index, byte) in data.enumerated() {
        #expect(bench.status == 0xb0, "byte \(index)")
        bench.floppy.poke(5, UInt64(byte))
        if index % 512 == 511 { bench.disk.completeAll() }
      }
      #expect(bench.result() == [0x44, 0x80, 0, 1, 1, 1, 2])
    } else {
      bench.setDMA(1024, toMemory: false)
      for (index, byte) in data.enumerated() {
        #expect(bench.platform.memory.store(byte, at: .init(0x4000 + UInt64(index))))
      }
      #expect(bench.command([0x45, 4, 0, 1, 5, 2, 6, 0x1b, 0xff]) == [0x04, 0, 0, 1, 1, 1, 2])
    }
    #expect(Array(bench.disk.contents[(18 + 4) * 512..<(18 + 6) * 512]) == data)
  }

  /// What DMA cuts off in the middle of a sector is written as zeros.
  @Test func anIncompleteSector() throws {
    let bench = try FloppyBench()
    bench.start()
    bench.setDMA(4, toMemory: false)
    #expect(bench.platform.memory.store(0x0403_0201 as UInt32, at: .init(0x4000)))
    #expect(bench.command([0x45, 0, 0, 0, 1, 2, 18, 0x1b, 0xff]) == [0, 0, 0, 0, 0, 2, 2])
    #expect(Array(bench.disk.contents[..<512]) == [1, 2, 3, 4] + [UInt8](repeating: 0, count: 508))
    bench.setDMA(4, toMemory: true)
    #expect(bench.command([0x46, 0, 0, 0, 1, 2, 18, 0x1b, 0xff]) == [0, 0, 0, 0, 0, 2, 2])
  }

  @Test func whatIsNotThereIsNotFound() throws {
    let bench = try FloppyBench()
    bench.start()
    bench.setDMA(512, toMemory: true)
    func read(_ cylinder: UInt8, _ head: UInt8, _ sector: UInt8, size: UInt8 = 2, side: UInt8 = 0, drive: UInt8 = 0)
      -> [UInt8]
    { Array(bench.command([0x46, side << 2 | drive, cylinder, head, sector, size, 18, 0x1b, 0xff]).prefix(3)) }
    #expect(read(0, 0, 19) == [0x40, 0x04, 0] && read(0, 0, 0) == [0x40, 0x04, 0])
    #expect(read(1, 0, 1) == [0x40, 0x04, 0x10])
    #expect(read(0, 1, 1) == [0x40, 0x04, 0] && read(0, 0, 1, size: 3) == [0x40, 0x04, 0])
    #expect(read(0, 0, 1, drive: 1) == [0x41, 0x01, 0])
    bench.floppy.poke(0, 2, region: 1)
    #expect(read(0, 0, 1) == [0x40, 0x01, 0], "the rate of another kind of disk")
    bench.floppy.poke(0, 0, region: 1)
    bench.seek(80)
    #expect(read(80, 0, 1) == [0x40, 0x04, 0])
    // A guest that has not set DMA up.
    bench.seek(0)
    bench.dma.poke(10, 6)
    #expect(read(0, 0, 1) == [0x40, 0x10, 0])
    bench.setDMA(512, toMemory: false)
    #expect(read(0, 0, 1) == [0x40, 0x10, 0])
    bench.setDMA(512, toMemory: true)
    bench.disk.failure = { _ in .failed }
    #expect(read(0, 0, 1) == [0x40, 0x20, 0])
    bench.disk.failure = nil
    bench.setDMA(512, toMemory: true)
    #expect(read(0, 0, 1) == [0, 0, 0])
  }

  @Test func protectedDisks() throws {
    let bench = try FloppyBench()
    bench.disk.isReadOnly = true
    bench.start()
    #expect(bench.command([4, 0]) == [0x78])
    bench.setDMA(512, toMemory: false)
    #expect(bench.command([0x45, 0, 0, 0, 1, 2, 18, 0x1b, 0xff]).prefix(3) == [0x40, 0x02, 0])
    #expect(bench.command([0x4d, 0, 2, 18, 0x1b, 0xf6]).prefix(3) == [0x40, 0x02, 0])
  }

  @Test func formatting() throws {
    let bench = try FloppyBench(size: 720 << 10)
    bench.start(rate: 2)
    bench.seek(5)
    bench.setDMA(36, toMemory: false)
    for sector in 0..<9 {
      for (index, byte) in [5, 1, UInt8(9 - sector), 2].enumerated() {
        #expect(bench.platform.memory.store(byte, at: .init(0x4000 + UInt64(4 * sector + index))))
      }
    }
    #expect(bench.command([0x4d, 4, 2, 9, 0x50, 0xe5]).prefix(3) == [0x04, 0, 0])
    let track = bench.disk.contents[11 * 9 * 512..<12 * 9 * 512]
    #expect(track.allSatisfy { $0 == 0xe5 } && bench.disk.contents[12 * 9 * 512] == 12 * 9)
    // The identification of another track.
    bench.setDMA(36, toMemory: false)
    bench.seek(6)
    #expect(bench.command([0x4d, 4, 2, 9, 0x50, 0xe5]).prefix(3) == [0x44, 0x04, 0])
  }

  /// The change line is up until a head moves, and stays up where there is no disk.
  @Test func diskChange() throws {
    let bench = try FloppyBench()
    bench.start()
    #expect(bench.floppy.peek(0, region: 1) == 0x80)
    #expect(bench.command([7, 0]) == [] && bench.command([8]) == [0x20, 0])
    #expect(bench.floppy.peek(0, region: 1) == 0)
    bench.floppy.poke(2, 0x0c)
    #expect(bench.floppy.peek(0, region: 1) == 0, "the motor is off")
    bench.floppy.poke(2, 0x2d)
    #expect(bench.command([7, 1]) == [] && bench.command([8]) == [0x71, 0])
    #expect(bench.floppy.peek(0, region: 1) == 0x80)
  }

  @Test func identification() throws {
    let bench = try FloppyBench()
    bench.start()
    bench.seek(7)
    #expect(bench.command([0x4a, 4]) == [4, 0, 0, 7, 1, 1, 2] && bench.command([0x4a, 4]) == [4, 0, 0, 7, 1, 2, 2])
    #expect(bench.command([0x4a, 1]) == [0x41, 1, 0, 0, 0, 1, 2])
    // Relative seeks, and one that is implied.
    #expect(bench.command([0xcf, 0, 3]) == [] && bench.command([8]) == [0x20, 10])
    #expect(bench.command([0x8f, 0, 20]) == [] && bench.command([8]) == [0x20, 0])
    #expect(bench.command([0x13, 0, 0x50, 0]) == [])
    bench.setDMA(512, toMemory: true)
    #expect(bench.command([0x46, 0, 9, 0, 1, 2, 18, 0x1b, 0xff]) == [0, 0, 0, 9, 0, 2, 2])
  }

  /// What a disk gives after the controller was reset is nobody's.
  @Test func resetInTheMiddle() throws {
    let bench = try FloppyBench()
    bench.start()
    bench.setDMA(512, toMemory: true)
    bench.send([0x46, 0, 0, 0, 1, 2, 18, 0x1b, 0xff])
    #expect(bench.status == 0x10 && bench.disk.pendingCount == 1)
    bench.floppy.poke(4, 0x80)
    #expect(bench.status == 0x80 && bench.line.level)
    bench.disk.completeAll()
    #expect(bench.status == 0x80 && bench.memory(4) == [0, 0, 0, 0])
    for drive: UInt8 in 0..<4 { #expect(bench.command([8]) == [0xc0 | drive, 0]) }
  }

  @Test func stateSurvives() throws {
    let bench = try FloppyBench()
    bench.start(withoutDMA: true)
    bench.seek(2)
    bench.send([0x46, 0, 2, 0, 1, 2, 18, 0x1b, 0xff])
    bench.disk.completeAll()
    for _ in 0..<100 { _ = bench.floppy.peek(5) }
    let copy = FloppyController(disks: [bench.disk], dma: bench.dma, interrupt: bench.line.line)
    copy.attach(to: bench.platform.devices)
    copy.reset()
    try transfer(from: bench.floppy, to: copy)
    #expect(copy.save() == bench.floppy.save() && bench.line.level)
    let rest = (0..<412).map { _ in UInt8(copy.peek(5)) }
    #expect(rest == Array(bench.disk.contents[2 * 36 * 512 + 100..<2 * 36 * 512 + 512]))
    // The next sector is on its way.
    #expect(bench.disk.pendingCount == 1)
  }

  @Test func formats() {
    #expect(
      FloppyFormat.all.map { Int($0.size >> 10) } == [160, 180, 320, 360, 720, 1200, 1440, 1600, 1680, 1722, 2880])
    #expect(FloppyFormat(size: 1440 << 10)?.sectors == 18 && FloppyFormat(size: 1440 << 10)?.drive == 4)
    #expect(FloppyFormat(size: 1_000_000) == nil && FloppyFormat(size: 0) == nil)
  }

  @Test(arguments: 0..<4) func randomAccesses(seed: UInt64) throws {
    let bench = try FloppyBench()
    bench.start(withoutDMA: seed & 1 != 0)
    bench.floppy.withstand(60_000, seed: seed, offsets: 8) { random in
      if Int.random(in: 0..<4, using: &random) == 0 { bench.disk.complete() }
      if Int.random(in: 0..<50, using: &random) == 0 { bench.floppy.poke(2, 0x1c) }
      if Int.random(in: 0..<50, using: &random) == 0 { bench.setDMA(2048, toMemory: Bool.random(using: &random)) }
      // Whole commands, half of them sensible.
      if Int.random(in: 0..<20, using: &random) == 0 {
        let code = [0x46, 0x45, 0x4d, 0xe6, 0x42, 0x56, 0x4c, 0x0f].randomElement(using: &random)!
        bench.floppy.poke(5, UInt64(code))
        for byte in [0, 0, 0, UInt64.random(in: 0..<20, using: &random), 2, 18, 0x1b, 0xff] {
          bench.floppy.poke(5, byte)
        }
      }
    }
  }
}
