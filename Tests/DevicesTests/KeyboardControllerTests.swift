import Machine
import Memory
import TestSupport
import Testing

@testable import Devices

@Suite struct KeyboardControllerTests {
  private let platform: FakePlatform
  private let keyboardLine: RecordedLine
  private let mouseLine: RecordedLine
  private let gate = A20Gate()
  private let controller: KeyboardController

  private let data: UInt64 = 0
  private let command: UInt64 = 4

  init() throws {
    platform = try FakePlatform()
    keyboardLine = RecordedLine(clock: platform.clock)
    mouseLine = RecordedLine(clock: platform.clock)
    controller = platform.start(
      KeyboardController(keyboardInterrupt: keyboardLine.line, mouseInterrupt: mouseLine.line, a20: gate))
  }

  /// Everything that the controller has to say, as (byte, is the mouse's).
  private func drain() -> [UInt64] {
    var bytes: [UInt64] = []
    while controller.peek(command) & 1 != 0, bytes.count < 300 { bytes.append(controller.peek(data)) }
    return bytes
  }

  private func ask(_ byte: UInt64) -> [UInt64] {
    controller.poke(command, byte)
    return drain()
  }

  private func toKeyboard(_ bytes: UInt64...) -> [UInt64] {
    bytes.flatMap {
      controller.poke(data, $0)
      return drain()
    }
  }

  private func toMouse(_ bytes: UInt64...) -> [UInt64] {
    bytes.flatMap {
      controller.poke(command, 0xd4)
      controller.poke(data, $0)
      return drain()
    }
  }

  private func setCommandByte(_ value: UInt64) {
    controller.poke(command, 0x60)
    controller.poke(data, value)
  }

  @Test func testsItself() {
    #expect(controller.peek(command) == 0x10)
    #expect(ask(0xaa) == [0x55])
    #expect(ask(0xab) == [0x00])
    #expect(ask(0xa9) == [0x00])
    #expect(ask(0xa4) == [0xf1])
    // Self-test passed; the last write was a command.
    #expect(controller.peek(command) == 0x1c)
  }

  @Test func commandByteAndMemory() {
    setCommandByte(0x30)
    #expect(ask(0x20) == [0x30])
    controller.poke(command, 0x7f)
    controller.poke(data, 0x99)
    #expect(ask(0x3f) == [0x99])
    #expect(ask(0xa8) == [] && ask(0x20) == [0x10])
    #expect(ask(0xa7) == [] && ask(0x20) == [0x30])
    #expect(ask(0xae) == [] && ask(0x20) == [0x20])
    #expect(ask(0xad) == [] && ask(0x20) == [0x30])
  }

  /// What Linux's i8042 driver does to find the auxiliary port (drivers/input/serio/i8042.c).
  @Test func linuxFindsTheAuxiliaryPort() {
    setCommandByte(0x43)
    controller.poke(command, 0xd3)
    controller.poke(data, 0x5a)
    #expect(controller.peek(command) & 0x21 == 0x21)
    #expect(mouseLine.level && !keyboardLine.level)
    #expect(drain() == [0x5a])
    #expect(!mouseLine.level)
    // It is no multiplexer: the probe's third byte comes back as it is.
    for byte: UInt64 in [0xf0, 0x56, 0xa4] {
      controller.poke(command, 0xd3)
      controller.poke(data, byte)
      #expect(drain() == [byte])
    }
  }

  @Test func keyboardAnswers() {
    setCommandByte(0x01)
    #expect(toKeyboard(0xff) == [0xfa, 0xaa])
    #expect(toKeyboard(0xf2) == [0xfa, 0xab, 0x83])
    #expect(toKeyboard(0xed, 0x07) == [0xfa, 0xfa])
    #expect(toKeyboard(0xf0, 0x00) == [0xfa, 0xfa, 0x02])
    #expect(toKeyboard(0xf0, 0x01, 0xf0, 0x00) == [0xfa, 0xfa, 0xfa, 0xfa, 0x01])
    #expect(toKeyboard(0xf0, 0x03) == [0xfa, 0xfe])
    #expect(toKeyboard(0xf3, 0x20) == [0xfa, 0xfa])
    #expect(toKeyboard(0xee) == [0xee])
    #expect(toKeyboard(0xfe) == [0xee])
    #expect(toKeyboard(0xf5) == [0xfa] && toKeyboard(0xf4) == [0xfa] && toKeyboard(0xf6) == [0xfa])
    #expect(toKeyboard(0x12) == [0xfe])
    // A command in place of an argument is a command.
    #expect(toKeyboard(0xed, 0xf4) == [0xfa, 0xfa])
  }

