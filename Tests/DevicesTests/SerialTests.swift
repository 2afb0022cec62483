import Machine
import Memory
import TestSupport
import Testing

@testable import Devices

/// A host that takes what it has room for.
private final class FakeBackend: CharacterBackend {
  var sent: [UInt8] = []
  var room = Int.max

  func send(_ bytes: [UInt8]) -> Int {
    let count = min(room, bytes.count)
    sent += bytes.prefix(count)
    if room != .max { room -= count }
    return count
  }
}

@Suite struct SerialTests {
  private let platform: FakePlatform
  private let line: RecordedLine
  private let backend = FakeBackend()
  private let serial: Serial16550

  // Register offsets.
  private let data: UInt64 = 0
  private let interruptEnable: UInt64 = 1
  private let identification: UInt64 = 2
  private let fifoControl: UInt64 = 2
  private let lineControl: UInt64 = 3
  private let modemControl: UInt64 = 4
  private let lineStatus: UInt64 = 5
  private let modemStatus: UInt64 = 6
  private let scratch: UInt64 = 7

  init() throws {
    platform = try FakePlatform()
    line = RecordedLine(clock: platform.clock)
    serial = platform.start(Serial16550(interrupt: line.line))
    serial.backend = backend
  }

  @Test func powerOnValues() {
    #expect((0..<8).map { serial.peek($0) } == [0, 0, 0x01, 0, 0, 0x60, 0xb0, 0])
    #expect(!line.level)
  }

  @Test func registersKeepWhatTheyHaveBitsFor() {
    for (register, kept) in [(interruptEnable, 0x0f), (lineControl, 0xff), (modemControl, 0x1f), (scratch, 0xff)] {
      for value: UInt64 in [0xff, 0x55, 0x00] {
        serial.poke(register, value)
        #expect(serial.peek(register) == value & UInt64(kept))
      }
    }
  }

  @Test func divisorLatchHidesDataAndInterruptEnable() {
    serial.poke(interruptEnable, 0x05)
    serial.poke(lineControl, 0x83)
    serial.poke(data, 0x34)
    serial.poke(interruptEnable, 0x12)
    #expect(serial.peek(data) == 0x34 && serial.peek(interruptEnable) == 0x12)
    // A word access reaches both bytes, as on an ISA bus.
    #expect(serial.peek(data, size: 2) == 0x1234)
    serial.poke(lineControl, 0x03)
    #expect(serial.peek(interruptEnable) == 0x05)
    #expect(backend.sent.isEmpty)
  }

  @Test func sendsAtOnceAndSaysSo() {
    serial.poke(lineControl, 0x03)
    serial.poke(interruptEnable, 0x02)
    #expect(line.level)
    #expect(serial.peek(identification) == 0x02)
    #expect(!line.level)
    serial.poke(data, 0x41)
    #expect(backend.sent == [0x41])
    #expect(serial.peek(lineStatus) == 0x60)
    #expect(line.level && serial.peek(identification) == 0x02)
    #expect(serial.peek(identification) == 0x01)
  }

  @Test func eachWriteIsAnEdge() {
    serial.poke(interruptEnable, 0x02)
    line.clear()
    for _ in 0..<3 { serial.poke(data, 0x41) }
    #expect(line.rises.count == 3)
  }

  @Test func wordLengthCutsBytes() {
    for (length, mask): (UInt64, UInt8) in [(0, 0x1f), (1, 0x3f), (2, 0x7f), (3, 0xff)] {
      serial.poke(lineControl, length)
      serial.poke(data, 0xff)
      #expect(backend.sent.last == mask)
    }
  }

  @Test func receivesOneByteWithoutFIFOs() {
    serial.poke(interruptEnable, 0x01)
    serial.poke(lineControl, 0x03)
    #expect(serial.receiveCapacity == 1)
    serial.receive([0x61])
    #expect(!serial.canReceive)
    #expect(line.level && serial.peek(identification) == 0x04)
    #expect(serial.peek(lineStatus) == 0x61)
    #expect(serial.peek(data) == 0x61)
    #expect(!line.level && serial.peek(lineStatus) == 0x60)
    #expect(platform.inputs.received.map(\.source) == ["serial"])
  }

  @Test func newByteReplacesUnreadWithoutFIFOs() {
    serial.poke(lineControl, 0x03)
    serial.receive([0x61, 0x62])
    #expect(serial.peek(lineStatus) == 0x63)
    #expect(serial.peek(lineStatus) == 0x61)
    #expect(serial.peek(data) == 0x62)
  }

