import Machine

/// A PC16550D serial port ("16550A"), the console of most guests.
///
/// The chip is modelled as the datasheet has it, with one liberty: bytes take no time on the wire. A byte that the guest
/// writes goes straight to the host, so the transmitter is empty again at once and says so with its interrupt. Only
/// when the host will not take more do bytes stay in the transmit FIFO; then the guest sees a full transmitter and
/// waits as it would for a slow line. In the other direction the host may hand over as many bytes as
/// `receiveCapacity` says, and waits for `onReadyToReceive` once that is zero. So no byte is lost and no queue
/// grows without limit in either direction.
///
/// The receiver's timeout interrupt (bytes below the trigger level, and nothing happens) runs on the machine's clock. Its
/// four character times are those of 115200 baud whatever the divisor, since the divisor changes no speed either.
///
/// All that a snapshot needs is in one `State` value, and every register is a function of it. `interruptsChanged` is the
/// only place that drives the interrupt wire: each entry point ends with it.
///
/// Region 0: eight ports (COM1: 0x3f8 to 0x3ff). Interrupt line: COM1 is ISA IRQ 4.
public final class Serial16550: Device, CharacterPort {
  typealias Registers = SerialRegisters

  /// Bytes in each FIFO.
  public static let fifoDepth = 16
  /// Four characters of ten bits at 115200 baud, in nanoseconds.
  static let timeout: UInt64 = 4 * 10 * 1_000_000_000 / 115_200

  public let name: String
  /// Where sent bytes go; nil: nowhere, as on a line with nothing plugged in.
  public var backend: (any CharacterBackend)?
  /// The receiver was full and is now empty: the host may go on. Under the machine lock; may call `receive`.
  public var onReadyToReceive: (() -> Void)?

  /// `isListening` has become true. Under the machine lock; must not call the device.
  public var onListening: (() -> Void)?

  /// Reads of the line status in a row that make a guest one that polls for input: drivers that send read it once or
  /// twice a byte.
  private static let pollsThatListen = 16

  private let line: InterruptLine
  private var platform: DevicePlatform?
  private var timer: (any ClockTimer)?
  private var state = State()
  /// The host found the receiver full and is to be told when it is not any more.
  private var isHostWaiting = false
  /// Reads of the line status since the guest last sent something, as far as they are counted.
  private var polls = 0

  /// `name` is also the name under which received bytes pass `NondeterministicInput`.
  public init(name: String = "serial", interrupt line: InterruptLine) {
    self.name = name
    self.line = line
  }

  public func attach(to platform: DevicePlatform) {
    self.platform = platform
    timer = platform.clock.makeTimer("\(name) receive timeout") { [unowned self] in receiverTimedOut() }
  }

  public func reset() {
    // Scratch, the divisor and the peer's lines outlive a reset (datasheet, table 1).
    var fresh = State()
    fresh.scratch = state.scratch
    fresh.divisor = state.divisor
    fresh.peerLines = state.peerLines
    state = fresh
    polls = 0
    timer?.cancel()
    interruptsChanged()
    notifyHost()
  }

  public func save() -> State { state }

  public func restore(_ state: State) {
    self.state = state
    // A snapshot from outside may hold more than the chip has room for.
    self.state.receiver = Array(state.receiver.prefix(Self.fifoDepth))
    self.state.transmitter = Array(state.transmitter.prefix(Self.fifoDepth))
    if let deadline = state.timeoutDeadline { timer?.arm(at: deadline) } else { timer?.cancel() }
    line.set(self.state.interruptLevel)
    resumeTransmission()
    isHostWaiting = true
    notifyHost()
  }

  // MARK: The host's side

  /// How many bytes `receive` can take without loss now; zero in loopback, where the line is cut.
  public var receiveCapacity: Int { state.isLoopback ? 0 : max(0, state.capacity - state.receiver.count) }

  /// Whether the guest waits for input: it has enabled the interrupt for it, or looks at the line status again and again.
  /// A driver that starts throws away what has come before, so a host does well to hold early input back until then.
  public var isListening: Bool {
    state.interruptEnable & Registers.InterruptEnable.receivedData != 0 || polls >= Self.pollsThatListen
  }

  /// Whether `receive` can take a byte now. If not, `onReadyToReceive` will be called when it can.
  public var canReceive: Bool {
    if receiveCapacity == 0 { isHostWaiting = true }
    return receiveCapacity > 0
  }