  @Test func keyboardIdentifiesThroughTranslation() {
    #expect(toKeyboard(0xf2) == [0xfa, 0xab, 0x41])
  }

  @Test func keysAreTranslated() {
    controller.press([0x1c])
    #expect(keyboardLine.level)
    controller.press([0xf0, 0x1c])
    controller.press([0xe0, 0x75, 0xe0, 0xf0, 0x75])
    controller.press([0x83])
    #expect(drain() == [0x1e, 0x9e, 0xe0, 0x48, 0xe0, 0xc8, 0x41])
    #expect(!keyboardLine.level)
    setCommandByte(0x01)
    controller.press([0xf0, 0x1c])
    #expect(drain() == [0xf0, 0x1c])
    // The keyboard's own set 1.
    #expect(toKeyboard(0xf0, 0x01) == [0xfa, 0xfa])
    controller.press([0x1c, 0xf0, 0x1c])
    #expect(drain() == [0x1e, 0x9e])
    #expect(Set(platform.inputs.received.map(\.source)) == ["i8042 keyboard"])
  }

  @Test func everyByteIsAnEdge() {
    controller.press([0x1c, 0xf0, 0x1c, 0x32])
    #expect(drain() == [0x1e, 0x9e, 0x30])
    #expect(keyboardLine.rises.count == 3)
  }

  @Test func disabledInterfacesHoldTheirBytes() {
    _ = ask(0xad)
    controller.press([0x1c])
    #expect(drain() == [])
    #expect(ask(0xae) == [0x1e])
    #expect(toKeyboard(0xf5) == [0xfa])
    controller.press([0x1c])
    #expect(drain() == [])
  }

  @Test func keysAreLostWhenNobodyReads() {
    for _ in 0..<100 { controller.press([0x1c, 0xf0, 0x1c]) }
    let bytes = drain()
    #expect(bytes.count <= 1 + PS2Queue.eventCapacity)
    #expect(bytes.allSatisfy { $0 == 0x1e || $0 == 0x9e })
  }

  @Test func mouseAnswers() {
    setCommandByte(0x47)
    #expect(toMouse(0xff) == [0xfa, 0xaa, 0x00])
    #expect(toMouse(0xf2) == [0xfa, 0x00])
    #expect(toMouse(0xe8, 0x03, 0xf3, 0x64) == [0xfa, 0xfa, 0xfa, 0xfa])
    #expect(toMouse(0xe7) == [0xfa] && toMouse(0xf4) == [0xfa])
    #expect(toMouse(0xe9) == [0xfa, 0x30, 0x03, 0x64])
    #expect(toMouse(0xe8, 0x09) == [0xfa, 0xfe])
    #expect(toMouse(0xee, 0x12, 0xec) == [0xfa, 0x12, 0xfa])
    #expect(toMouse(0x77) == [0xfe])
    #expect(mouseLine.rises.count > 10 && keyboardLine.rises.isEmpty)
  }

  @Test func mouseReportsMovement() {
    controller.move(right: 1, up: 1, wheel: 0, buttons: 0)
    #expect(drain() == [])
    _ = toMouse(0xff, 0xf4)
    controller.move(right: 5, up: -3, wheel: 1, buttons: 0b001)
    #expect(drain() == [0x29, 0x05, 0xfd])
    // The sequence that turns a wheel on.
    #expect(toMouse(0xf3, 200, 0xf3, 100, 0xf3, 80, 0xf2) == [0xfa, 0xfa, 0xfa, 0xfa, 0xfa, 0xfa, 0xfa, 0x03])
    controller.move(right: 0, up: 0, wheel: -1, buttons: 0)
    #expect(drain() == [0x08, 0x00, 0x00, 0xff])
    #expect(toMouse(0xf0) == [0xfa])
    controller.move(right: 2, up: 0, wheel: 0, buttons: 0)
    #expect(drain() == [])
    #expect(toMouse(0xeb) == [0xfa, 0x08, 0x02, 0x00, 0x00])
  }