  @Test(arguments: [(UInt64(0x01), 1), (0x41, 4), (0x81, 8), (0xc1, 14)])
  func interruptsAtTriggerLevel(control: UInt64, level: Int) {
    serial.poke(fifoControl, control)
    serial.poke(interruptEnable, 0x01)
    serial.poke(lineControl, 0x03)
    for count in 1...16 {
      serial.receive([UInt8(count)])
      #expect(line.level == (count >= level))
      #expect(serial.peek(identification) == (count >= level ? 0xc4 : 0xc1))
    }
    #expect(serial.receiveCapacity == 0)
    serial.receive([0xff])
    #expect(serial.peek(lineStatus) == 0x63)
    #expect((1...16).map { _ in serial.peek(data) } == Array(1...16))
    #expect(!line.level && serial.peek(lineStatus) == 0x60)
  }

  @Test func timesOutBelowTriggerLevel() {
    serial.poke(fifoControl, 0xc1)
    serial.poke(interruptEnable, 0x01)
    serial.poke(lineControl, 0x03)
    serial.receive([0x61])
    platform.clock.advance(by: Serial16550.timeout - 1)
    #expect(!line.level)
    // Another byte starts the time again.
    serial.receive([0x62])
    platform.clock.advance(by: Serial16550.timeout - 1)
    #expect(!line.level)
    platform.clock.advance(by: 1)
    #expect(line.level && serial.peek(identification) == 0xcc)
    // And so does reading one.
    #expect(serial.peek(data) == 0x61)
    #expect(!line.level && serial.peek(identification) == 0xc1)
    platform.clock.advance(by: Serial16550.timeout)
    #expect(serial.peek(identification) == 0xcc)
    #expect(serial.peek(data) == 0x62)
    #expect(platform.clock.nextDeadline == nil)
  }

  @Test func raisingTheTriggerLevelStartsTheTimeout() {
    serial.poke(fifoControl, 0x01)
    serial.poke(interruptEnable, 0x01)
    serial.receive([1, 2])
    serial.poke(fifoControl, 0xc1)
    #expect(!line.level)
    platform.clock.advance(by: Serial16550.timeout)
    #expect(line.level)
  }

  @Test func prioritiesOfInterrupts() {
    serial.poke(fifoControl, 0x01)
    serial.poke(interruptEnable, 0x0f)
    serial.setPeerLines(0x00)
    serial.receiveBreak()
    // Line status, received data, transmitter, modem status: each shows when the one before is served.
    #expect(serial.peek(identification) == 0xc6)
    #expect(serial.peek(lineStatus) == 0xf1)
    #expect(serial.peek(identification) == 0xc4)
    #expect(serial.peek(data) == 0)
    #expect(serial.peek(identification) == 0xc2)
    #expect(serial.peek(identification) == 0xc0)
    #expect(serial.peek(modemStatus) == 0x0b)
    #expect(serial.peek(identification) == 0xc1)
    #expect(!line.level)
  }

  @Test func breakIsReportedWithItsByte() {
    serial.poke(fifoControl, 0x01)
    serial.poke(lineControl, 0x03)
    serial.receive([0x61])
    serial.receiveBreak()
    // The error shows when its byte is on top; bit 7 says at once that there is one.
    #expect(serial.peek(lineStatus) == 0xe1)
    #expect(serial.peek(data) == 0x61)
    #expect(serial.peek(lineStatus) == 0xf1)
    #expect(serial.peek(lineStatus) == 0x61)
  }

  @Test func ringReportsItsEnd() {
    serial.setPeerLines(0xf0)
    #expect(serial.peek(modemStatus) == 0xf0)
    serial.setPeerLines(0xb0)
    #expect(serial.peek(modemStatus) == 0xb4)
    #expect(serial.peek(modemStatus) == 0xb0)
  }

  @Test func loopbackConnectsOutputsToInputs() {
    serial.poke(lineControl, 0x03)
    for outputs: UInt64 in 0..<16 {
      serial.poke(modemControl, 0x10 | outputs)
      // CTS from RTS, DSR from DTR, RI from OUT1, DCD from OUT2.
      let expected = (outputs >> 1 & 1) << 4 | (outputs & 1) << 5 | (outputs >> 2 & 1) << 6 | (outputs >> 3) << 7
      #expect(serial.peek(modemStatus) & 0xf0 == expected)
    }
    serial.poke(data, 0x5a)
    #expect(serial.peek(data) == 0x5a)
    #expect(backend.sent.isEmpty)
    serial.receive([0x61])
    #expect(serial.peek(lineStatus) == 0x60)
    serial.poke(lineControl, 0x43)
    #expect(serial.peek(lineStatus) == 0x71)
  }

  @Test(arguments: [0x00, 0x08, 0x10, 0x1b] as [UInt64]) func interruptsNeedNoModemControl(_ value: UInt64) {
    serial.poke(modemControl, value)
    #expect(!line.level)
    serial.poke(interruptEnable, 0x02)
    #expect(line.level)
    #expect(serial.peek(identification) == 0x02)
    #expect(!line.level)
  }