  /// Bytes arrive on the line. What exceeds `receiveCapacity` is lost, as an overrun.
  public func receive(_ bytes: [UInt8]) {
    guard let platform, !bytes.isEmpty else { return }
    let bytes = platform.inputs.receive(bytes, source: name)
    guard !state.isLoopback else { return }
    for byte in bytes { arrived(state.onWire(byte)) }
    if receiveCapacity == 0 { isHostWaiting = true }
    interruptsChanged()
  }

  /// The other end holds the line in a break condition for longer than a character.
  public func receiveBreak() {
    guard let platform, !platform.inputs.receive([0], source: "\(name) break").isEmpty, !state.isLoopback else {
      return
    }
    arrived(0, errors: Registers.LineStatus.breakInterrupt)
    interruptsChanged()
  }

  /// The lines that the other end drives: bits 7 to 4 of the modem status register (DCD, RI, DSR, CTS).
  public func setPeerLines(_ lines: UInt8) {
    guard let platform else { return }
    guard let lines = platform.inputs.receive([lines], source: "\(name) lines").first else { return }
    changeModemLines { $0.peerLines = lines & Registers.ModemStatus.lines }
    interruptsChanged()
  }

  /// The backend has room again after it refused bytes.
  public func resumeTransmission() {
    drainTransmitter()
    interruptsChanged()
  }

  // MARK: Registers

  public func read(region: Int, offset: UInt64, size: Int) -> UInt64 {
    let value = ByteCycles.read(offset: offset, size: size, readRegister)
    interruptsChanged()
    notifyHost()
    return value
  }

  public func write(region: Int, offset: UInt64, size: Int, value: UInt64) {
    ByteCycles.write(offset: offset, size: size, value: value, writeRegister)
    interruptsChanged()
    notifyHost()
  }

  private var accessesDivisor: Bool { state.lineControl & Registers.LineControl.divisorLatchAccess != 0 }

  private func readRegister(_ offset: UInt64) -> UInt8 {
    switch offset {
    case 0: accessesDivisor ? UInt8(truncatingIfNeeded: state.divisor) : takeReceived()
    case 1: accessesDivisor ? UInt8(truncatingIfNeeded: state.divisor >> 8) : state.interruptEnable
    case 2: identifyInterrupt()
    case 3: state.lineControl
    case 4: state.modemControl
    case 5: takeLineStatus()
    case 6: takeModemStatus()
    case 7: state.scratch
    default: 0xff
    }
  }

  private func writeRegister(_ offset: UInt64, _ value: UInt8) {
    switch offset {
    case 0 where accessesDivisor: state.divisor = state.divisor & 0xff00 | UInt16(value)
    case 0: transmit(state.onWire(value))
    case 1 where accessesDivisor: state.divisor = state.divisor & 0x00ff | UInt16(value) << 8
    case 1: setInterruptEnable(value & Registers.InterruptEnable.all)
    case 2: setFIFOControl(value)
    case 3: setLineControl(value)
    case 4: changeModemLines { $0.modemControl = value & Registers.ModemControl.all }
    case 7: state.scratch = value
    // The factory-test writes to the status registers have no effect here.
    default: break
    }
  }

  /// IIR. Reading it takes back the transmitter-empty interrupt if that is what it reports.
  private func identifyInterrupt() -> UInt8 {
    let pending = state.pendingInterrupt
    if pending == Registers.InterruptIdentification.transmitterEmpty { state.transmitterInterrupt = false }
    return pending | (state.hasFIFOs ? Registers.InterruptIdentification.fifosEnabled : 0)
  }

  private func takeLineStatus() -> UInt8 {
    let value = state.lineStatus
    state.hasOverrun = false
    if !state.receiver.isEmpty { state.receiver[0].errors = 0 }
    if polls < Self.pollsThatListen {
      let wasListening = isListening
      polls += 1
      if isListening, !wasListening { onListening?() }
    }
    return value
  }

  private func takeModemStatus() -> UInt8 {
    let value = state.modemLines | state.modemDeltas
    state.modemDeltas = 0
    return value
  }

