import Machine

/// A virtio device as a PCI function (VIRTIO 1.2, 4.1). It is *transitional*: drivers that know the standard find its
/// structures through capabilities, those from before it (old systems, old firmware) find registers behind a range of
/// ports. Interrupts are messages, one for each queue and one for changes of the configuration, or a pin.
///
/// Regions:
/// - 0: the table of messages, base-address register 1;
/// - 1: the standard's structures, base-address register 4;
/// - 2: ports for drivers from before the standard, base-address register 0.
public final class VirtioPCI<Model: VirtioModel>: PCIFunction {
  public struct State: Codable {
    var pci: PCIEndpoint.State
    var registers: VirtioPCIRegisters
    var core: VirtioCore.State
    var model: Model.State
  }

  public var name: String { model.kind.name }
  public let pci: PCIEndpoint
  public let model: Model
  /// Set by `attach`.
  private(set) var core: VirtioCore!
  var registers = VirtioPCIRegisters()
  let messageCount: Int
  /// Where the capability is that gives firmware access to the structures by configuration cycles.
  private var accessCapability = 0
  /// What the last configuration cycle to that capability has read.
  private var accessData = [UInt8](repeating: 0, count: 4)

  public init(_ model: Model) {
    self.model = model
    let kind = model.kind
    // A transitional device: revision 0, and the subsystem says what it is (4.1.2.3).
    let space = PCIConfigurationSpace(
      vendor: 0x1af4, device: kind.transitionalIdentifier, revision: 0, classCode: kind.classCode,
      subsystemVendor: 0x1af4, subsystem: kind.identifier)
    pci = PCIEndpoint(space)
    messageCount = min(model.queueSizes.count + 1, 64)
    pci.addRegion(2, index: 0, kind: .ports, size: 128)
    pci.addMessageTable(messageCount, region: 0, index: 1)
    pci.addRegion(1, index: 4, kind: .memory32(prefetchable: false), size: VirtioPCIStructure.regionSize)
    pci.addInterruptPin()
    addCapabilities()
  }

  private func addCapabilities() {
    for structure in VirtioPCIStructure.allCases {
      let offset = UInt32(structure.offset)
      let size = UInt32(VirtioPCIStructure.pageSize)
      let multiplier = structure == .notification ? bytes(VirtioPCIStructure.notificationMultiplier) : []
      pci.addCapability(
        9, [UInt8(16 + multiplier.count), structure.rawValue, 4, 0, 0, 0] + bytes(offset) + bytes(size) + multiplier)
    }
    // Register, offset, length and data are the driver's (4.1.4.9).
    accessCapability = pci.addCapability(
      9, [20, 5] + [UInt8](repeating: 0, count: 16),
      writable: [0, 0, 0xff, 0, 0, 0] + [UInt8](repeating: 0xff, count: 12))
    let data = accessCapability + 16
    pci.aperture = PCIAperture(
      registers: data..<data + 4, read: { [unowned self] in readAccess($0) },
      write: { [unowned self] in writeAccess($0, $1) })
  }

  private func bytes(_ value: UInt32) -> [UInt8] { (0..<4).map { UInt8(truncatingIfNeeded: value >> (8 * $0)) } }

  public func attach(to platform: DevicePlatform) {
    core = VirtioCore(
      name: name, offered: model.features, queueSizes: model.queueSizes, platform: platform,
      interrupt: { [unowned self] in interrupt($0) }, notifyModel: { [unowned self] in model.notify($0) },
      resetModel: { [unowned self] in model.reset() })
    model.attach(to: core, platform: platform)
  }

  public func reset() {
    pci.reset()
    resetDevice()
  }

  /// By the driver, too: its interrupts end, its place on the bus stays.
  func resetDevice() {
    registers = VirtioPCIRegisters()
    core.reset()
    pci.setInterrupt(false)
  }

  // MARK: Interrupts

  private func interrupt(_ cause: VirtioInterrupt) {
    guard pci.usesMessageTable else {
      registers.interruptStatus |= cause.statusBit
      return pci.setInterrupt(true)
    }
    switch cause {
    case .queue(let vector): pci.signal(Int(vector))
    case .configuration: pci.signal(Int(registers.configurationVector))
    }
  }

