import Machine
import TestSupport
import Testing

@testable import Devices

@Suite struct PICTests {
  private let platform: FakePlatform
  private let output: RecordedLine
  private let pic: PIC

  init() throws {
    platform = try FakePlatform()
    output = RecordedLine(clock: platform.clock)
    pic = platform.start(PIC(output: output.line))
    initialize(pic)
  }

  /// ICW1 to ICW4 for vectors 0x20 and 0x28.
  private func initialize(_ pic: PIC, icw4: UInt8 = 1, slaveICW4: UInt8 = 1) {
    for (region, base, cascade, last) in [(0, 0x20, 4, icw4), (1, 0x28, 2, slaveICW4)] as [(Int, UInt8, UInt8, UInt8)] {
      command(0x11, region, pic)
      for word in [base, cascade, last] { data(word, region, pic) }
    }
  }

  private func command(_ value: UInt8, _ region: Int = 0, _ pic: PIC? = nil) {
    (pic ?? self.pic).write(region: region, offset: 0, size: 1, value: UInt64(value))
  }

  private func data(_ value: UInt8, _ region: Int = 0, _ pic: PIC? = nil) {
    (pic ?? self.pic).write(region: region, offset: 1, size: 1, value: UInt64(value))
  }

  private func status(_ region: Int = 0) -> UInt8 {
    UInt8(truncatingIfNeeded: pic.read(region: region, offset: 0, size: 1))
  }

  private func requests(_ region: Int = 0) -> UInt8 {
    command(0x0a, region)
    return status(region)
  }

  private func inService(_ region: Int = 0) -> UInt8 {
    command(0x0b, region)
    return status(region)
  }

  /// Non-specific end of interrupt.
  private func end(_ region: Int = 0) { command(0x20, region) }

  @Test func priorities() {
    pic.line(5).set(true)
    pic.line(3).set(true)
    #expect(output.level && requests() == 0x28)
    #expect(pic.vector == 0x23 && pic.vector == 0x23)
    #expect(pic.acknowledge() == 0x23)
    #expect(!output.level && requests() == 0x20 && inService() == 0x08)
    pic.line(1).set(true)
    #expect(output.level && pic.acknowledge() == 0x21)
    end()
    #expect(inService() == 0x08 && !output.level)
    end()
    #expect(output.level && pic.acknowledge() == 0x25)
  }

  @Test func edgesAndLevels() {
    pic.line(4).set(true)
    #expect(pic.acknowledge() == 0x24)
    end()
    #expect(!output.level, "the line must fall and rise")
    pic.line(4).set(false)
    pic.line(4).set(true)
    #expect(pic.acknowledge() == 0x24)
    end()
    pic.line(4).set(false)
    pic.line(4).pulse()
    #expect(pic.acknowledge() == 0x24, "a pulse is remembered")
    end()
    pic.write(region: 2, offset: 0, size: 1, value: 0xff)
    pic.write(region: 2, offset: 1, size: 1, value: 0xff)
    #expect(pic.read(region: 2, offset: 0, size: 1) == 0xf8)
    #expect(pic.read(region: 2, offset: 1, size: 1) == 0xde)
    pic.line(5).set(true)
    #expect(pic.acknowledge() == 0x25)
    end()
    #expect(output.level && pic.acknowledge() == 0x25)
    pic.line(5).set(false)
    end()
    #expect(!output.level)
    pic.line(5).pulse()
    #expect(!output.level && requests() == 0, "a level that went away")
  }

  @Test func masks() {
    data(0xff)
    pic.line(6).set(true)
    #expect(!output.level && requests() == 0x40)
    #expect(pic.read(region: 0, offset: 1, size: 1) == 0xff)
    data(0xbf)
    #expect(output.level && pic.acknowledge() == 0x26)
  }

  @Test func cascade() {
    pic.line(12).set(true)
    #expect(requests() == 0x04 && requests(1) == 0x10)
    #expect(pic.acknowledge() == 0x2c)
    #expect(inService() == 0x04 && inService(1) == 0x10)
    // More urgent at the slave, but the master's input 2 is in service.
    pic.line(9).set(true)
    #expect(!output.level)
    pic.line(0).set(true)
    #expect(pic.acknowledge() == 0x20)
    end()
    end(1)
    #expect(!output.level)
    end()
    #expect(pic.acknowledge() == 0x29)
    end(1)
    end()
    #expect(inService() == 0 && inService(1) == 0 && !output.level)
  }

  @Test func spuriousInterrupts() {
    #expect(pic.vector == 0x27 && pic.acknowledge() == 0x27)
    #expect(inService() == 0)
    // The slave's request goes away after the master took it over.
    pic.write(region: 2, offset: 1, size: 1, value: 0x02)
    pic.line(9).pulse()
    #expect(output.level && pic.acknowledge() == 0x2f)
    #expect(inService() == 0x04 && inService(1) == 0)
  }

  @Test func specialFullyNested() {
    initialize(pic, icw4: 0x11)
    pic.line(12).set(true)
    #expect(pic.acknowledge() == 0x2c)
    pic.line(4).set(true)
    #expect(!output.level, "less urgent than the slave")
    pic.line(9).set(true)
    #expect(output.level && pic.acknowledge() == 0x29)
    #expect(inService(1) == 0x12)
  }