  @Test func unreadMovementIsAddedUp() {
    _ = toMouse(0xf4)
    for _ in 0..<20 { controller.move(right: 1, up: 0, wheel: 0, buttons: 0) }
    var total: UInt64 = 0
    let bytes = drain()
    for packet in stride(from: 0, to: bytes.count, by: 3) { total += bytes[packet + 1] }
    controller.move(right: 0, up: 0, wheel: 0, buttons: 0)
    total += drain()[1]
    #expect(total == 20)
  }

  @Test func outputPortControlsA20AndReset() {
    var changes: [Bool] = []
    gate.onChange = { changes.append($0) }
    #expect(ask(0xd0) == [0x03])
    controller.poke(command, 0xd1)
    controller.poke(data, 0xdd)
    #expect(changes == [false] && !gate.isOpen)
    controller.poke(command, 0xd1)
    controller.poke(data, 0xdf)
    #expect(ask(0xdd) == [] && ask(0xdf) == [])
    #expect(changes == [false, true, false, true])
    #expect(platform.requests.isEmpty)
    controller.poke(command, 0xff)
    #expect(platform.requests.isEmpty)
    controller.poke(command, 0xfe)
    #expect(platform.requests == [.reset])
    controller.poke(command, 0xd1)
    controller.poke(data, 0xde)
    #expect(platform.requests == [.reset, .reset])
    // What is in the output buffer shows as an interrupt.
    controller.poke(command, 0xd2)
    controller.poke(data, 0x01)
    controller.poke(command, 0xd0)
    #expect(drain() == [0x01, 0x13 | 0xcc])
  }

  @Test func fastA20AndReset() {
    let port = platform.start(SystemControlPort(a20: gate))
    #expect(port.peek(0) == 0)
    _ = ask(0xdd)
    #expect(!gate.isOpen)
    port.poke(0, 0x02)
    #expect(gate.isOpen && port.peek(0) == 0x02)
    port.poke(0, 0x00)
    #expect(!gate.isOpen)
    port.poke(0, 0x03)
    port.poke(0, 0x03)
    #expect(platform.requests == [.reset])
    gate.systemControl = false
    port.restore(port.save())
    #expect(gate.isOpen)
    port.withstand(1000, seed: 3, offsets: 2)
  }

  @Test func stateSurvivesASnapshot() throws {
    setCommandByte(0x43)
    _ = ask(0xdd)
    controller.press([0xe0, 0xf0, 0x75])
    _ = toMouse(0xf3)
    controller.press([0x1c])
    let state = try controller.storedState()
    #expect(state == controller.save())
    controller.reset()
    #expect(!keyboardLine.level && gate.isOpen)
    controller.restore(state)
    #expect(keyboardLine.level && !gate.isOpen)
    #expect(drain() == [0x1e])
    // The mouse still waits for its argument.
    #expect(toMouse(0x64) == [0xfa])
  }

  @Test func withstandsAnything() throws {
    controller.withstand(40_000, seed: 2, offsets: 6) { random in
      switch random.next() % 16 {
      case 0: controller.press((0..<random.next() % 6).map { _ in UInt8(truncatingIfNeeded: random.next()) })
      case 1:
        let bits = random.next()
        controller.move(
          right: Int8(truncatingIfNeeded: bits), up: Int8(truncatingIfNeeded: bits >> 8),
          wheel: Int8(truncatingIfNeeded: bits >> 16), buttons: UInt8(truncatingIfNeeded: bits >> 24))
      case 2: controller.restore(controller.save())
      default: break
      }
    }
    #expect(try controller.storedState() == controller.save())
  }
}