  @Test func transmitterFillsWhileTheHostIsBusy() {
    serial.poke(fifoControl, 0x01)
    serial.poke(lineControl, 0x03)
    serial.poke(interruptEnable, 0x02)
    backend.room = 1
    _ = serial.peek(identification)
    for byte: UInt64 in 0..<20 { serial.poke(data, byte) }
    // One went out, 16 wait, three were lost.
    #expect(serial.peek(lineStatus) == 0x00)
    #expect(!line.level && serial.peek(identification) == 0xc1)
    backend.room = 10
    serial.resumeTransmission()
    #expect(serial.peek(lineStatus) == 0x00)
    backend.room = .max
    serial.resumeTransmission()
    #expect(backend.sent == Array(0...16))
    #expect(line.level && serial.peek(identification) == 0xc2)
  }

  @Test func hostIsToldWhenItMayGoOn() {
    var waiting = Array(UInt8(0)..<40)
    serial.poke(fifoControl, 0x81)
    serial.poke(lineControl, 0x03)
    let feed = { [serial] in
      while serial.canReceive, !waiting.isEmpty {
        let count = min(serial.receiveCapacity, waiting.count)
        serial.receive(Array(waiting.prefix(count)))
        waiting.removeFirst(count)
      }
    }
    serial.onReadyToReceive = feed
    feed()
    #expect(waiting.count == 24)
    var read: [UInt64] = []
    while serial.peek(lineStatus) & 1 != 0 { read.append(serial.peek(data)) }
    #expect(read == Array(0..<40))
    serial.onReadyToReceive = nil
  }

  /// The questions that Linux's 8250 driver asks (drivers/tty/serial/8250/8250_port.c), and the answers of a 16550A.
  @Test func linuxRecognisesA16550A() {
    serial.poke(interruptEnable, 0)
    #expect(serial.peek(interruptEnable) & 0x0f == 0)
    serial.poke(interruptEnable, 0x0f)
    #expect(serial.peek(interruptEnable) & 0x0f == 0x0f)
    serial.poke(interruptEnable, 0)
    serial.poke(modemControl, 0x1a)
    #expect(serial.peek(modemStatus) & 0xf0 == 0x90)
    serial.poke(modemControl, 0)
    serial.poke(lineControl, 0xbf)
    serial.poke(2, 0)
    serial.poke(lineControl, 0)
    serial.poke(fifoControl, 0x01)
    #expect(serial.peek(identification) >> 6 == 3)
    // No enhanced feature register, no 64-byte FIFO, no unit-enable bit.
    serial.poke(lineControl, 0x80)
    #expect(serial.peek(2) != 0)
    serial.poke(fifoControl, 0x21)
    #expect(serial.peek(identification) >> 5 == 6)
    serial.poke(lineControl, 0)
    serial.poke(interruptEnable, 0x40)
    #expect(serial.peek(interruptEnable) == 0)
    // Its transmitter says that it is empty each time that it is asked.
    for _ in 0..<2 {
      serial.poke(interruptEnable, 0x02)
      #expect(serial.peek(identification) & 0x0f == 0x02)
      serial.poke(interruptEnable, 0)
    }
  }

  @Test func stateSurvivesASnapshot() throws {
    serial.poke(fifoControl, 0xc1)
    serial.poke(lineControl, 0x83)
    serial.poke(data, 12)
    serial.poke(lineControl, 0x1b)
    serial.poke(interruptEnable, 0x01)
    serial.poke(scratch, 0x77)
    serial.receive([1, 2, 3])
    let state = try serial.storedState()

    let other = platform.start(Serial16550(interrupt: line.line))
    other.restore(state)
    #expect(other.save() == serial.save())
    serial.reset()
    platform.clock.advance(by: Serial16550.timeout)
    #expect(line.level)
    #expect((1...3).map { _ in other.peek(data) } == [1, 2, 3])
    #expect(!line.level)
  }

  @Test func withstandsAnything() throws {
    serial.withstand(20_000, seed: 1, offsets: 9) { random in
      platform.clock.advance(by: random.next() % 200_000)
      switch random.next() % 8 {
      case 0: serial.receive((0..<random.next() % 20).map { UInt8($0) })
      case 1: serial.receiveBreak()
      case 2: serial.setPeerLines(UInt8(truncatingIfNeeded: random.next()))
      case 3: backend.room = Int(random.next() % 4)
      case 4: serial.resumeTransmission()
      case 5: serial.restore(serial.save())
      default: break
      }
      #expect(serial.receiveCapacity <= 16)
    }
    #expect(try serial.storedState() == serial.save())
  }
}
