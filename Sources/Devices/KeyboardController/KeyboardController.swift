import Machine

/// The PC's keyboard controller, an 8042 with PS/2 firmware, with a keyboard and a mouse plugged in (IBM Personal
/// System/2 Hardware Interface Technical Reference, "Keyboard and Auxiliary Device Controller").
///
/// Beside keys and movements it carries two wires that have nothing to do with either: its output port opens A20 and
/// resets the machine, which is how a PC is rebooted (command 0xfe).
///
/// Bytes wait where they come from: the controller's answers in `answers`, the devices' in their own queues. Whenever the
/// one-byte output buffer is free, `fill` moves the next byte into it, and raises the interrupt that belongs to it.
/// Reading port 0x60 frees the buffer, which drops the interrupt wire before the next byte raises it again, so that an
/// edge-triggered controller counts every byte. Nothing takes time: a command is answered before the write returns.
///
/// Region 0: offset 0 is the data port (0x60), offset 4 command and status (0x64). Interrupt lines: keyboard ISA IRQ 1,
/// mouse ISA IRQ 12.
public final class KeyboardController: Device {
  public let name = "i8042"

  private let keyboardLine: InterruptLine
  private let mouseLine: InterruptLine
  private let gate: A20Gate
  private var platform: DevicePlatform?
  private var state = State()
  private var errors = GuestErrorLog(device: "i8042")

  public init(keyboardInterrupt: InterruptLine, mouseInterrupt: InterruptLine, a20 gate: A20Gate) {
    keyboardLine = keyboardInterrupt
    mouseLine = mouseInterrupt
    self.gate = gate
  }

  public func attach(to platform: DevicePlatform) {
    self.platform = platform
    errors.start(platform.log)
  }

  public func reset() { restore(State()) }

  public func save() -> State { state }

  public func restore(_ state: State) {
    self.state = state
    // A snapshot from outside may hold less than the chip has.
    if self.state.memory.count != 32 { self.state.memory = State().memory }
    gate.keyboardController = state.outputPort & OutputPort.a20 != 0
    interruptsChanged()
  }

  // MARK: The host's side

  /// Keys: whole make and break codes of scan code set 2, as a keyboard sends them ("a" down and up: 1c, f0 1c). Lost
  /// where the keyboard's buffer is full or the guest has switched it off.
  public func press(_ scanCodes: [UInt8]) {
    guard let platform else { return }
    let codes = platform.inputs.receive(scanCodes, source: "\(name) keyboard")
    if !codes.isEmpty { state.keyboard.press(codes) }
    fill()
  }

  /// The mouse: counts to the right, up, and of the wheel towards the user; buttons are left 0, right 1, middle 2.
  public func move(right: Int8, up: Int8, wheel: Int8, buttons: UInt8) {
    guard let platform else { return }
    let event = [UInt8(bitPattern: right), UInt8(bitPattern: up), UInt8(bitPattern: wheel), buttons]
    let seen = platform.inputs.receive(event, source: "\(name) mouse")
    guard seen.count == event.count else { return }
    state.mouse.move(
      right: Int(Int8(bitPattern: seen[0])), up: Int(Int8(bitPattern: seen[1])), wheel: Int(Int8(bitPattern: seen[2])),
      buttons: seen[3])
    fill()
  }

  // MARK: Ports

  public func read(region: Int, offset: UInt64, size: Int) -> UInt64 {
    ByteCycles.read(offset: offset, size: size) { offset in
      switch offset {
      case 0: takeOutput()
      case 4: status
      default: 0xff
      }
    }
  }

  public func write(region: Int, offset: UInt64, size: Int, value: UInt64) {
    ByteCycles.write(offset: offset, size: size, value: value) { offset, value in
      switch offset {
      case 0: writeData(value)
      case 4: writeCommand(value)
      default: break
      }
    }
  }

  private var status: UInt8 {
    var value = Status.notInhibited
    if let output = state.output {
      value |= Status.outputFull
      if output.isAuxiliary { value |= Status.auxiliaryOutputFull }
    }
    if state.commandByte & CommandByte.system != 0 { value |= Status.system }
    if state.lastWriteWasCommand { value |= Status.lastWriteWasCommand }
    return value
  }

  private func takeOutput() -> UInt8 {
    if let output = state.output {
      state.lastOutput = output.byte
      state.output = nil
      interruptsChanged()
      fill()
    }
    return state.lastOutput
  }

