import Machine

/// The PC's pair of 8259A interrupt controllers, with the ELCR of the chip sets.
///
/// Interrupts 0 to 7 are the master's inputs and 8 to 15 the slave's; the slave's output is the master's input 2. The
/// master's output goes to the local APICs' LINT0; a processor that takes the interrupt comes back with `acknowledge`,
/// both acknowledge cycles in one. Between them nothing can happen, so spurious interrupts are rare: a slave's request
/// that goes away when the master already has it (vector of interrupt 15, with the master's input 2 in service, so that
/// the guest owes the master an end of interrupt), and an acknowledge cycle without any request (interrupt 7).
///
/// Regions, one byte a port: 0 master (0x20, 0x21), 1 slave (0xa0, 0xa1), 2 ELCR (0x4d0, 0x4d1).
public final class PIC {
  /// Inputs of the master and the slave whose mode ELCR can change: not the timer, keyboard, cascade, clock and
  /// coprocessor.
  private static let configurable: (master: UInt8, slave: UInt8) = (0xf8, 0xde)
  private static let cascadeInput: UInt8 = 2

  private let output: InterruptLine
  private var state = State()

  /// - Parameter output: the master's INT pin.
  public init(output: InterruptLine) {
    self.output = output
  }

  /// The wire of an interrupt request input, 0 to 15. Input 2 is taken by the slave: its wire leads nowhere.
  public func line(_ interrupt: Int) -> InterruptLine {
    precondition(0..<16 ~= interrupt, "an 8259 pair has 16 inputs")
    guard interrupt != Int(Self.cascadeInput) else { return .unconnected }
    let input = UInt8(interrupt & 7)
    return InterruptLine { [unowned self] level in
      if interrupt < 8 {
        state.master.setInput(input, level)
      } else {
        state.slave.setInput(input, level)
      }
      update()
    }
  }

  /// Inputs of the master that have a slave.
  private var slaves: UInt8 {
    state.master.isSingle ? 0 : state.master.cascade & 1 << Self.cascadeInput
  }

  private var presentedByMaster: UInt8? { state.master.presented(slaves: slaves) }
  private var presentedBySlave: UInt8? { state.slave.presented(slaves: 0) }

  /// Carries the slave's output to the master, and the master's to the processors.
  private func update() {
    let slaveOutput = presentedBySlave != nil
    if slaveOutput, !state.slaveOutput { state.master.request(Self.cascadeInput) }
    state.slaveOutput = slaveOutput
    setOutput(presentedByMaster != nil)
  }

  private func setOutput(_ level: Bool) {
    guard level != state.output else { return }
    state.output = level
    output.set(level)
  }
}

extension PIC: ExternalInterruptController {
  public var vector: UInt8 {
    guard let input = presentedByMaster else { return state.master.vector(of: 7) }
    guard input == Self.cascadeInput, slaves != 0 else { return state.master.vector(of: input) }
    return slaveVector
  }

  public func acknowledge() -> UInt8 {
    let vector = vector
    let input = presentedByMaster
    state.master.acknowledge(input)
    if input == Self.cascadeInput, slaves != 0, isSlaveAddressed {
      state.slave.acknowledge(presentedBySlave)
      state.slaveOutput = false
    }
    // Outputs fall during the cycle, so that the next interrupt is an edge again.
    setOutput(false)
    update()
    return vector
  }

  /// A slave answers to the number in its ICW3; otherwise nobody drives the bus.
  private var isSlaveAddressed: Bool { state.slave.cascade & 7 == Self.cascadeInput }

  private var slaveVector: UInt8 {
    isSlaveAddressed ? state.slave.vector(of: presentedBySlave ?? 7) : 0xff
  }
}

extension PIC: Device {
  public struct State: Codable {
    var master = PICChip(cascade: 1 << PIC.cascadeInput)
    var slave = PICChip(cascade: PIC.cascadeInput)
    /// The INT pins.
    var slaveOutput = false
    var output = false
  }

  public var name: String { "pic" }

  public func attach(to platform: DevicePlatform) {}

  /// Everything as if ICW1 to ICW4 had never been written, with all inputs open; firmware or the kernel initialises.
  public func reset() {
    state.master.reset(cascade: 1 << Self.cascadeInput)
    state.slave.reset(cascade: Self.cascadeInput)
    state.slaveOutput = false
    setOutput(false)
  }

  public func read(region: Int, offset: UInt64, size: Int) -> UInt64 {
    guard offset < 2 else { return .max }
    let value: UInt8
    switch region {
    case 0: value = state.master.read(isData: offset == 1, presented: presentedByMaster)
    case 1:
      let isPoll = state.slave.isPolled
      value = state.slave.read(isData: offset == 1, presented: presentedBySlave)
      if isPoll { state.slaveOutput = false }
    default: value = offset == 0 ? state.master.levelTriggered : state.slave.levelTriggered
    }
    update()
    return UInt64(value)
  }

  public func write(region: Int, offset: UInt64, size: Int, value: UInt64) {
    let byte = UInt8(truncatingIfNeeded: value)
    switch (region, offset) {
    case (0, 0): state.master.writeCommand(byte)
    case (0, 1): state.master.writeData(byte)
    case (1, 0): state.slave.writeCommand(byte)
    case (1, 1): state.slave.writeData(byte)
    case (2, 0): state.master.setLevelTriggered(byte & Self.configurable.master)
    case (2, 1): state.slave.setLevelTriggered(byte & Self.configurable.slave)
    default: return
    }
    update()
  }

  public func save() -> State { state }

  public func restore(_ state: State) {
    self.state = state
    output.set(state.output)
  }
}
