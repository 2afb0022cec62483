import Machine

/// What all PCI functions have: configuration registers, regions that the guest places by base-address registers, and the
/// ways to interrupt: a pin, one message (MSI) or a table of messages (MSI-X) (PCI Local Bus Specification 3.0, chapter 6).
///
/// A function makes its endpoint once, with registers, regions and capabilities, and keeps it. Its part in the function's
/// state is `State`. What the guest does to the registers takes effect here; a function that has to know sets `onChange`.
/// Under the machine lock, as everything of a device.
public final class PCIEndpoint {
  private typealias Register = PCIConfigurationSpace.Register

  /// Bits of the command register.
  public enum Command {
    public static let ports: UInt16 = 1 << 0
    public static let memory: UInt16 = 1 << 1
    public static let busMaster: UInt16 = 1 << 2
    public static let pinDisable: UInt16 = 1 << 10
  }

  private static let interruptStatus: UInt16 = 1 << 3

  public struct State: Codable, Equatable, Sendable {
    var configuration: [UInt8]
    var pin: Bool
    var messages: PCIMessageTable.State?
  }

  /// A base-address register and the device's region behind it.
  private struct Window {
    let register: Int
    let kind: PCIConfigurationSpace.BaseAddressKind
    let size: UInt64
    let region: Int
  }

  private var powerOn: PCIConfigurationSpace
  public private(set) var configuration: PCIConfigurationSpace
  private var windows: [Window] = []
  private var nextCapability = 0x40
  private var messageCapability: Int?
  private var tableCapability: Int?
  private var table: PCIMessageTable?
  /// The function's own wish; what the pin shows depends on the registers too.
  private var pin = false
  private var slot: PCISlot?

  /// Called after configuration registers have changed: a byte was written by the guest, reset, restored.
  public var onChange: (() -> Void)?

  /// Registers behind which there is something else than registers.
  public var aperture: PCIAperture?

  /// `configuration` is the power-on state without base addresses and capabilities, which are added.
  public init(_ configuration: PCIConfigurationSpace) {
    powerOn = configuration
    self.configuration = configuration
  }

  // MARK: Building

  /// Adds base-address register `index` for `size` bytes, a power of two; they are the device's region `region`.
  public func addRegion(_ region: Int, index: Int, kind: PCIConfigurationSpace.BaseAddressKind, size: UInt64) {
    powerOn.addBaseAddress(index, kind: kind, size: size)
    let enable = kind == .ports ? Command.ports : Command.memory
    powerOn.allow(Register.command, enable | Command.busMaster)
    configuration = powerOn
    windows.append(Window(register: Register.baseAddress + 4 * index, kind: kind, size: size, region: region))
  }

  /// Adds interrupt pin `pin`, 1 (INTA#) to 4 (INTD#).
  public func addInterruptPin(_ pin: UInt8 = 1) {
    powerOn.set(Register.interruptPin, pin)
    powerOn.set(Register.interruptLine, UInt8(0), writable: 0xff)
    powerOn.allow(Register.command, Command.pinDisable)
    configuration = powerOn
  }

  /// Adds a capability with what follows its two-byte header. Returns its offset.
  @discardableResult
  public func addCapability(_ identifier: UInt8, _ body: [UInt8], writable: [UInt8] = []) -> Int {
    let offset = nextCapability
    precondition(offset + 2 + body.count <= PCIConfigurationSpace.size, "no room for another capability")
    powerOn.set(offset, identifier)
    powerOn.set(offset + 1, powerOn.get(Register.capabilities, as: UInt8.self))
    for (index, byte) in body.enumerated() {
      powerOn.set(offset + 2 + index, byte, writable: index < writable.count ? writable[index] : 0)
    }
    powerOn.set(Register.capabilities, UInt8(offset))
    powerOn.set(Register.status, powerOn.get(Register.status, as: UInt16.self) | 1 << 4)
    configuration = powerOn
    nextCapability = (offset + 2 + body.count + 3) & ~3
    return offset
  }

  /// Adds one message (MSI, 6.8.1), with a 64-bit address.
  public func addMessage() {
    // Control: enable is writable, 64-bit capable. Address, upper address, data.
    messageCapability = addCapability(
      0x05, [0x80, 0] + [UInt8](repeating: 0, count: 10),
      writable: [0x01, 0, 0xfc, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff])
  }

  /// Adds a table of messages (MSI-X, 6.8.2) behind base-address register `index`, which is the device's region `region`:
  /// it passes accesses there on to `readMessages` and `writeMessages`.
  public func addMessageTable(_ count: Int, region: Int, index: Int) {
    precondition((1...128).contains(count), "table and pending bits share a page")
    let pending = UInt32(PCIMessageTable.pendingOffset) | UInt32(index)
    addRegion(region, index: index, kind: .memory32(prefetchable: false), size: PCIMessageTable.size)
    let control = UInt16(count - 1)
    tableCapability = addCapability(
      0x11,
      [UInt8(truncatingIfNeeded: control), UInt8(truncatingIfNeeded: control >> 8), UInt8(index), 0, 0, 0]
        + (0..<4).map { UInt8(truncatingIfNeeded: pending >> (8 * $0)) },
      writable: [0, 0xc0])
    table = PCIMessageTable(count: count)
  }

  /// The bus takes the function in.
  func connect(_ slot: PCISlot) { self.slot = slot }

  // MARK: Interrupts