  @Test func automaticEndOfInterrupt() {
    initialize(pic, icw4: 0x03)
    pic.line(3).set(true)
    pic.line(4).set(true)
    #expect(pic.acknowledge() == 0x23)
    #expect(inService() == 0 && output.level)
    #expect(output.changes.suffix(2).map(\.level) == [false, true], "each interrupt is an edge of the output")
    #expect(pic.acknowledge() == 0x24)
    // Rotation in this mode.
    command(0x80)
    pic.line(3).pulse()
    pic.line(3).set(false)
    pic.line(3).set(true)
    #expect(pic.acknowledge() == 0x23)
    for line in [2 + 1, 5] {
      pic.line(line).set(false)
      pic.line(line).set(true)
    }
    #expect(pic.acknowledge() == 0x25, "3 has become the least urgent")
    command(0x00)
  }

  @Test func rotation() {
    // Specific: 3 becomes the least urgent, so 4 is the most urgent.
    command(0xc3)
    for line in [3, 4, 0] { pic.line(line).set(true) }
    #expect(pic.acknowledge() == 0x24)
    // Rotate on non-specific end of interrupt: 4 goes to the end.
    command(0xa0)
    #expect(inService() == 0)
    #expect(pic.acknowledge() == 0x20)
    // Rotate on specific end of interrupt.
    command(0xe0)
    #expect(inService() == 0)
    pic.line(1).set(true)
    pic.line(0).set(false)
    pic.line(0).set(true)
    #expect(pic.acknowledge() == 0x21)
    command(0x61)
    #expect(pic.acknowledge() == 0x23)
    // A no-operation and an end of something that is not in service.
    command(0x40)
    command(0x66)
    #expect(inService() == 0x08)
    end()
    #expect(pic.acknowledge() == 0x20)
  }

  @Test func specialMaskMode() {
    pic.line(3).set(true)
    #expect(pic.acknowledge() == 0x23)
    data(0x08)
    pic.line(6).set(true)
    #expect(!output.level)
    command(0x68)
    #expect(output.level && pic.acknowledge() == 0x26)
    end()
    #expect(inService() == 0x08, "a masked one is not ended by a non-specific end")
    end()
    #expect(inService() == 0x08)
    command(0x63)
    #expect(inService() == 0)
    command(0x48)
    #expect(pic.read(region: 0, offset: 1, size: 1) == 0x08)
  }

  @Test func polling() {
    command(0x0c)
    #expect(status() == 0)
    pic.line(10).set(true)
    command(0x0c)
    #expect(status() == 0x82)
    #expect(inService() == 0x04)
    command(0x0c, 1)
    #expect(pic.read(region: 1, offset: 1, size: 1) == 0x82, "either address answers")
    #expect(inService(1) == 0x04)
    #expect(pic.read(region: 1, offset: 1, size: 1) == 0, "the mask again")
    end(1)
    end()
    #expect(!output.level && requests() == 0)
  }

  @Test func initialization() {
    pic.line(4).set(true)
    _ = pic.acknowledge()
    pic.line(6).set(true)
    data(0x01)
    command(0x68)
    command(0x11)
    #expect(!output.level)
    data(0x40)
    data(0x04)
    pic.line(5).set(true)
    #expect(!output.level, "not before the last word")
    data(0x01)
    #expect(output.level && pic.acknowledge() == 0x45)
    #expect(status() == 0, "IRR is read again; 6 has to rise again")
    #expect(inService() == 0x20)
    #expect(pic.read(region: 0, offset: 1, size: 1) == 0)
    // Single, without ICW4: two words.
    command(0x12)
    data(0x50)
    pic.line(7).set(true)
    #expect(pic.acknowledge() == 0x57)
    data(0x80)
    #expect(pic.read(region: 0, offset: 1, size: 1) == 0x80)
  }

  @Test func aSlaveWithAnotherNumberDoesNotAnswer() {
    command(0x11, 1)
    for word in [0x28, 3, 1] as [UInt8] { data(word, 1) }
    pic.line(8).set(true)
    #expect(pic.acknowledge() == 0xff)
  }

  @Test func portsBeyondTheDeviceReadAllOnes() {
    #expect(pic.read(region: 0, offset: 2, size: 1) == .max)
    pic.line(2).set(true)
    #expect(requests() == 0, "input 2 is the slave's")
  }

  @Test(arguments: 1...10 as ClosedRange<UInt64>) func snapshots(seed: UInt64) throws {
    var random = SeededRandom(seed: seed)
    for _ in 0..<300 { _ = perturb(pic, &random) }
    let copyOutput = RecordedLine(clock: platform.clock)
    let copy = platform.start(PIC(output: copyOutput.line))
    try transfer(from: pic, to: copy)
    #expect(copyOutput.level == output.level)
    var sameRandom = random
    for step in 0..<500 {
      #expect(perturb(pic, &random) == perturb(copy, &sameRandom), "step \(step)")
      #expect(copyOutput.level == output.level, "step \(step)")
    }
  }

  private func perturb(_ pic: PIC, _ random: inout SeededRandom) -> UInt64 {
    let region = Int.random(in: 0..<3, using: &random)
    let offset = UInt64.random(in: 0..<2, using: &random)
    let value = random.next()
    switch value >> 32 % 5 {
    case 0: return pic.read(region: region, offset: offset, size: 1)
    case 1: pic.write(region: region, offset: offset, size: 1, value: value & 0xff)
    case 2: return UInt64(pic.acknowledge())
    case 3: pic.write(region: region, offset: 0, size: 1, value: 0x20)
    default: pic.line(Int(value % 16)).set(value & 16 != 0)
    }
    return UInt64(pic.vector)
  }
}