  /// Reading the interrupt status clears it.
  func takeInterruptStatus() -> UInt8 {
    defer {
      registers.interruptStatus = 0
      pci.setInterrupt(false)
    }
    return registers.interruptStatus
  }

  /// A vector that there is, or the one that means none (4.1.5.1.2.1).
  func vector(_ value: UInt64) -> UInt16 {
    value < UInt64(messageCount) ? UInt16(truncatingIfNeeded: value) : .max
  }

  // MARK: Accesses

  public func read(region: Int, offset: UInt64, size: Int) -> UInt64 {
    switch region {
    case 0: return pci.readMessages(offset: offset, size: size)
    case 2: return readLegacy(offset: offset, size: size)
    default: break
    }
    guard let (structure, offset) = VirtioPCIStructure.at(offset) else { return .max }
    switch structure {
    case .common: return readCommon(Int(offset), size: size)
    case .interruptStatus: return offset == 0 ? UInt64(takeInterruptStatus()) : 0
    case .device: return readConfiguration(Int(offset), size: size)
    case .notification: return 0
    }
  }

  public func write(region: Int, offset: UInt64, size: Int, value: UInt64) {
    switch region {
    case 0: return pci.writeMessages(offset: offset, size: size, value: value)
    case 2: return writeLegacy(offset: offset, size: size, value: value)
    default: break
    }
    guard let (structure, offset) = VirtioPCIStructure.at(offset) else { return }
    switch structure {
    case .common: writeCommon(Int(offset), size: size, value: value)
    case .interruptStatus: break
    case .device: writeConfiguration(Int(offset), size: size, value: value)
    case .notification: notify(Int(offset) / Int(VirtioPCIStructure.notificationMultiplier))
    }
  }

  func notify(_ queue: Int) {
    guard pci.isBusMaster else { return }
    core.notify(queue)
  }

  func readConfiguration(_ offset: Int, size: Int) -> UInt64 {
    model.configuration.littleEndian(at: offset, size: size)
  }

  func writeConfiguration(_ offset: Int, size: Int, value: UInt64) {
    ByteCycles.write(offset: UInt64(truncatingIfNeeded: offset), size: size, value: value) {
      model.writeConfiguration(Int(truncatingIfNeeded: $0), $1)
    }
  }

  // MARK: Access by configuration cycles

  /// Where the capability points: a region, an offset in it and a width; nil: nowhere.
  private var accessTarget: (region: Int, offset: UInt64, size: Int)? {
    let offset = UInt64(pci.configuration.get(accessCapability + 8, as: UInt32.self))
    let size = Int(pci.configuration.get(accessCapability + 12, as: UInt32.self))
    guard [1, 2, 4].contains(size) else { return nil }
    switch pci.configuration.get(accessCapability + 4, as: UInt8.self) {
    case 0: return (2, offset, size)
    case 1: return (0, offset, size)
    case 4: return (1, offset, size)
    default: return nil
    }
  }

  /// Configuration cycles come as bytes in ascending order: the first of a read makes the access.
  private func readAccess(_ index: Int) -> UInt8 {
    if index == 0, let (region, offset, size) = accessTarget {
      let value = read(region: region, offset: offset, size: size)
      for index in 0..<4 { accessData[index] = UInt8(truncatingIfNeeded: value >> (8 * UInt64(index))) }
    }
    return accessData[index]
  }

  /// The last of a write makes it.
  private func writeAccess(_ index: Int, _ value: UInt8) {
    accessData[index] = value
    guard let (region, offset, size) = accessTarget, index == size - 1 else { return }
    write(region: region, offset: offset, size: size, value: accessData.littleEndian(at: 0, size: size))
  }

  // MARK: State

  public func save() -> State {
    State(pci: pci.save(), registers: registers, core: core.save(), model: model.save())
  }

  public func restore(_ state: State) {
    registers = state.registers
    core.restore(state.core)
    model.restore(state.model)
    pci.restore(state.pci)
  }
}