  /// Whether the guest has switched the table of messages on: then the function signals by `signal` only.
  public var usesMessageTable: Bool {
    guard let tableCapability else { return false }
    return configuration.get(tableCapability + 2, as: UInt16.self) & 1 << 15 != 0
  }

  private var masksMessageTable: Bool {
    guard let tableCapability else { return false }
    return configuration.get(tableCapability + 2, as: UInt16.self) & 1 << 14 != 0
  }

  private var usesMessage: Bool {
    guard let messageCapability else { return false }
    return configuration.get(messageCapability + 2, as: UInt16.self) & 1 != 0
  }

  /// Asserts or releases the function's interrupt. With one message switched on, an assertion sends it instead.
  public func setInterrupt(_ level: Bool) {
    let isRise = level && !pin
    pin = level
    if isRise, let messageCapability, usesMessage {
      slot?.send(
        configuration.get(messageCapability + 4, as: UInt64.self),
        UInt32(configuration.get(messageCapability + 12, as: UInt16.self)))
    }
    drivePin()
  }

  /// Sends the message of table entry `vector`, or remembers it while it is masked. Nothing where there is no such entry.
  public func signal(_ vector: Int) {
    guard usesMessageTable, let message = table?.signal(vector, isMasked: masksMessageTable) else { return }
    slot?.send(message.address, message.data)
  }

  private func drivePin() {
    let status = configuration.get(Register.status, as: UInt16.self) & ~Self.interruptStatus
    configuration.put(Register.status, status | (pin ? Self.interruptStatus : 0))
    let isDisabled = configuration.get(Register.command, as: UInt16.self) & Command.pinDisable != 0
    slot?.setPin(pin && !isDisabled && !usesMessage && !usesMessageTable)
  }

  /// Reads the region of the table of messages.
  public func readMessages(offset: UInt64, size: Int) -> UInt64 { table?.read(offset: offset, size: size) ?? .max }

  /// Writes to the region of the table of messages.
  public func writeMessages(offset: UInt64, size: Int, value: UInt64) {
    table?.write(offset: offset, size: size, value: value)
    sendPending()
  }

  /// What was remembered and is masked no more.
  private func sendPending() {
    guard usesMessageTable else { return }
    for message in table?.takePending(isMasked: masksMessageTable) ?? [] { slot?.send(message.address, message.data) }
  }

  /// Whether the function may reach memory by itself.
  public var isBusMaster: Bool { configuration.get(Register.command, as: UInt16.self) & Command.busMaster != 0 }

  // MARK: The guest's view

  /// Reads a byte of configuration space.
  public func read(_ offset: UInt8) -> UInt8 {
    if let aperture, aperture.registers.contains(Int(offset)) {
      return aperture.read(Int(offset) - aperture.registers.lowerBound)
    }
    return configuration.read(offset)
  }

  /// Writes a byte of configuration space.
  public func write(_ offset: UInt8, _ value: UInt8) {
    if let aperture, aperture.registers.contains(Int(offset)) {
      return aperture.write(Int(offset) - aperture.registers.lowerBound, value)
    }
    configuration.write(offset, value)
    let register = Int(offset)
    if register & ~1 == Register.command || (Register.baseAddress..<Register.baseAddress + 24).contains(register) {
      place()
    }
    sendPending()
    drivePin()
    onChange?()
  }

  /// The guest's value for base-address register `index`, without its type bits.
  public func address(index: Int) -> UInt64? {
    windows.first { $0.register == Register.baseAddress + 4 * index }.flatMap { base(of: $0) }
  }

  /// Puts the regions where the registers say.
  private func place() {
    for window in windows { slot?.place(window.region, placement(of: window)) }
  }

  private func placement(of window: Window) -> BusPlacement? {
    guard let base = base(of: window) else { return nil }
    if window.kind == .ports {
      guard let first = UInt16(exactly: base), let last = UInt16(exactly: base + window.size - 1) else { return nil }
      return .ports(first...last)
    }
    return .memory(base..<(base + window.size))
  }

  /// Nil while decoding is switched off, or where the address is none: zero, or one at which the region would wrap around
  /// (what a guest writes to learn the size).
  private func base(of window: Window) -> UInt64? {
    let command = configuration.get(Register.command, as: UInt16.self)
    guard command & (window.kind == .ports ? Command.ports : Command.memory) != 0 else { return nil }
    let base: UInt64
    let limit: UInt64
    switch window.kind {
    case .ports:
      base = UInt64(configuration.get(window.register, as: UInt32.self)) & ~3
      limit = 1 << 16
    case .memory32:
      base = UInt64(configuration.get(window.register, as: UInt32.self)) & ~0xf
      limit = 1 << 32
    case .memory64:
      base = configuration.get(window.register, as: UInt64.self) & ~0xf
      limit = 1 << 52
    }
    return base != 0 && base <= limit - window.size && base + window.size - 1 != 0xffff_ffff ? base : nil
  }

  // MARK: State

  /// Power-on state: no region is placed, no interrupt is asserted.
  public func reset() {
    configuration = powerOn
    table?.reset()
    pin = false
    place()
    drivePin()
    onChange?()
  }

  public func save() -> State {
    State(configuration: configuration.contents, pin: pin, messages: table?.save())
  }

  public func restore(_ state: State) {
    configuration = powerOn
    configuration.restore(state.configuration)
    if let messages = state.messages { table?.restore(messages) }
    pin = state.pin
    place()
    drivePin()
    onChange?()
  }
}