  /// Enabling the transmitter-empty interrupt while the transmitter is empty raises it, each time.
  private func setInterruptEnable(_ value: UInt8) {
    let risen = value & ~state.interruptEnable
    let wasListening = isListening
    state.interruptEnable = value
    if isListening, !wasListening { onListening?() }
    if risen & Registers.InterruptEnable.transmitterEmpty != 0, state.transmitter.isEmpty {
      state.transmitterInterrupt = true
    }
  }

  private func setFIFOControl(_ value: UInt8) {
    let enables = value & Registers.FIFOControl.enable != 0
    let changesMode = enables != state.hasFIFOs
    // The other bits are programmed only while bit 0 is written as one.
    state.fifoControl = enables ? value & Registers.FIFOControl.kept : 0
    if changesMode || (enables && value & Registers.FIFOControl.resetReceiver != 0) {
      state.receiver.removeAll()
    }
    restartTimeout()
    if changesMode || (enables && value & Registers.FIFOControl.resetTransmitter != 0), !state.transmitter.isEmpty {
      state.transmitter.removeAll()
      state.transmitterInterrupt = true
    }
  }

  private func setLineControl(_ value: UInt8) {
    let risen = value & ~state.lineControl
    state.lineControl = value
    if risen & Registers.LineControl.setBreak != 0, state.isLoopback {
      arrived(0, errors: Registers.LineStatus.breakInterrupt)
    }
  }

  /// Applies a change to what drives the modem lines and records the edges in MSR bits 3 to 0.
  private func changeModemLines(_ change: (inout State) -> Void) {
    let before = state.modemLines
    change(&state)
    let after = state.modemLines
    // CTS, DSR and DCD report both edges, RI only its end; each four bits below the line itself.
    let ring = Registers.ModemStatus.trailingEdgeRing
    state.modemDeltas |= (before ^ after) >> 4 & ~ring | (before & ~after) >> 4 & ring
  }

  // MARK: Transmitter

  private func transmit(_ byte: UInt8) {
    state.transmitterInterrupt = false
    polls = 0
    // The wire drops before it rises again: an edge-triggered controller must see each empty transmitter.
    interruptsChanged()
    if state.isLoopback {
      arrived(byte)
      state.transmitterInterrupt = state.transmitter.isEmpty
      return
    }
    if state.transmitter.count >= state.capacity {
      // A byte written to a full FIFO is lost; the holding register is overwritten.
      guard !state.hasFIFOs else { return }
      state.transmitter.removeLast()
    }
    state.transmitter.append(byte)
    drainTransmitter()
  }

  private func drainTransmitter() {
    guard !state.transmitter.isEmpty else { return }
    let sent = backend?.send(state.transmitter) ?? state.transmitter.count
    state.transmitter.removeFirst(min(max(sent, 0), state.transmitter.count))
    if state.transmitter.isEmpty { state.transmitterInterrupt = true }
  }

  // MARK: Receiver

  private func arrived(_ byte: UInt8, errors: UInt8 = 0) {
    let received = State.Received(byte: byte, errors: errors)
    if state.receiver.count < state.capacity {
      state.receiver.append(received)
    } else {
      // The FIFO keeps what it has; without it, the new byte replaces the one that nobody read.
      state.hasOverrun = true
      if !state.hasFIFOs { state.receiver = [received] }
    }
    restartTimeout()
  }

  private func takeReceived() -> UInt8 {
    guard !state.receiver.isEmpty else { return 0 }
    let byte = state.receiver.removeFirst().byte
    restartTimeout()
    return byte
  }

  /// The FIFO was filled or read: the character timeout starts again, while it can matter.
  private func restartTimeout() {
    state.hasTimedOut = false
    if state.hasFIFOs, !state.receiver.isEmpty, state.receiver.count < state.triggerLevel, let platform {
      let deadline = platform.clock.now &+ Self.timeout
      state.timeoutDeadline = deadline
      timer?.arm(at: deadline)
    } else if state.timeoutDeadline != nil {
      state.timeoutDeadline = nil
      timer?.cancel()
    }
  }

  private func receiverTimedOut() {
    state.timeoutDeadline = nil
    state.hasTimedOut = !state.receiver.isEmpty
    interruptsChanged()
  }

  // MARK: What others are told

  private func interruptsChanged() { line.set(state.interruptLevel) }

  private func notifyHost() {
    guard isHostWaiting, !state.isLoopback, state.receiver.isEmpty else { return }
    isHostWaiting = false
    onReadyToReceive?()
  }
}