  private func writeCommand(_ command: UInt8) {
    state.lastWriteWasCommand = true
    state.command = nil
    switch command {
    case 0x20...0x3f: answer(state.memory[Int(command & 0x1f)])
    // Commands with an argument.
    case 0x60...0x7f, 0xd1...0xd4: state.command = command
    // Password test: none is installed.
    case 0xa4: answer(0xf1)
    case 0xa7: state.commandByte |= CommandByte.auxiliaryDisabled
    case 0xa8: state.commandByte &= ~CommandByte.auxiliaryDisabled
    // Interface tests: no fault.
    case 0xa9, 0xab: answer(0x00)
    case 0xaa:
      state.commandByte |= CommandByte.system
      answer(0x55)
    case 0xad: state.commandByte |= CommandByte.keyboardDisabled
    case 0xae: state.commandByte &= ~CommandByte.keyboardDisabled
    // Input port: the key lock is open.
    case 0xc0: answer(0x80)
    case 0xd0: answer(outputPort)
    case 0xdd: setOutputPort(state.outputPort & ~OutputPort.a20)
    case 0xdf: setOutputPort(state.outputPort | OutputPort.a20)
    // Test inputs: both clocks are low.
    case 0xe0: answer(0x00)
    // Pulses the low output-port bits that are zero in the command.
    case 0xf0...0xff: if command & OutputPort.reset == 0 { platform?.request(.reset) }
    default: errors.note("unknown command \(command.hexadecimal)")
    }
    interruptsChanged()
    fill()
  }

  private func writeData(_ value: UInt8) {
    state.lastWriteWasCommand = false
    let command = state.command
    state.command = nil
    switch command {
    case nil:
      // Sending to a device enables its interface.
      state.commandByte &= ~CommandByte.keyboardDisabled
      state.keyboard.receive(value)
    case 0xd1?: setOutputPort(value)
    case 0xd2?: answer(value)
    case 0xd3?: answer(value, isAuxiliary: true)
    case 0xd4?:
      state.commandByte &= ~CommandByte.auxiliaryDisabled
      state.mouse.receive(value)
    case let command?: state.memory[Int(command & 0x1f)] = value
    }
    interruptsChanged()
    fill()
  }

  /// The output port as command 0xd0 reads it: the latch, and the interrupt wires in bits 4 and 5.
  private var outputPort: UInt8 {
    var value = state.outputPort & ~(OutputPort.keyboardInterrupt | OutputPort.auxiliaryInterrupt)
    if let output = state.output {
      value |= output.isAuxiliary ? OutputPort.auxiliaryInterrupt : OutputPort.keyboardInterrupt
    }
    return value
  }

  private func setOutputPort(_ value: UInt8) {
    state.outputPort = value | OutputPort.reset
    gate.keyboardController = value & OutputPort.a20 != 0
    if value & OutputPort.reset == 0 { platform?.request(.reset) }
  }

  // MARK: The output buffer

  private func answer(_ byte: UInt8, isAuxiliary: Bool = false) {
    guard state.answers.count < PS2Queue.capacity else { return }
    state.answers.append(State.Output(byte: byte, isAuxiliary: isAuxiliary))
  }

  /// Puts the next byte into the output buffer if that is free.
  private func fill() {
    guard state.output == nil, let next = nextOutput() else { return }
    state.output = next
    interruptsChanged()
  }

  private func nextOutput() -> State.Output? {
    if !state.answers.isEmpty { return state.answers.removeFirst() }
    if state.commandByte & CommandByte.keyboardDisabled == 0 {
      while let byte = state.keyboard.take() {
        guard state.commandByte & CommandByte.translate != 0 else {
          return State.Output(byte: byte, isAuxiliary: false)
        }
        if let code = state.translation.translate(byte) { return State.Output(byte: code, isAuxiliary: false) }
      }
    }
    if state.commandByte & CommandByte.auxiliaryDisabled == 0, let byte = state.mouse.take() {
      return State.Output(byte: byte, isAuxiliary: true)
    }
    return nil
  }

  private func interruptsChanged() {
    let isKeyboards = state.output?.isAuxiliary == false
    let isMouses = state.output?.isAuxiliary == true
    keyboardLine.set(isKeyboards && state.commandByte & CommandByte.keyboardInterrupt != 0)
    mouseLine.set(isMouses && state.commandByte & CommandByte.auxiliaryInterrupt != 0)
  }
}
