import Machine

/// A Serial ATA controller by the AHCI specification 1.3.1, as in Intel's ICH9.
///
/// Six ports, 32 commands each, native command queuing, 64-bit addresses, one message or an interrupt pin. No port
/// multipliers, no command completion coalescing, no enclosure management, no link power management: the capability
/// registers say so.
///
/// Region 0 is ABAR, the memory of base-address register 5.
public final class AHCIController: PCIFunction {
  public struct State: Codable {
    var pci: PCIEndpoint.State
    var control: UInt32
    var interruptStatus: UInt32
    var ports: [AHCIPort.Snapshot]
  }

  private typealias Register = AHCIRegister.Host
  private typealias Control = AHCIRegister.HostControl

  public static let portCount = 6
  private static let regionSize: UInt64 = 4096
  /// 64-bit addresses, queuing, command list override, 6 Gbit/s, AHCI only, 32 slots, six ports.
  private static let capabilities: UInt32 =
    1 << 31 | 1 << 30 | 1 << 24 | 3 << 20 | 1 << 18 | 31 << 8 | UInt32(portCount - 1)
  private static let version: UInt32 = 0x0001_0301

  public let name = "ahci"
  public let pci: PCIEndpoint
  private let ports: [AHCIPort]
  private var control = Control.isAHCI
  private var interruptStatus: UInt32 = 0

  /// `drives` are those of port 0 and on; ports without one have nothing connected.
  public init(drives: [ATADrive?]) {
    precondition(drives.count <= Self.portCount, "there are \(Self.portCount) ports")
    ports = (0..<Self.portCount).map { AHCIPort($0 < drives.count ? drives[$0] : nil) }
    var space = PCIConfigurationSpace(
      vendor: 0x8086, device: 0x2922, revision: 2, classCode: 0x01_0601, subsystemVendor: 0x8086, subsystem: 0x2922)
    space.set(PCIConfigurationSpace.Register.status, UInt16(0x0280), clearedByOne: 0xf900)
    pci = PCIEndpoint(space)
    pci.addRegion(0, index: 5, kind: .memory32(prefetchable: false), size: Self.regionSize)
    pci.addInterruptPin()
    pci.addMessage()
    for port in ports {
      port.isBusMaster = { [pci] in pci.isBusMaster }
      port.onInterrupt = { [unowned self] in portInterruptsChanged() }
    }
    pci.onChange = { [unowned self] in for port in ports { port.beginCommands() } }
  }

  public func attach(to platform: DevicePlatform) {
    for port in ports { port.attach(to: platform) }
  }

  public func reset() {
    for port in ports { port.reset(keepsCount: false) }
    (control, interruptStatus) = (Control.isAHCI, 0)
    pci.reset()
  }

  public func save() -> State {
    State(
      pci: pci.save(), control: control, interruptStatus: interruptStatus, ports: ports.map { $0.save() })
  }

  public func restore(_ state: State) {
    for (port, saved) in zip(ports, state.ports) { port.restore(saved) }
    control = state.control & Control.interruptEnable | Control.isAHCI
    interruptStatus = state.interruptStatus
    pci.restore(state.pci)
  }

  // MARK: Interrupts

  /// Takes over what the ports have to tell. Each time that it is more than before, there is an edge, which sends a
  /// message where messages are on.
  private func portInterruptsChanged() {
    let before = interruptStatus
    latchPorts()
    if interruptStatus & ~before != 0 { pci.setInterrupt(false) }
    driveInterrupt()
  }

  private func latchPorts() {
    for (index, port) in ports.enumerated() where port.hasInterrupt { interruptStatus |= 1 << UInt32(index) }
  }

  private func driveInterrupt() {
    pci.setInterrupt(interruptStatus != 0 && control & Control.interruptEnable != 0)
  }

  // MARK: Registers

  /// Accesses have 4 or 8 bytes, aligned to 4 (AHCI 1.3.1, 3); smaller reads see their part.
  public func read(region: Int, offset: UInt64, size: Int) -> UInt64 {
    guard region == 0, offset < Self.regionSize else { return .max }
    let word = UInt64(register(offset & ~3)) >> (8 * (offset & 3))
    return size == 8 ? word | UInt64(register(offset & ~3 &+ 4)) << 32 : word
  }

  public func write(region: Int, offset: UInt64, size: Int, value: UInt64) {
    guard region == 0, offset < Self.regionSize, offset & 3 == 0, size >= 4 else { return }
    setRegister(offset, UInt32(truncatingIfNeeded: value))
    if size == 8 { setRegister(offset &+ 4, UInt32(truncatingIfNeeded: value >> 32)) }
  }

  /// A port and the offset among its registers.
  private func port(_ offset: UInt64) -> (AHCIPort, UInt64)? {
    guard offset >= Register.firstPort else { return nil }
    let index = (offset - Register.firstPort) / Register.portSize
    guard index < Self.portCount else { return nil }
    return (ports[Int(index)], offset % Register.portSize)
  }

  private func register(_ offset: UInt64) -> UInt32 {
    if let (port, offset) = port(offset) { return port.read(offset) }
    return switch offset {
    case Register.capabilities: Self.capabilities
    case Register.control: control
    case Register.interruptStatus: interruptStatus
    case Register.portsImplemented: 1 << UInt32(Self.portCount) - 1
    case Register.version: Self.version
    default: 0
    }
  }

  private func setRegister(_ offset: UInt64, _ value: UInt32) {
    if let (port, offset) = port(offset) { return port.write(offset, value) }
    switch offset {
    case Register.control: writeControl(value)
    case Register.interruptStatus:
      interruptStatus &= ~value
      // What still has a reason comes back at once, as a new edge.
      pci.setInterrupt(false)
      latchPorts()
      driveInterrupt()
    default: break
    }
  }

  private func writeControl(_ value: UInt32) {
    control = value & Control.interruptEnable | Control.isAHCI
    if value & Control.reset != 0 {
      for port in ports { port.reset(keepsCount: true) }
      (control, interruptStatus) = (Control.isAHCI, 0)
    }
    driveInterrupt()
  }
}
