import Machine

/// The IDE function of Intel's PIIX3 (82371SB datasheet, 2.3 and 2.5): two channels at the places where PCs have always
/// had them, and a bus master for both behind base-address register 4.
///
/// The channels' ports and interrupts are fixed (IRQ 14 and 15). They answer if IDETIM says so; they do from power-on, as
/// firmware would have it, because a guest that is loaded without firmware has nobody to switch them on.
///
/// Regions:
/// 0. the first channel's command block, eight ports from 0x1f0
/// 1. its control block, one port at 0x3f6
/// 2. the second channel's command block, eight ports from 0x170
/// 3. its control block, one port at 0x376
/// 4. the bus masters, 16 ports
public final class IDEController: PCIFunction {
  public struct State: Codable {
    var pci: PCIEndpoint.State
    var channels: [IDEChannel.Snapshot]
  }

  private static let busMasterRegion = 4
  /// Timing register of the first channel; the second one's follows.
  private static let timing = 0x40

  public let name = "ide"
  public let pci: PCIEndpoint
  private let channels: [IDEChannel]

  /// `drives` are the first channel's drive 0 and 1 and the second one's; `interrupts` IRQ 14 and 15.
  public init(drives: [ATADrive?], interrupts: [InterruptLine]) {
    precondition(drives.count <= 4 && interrupts.count == 2, "two channels have two drives each")
    let drives = drives + [ATADrive?](repeating: nil, count: 4 - drives.count)
    channels = (0..<2).map { IDEChannel(Array(drives[2 * $0..<2 * $0 + 2]), interrupt: interrupts[$0]) }
    var space = PCIConfigurationSpace(vendor: 0x8086, device: 0x7010, revision: 0, classCode: 0x01_0180)
    space.set(PCIConfigurationSpace.Register.status, UInt16(0x0280), clearedByOne: 0x3900)
    for channel in 0..<2 { space.set(Self.timing + 2 * channel, UInt16(0x8000), writable: 0xffff) }
    // Slave timing.
    space.set(0x44, UInt8(0), writable: 0xff)
    pci = PCIEndpoint(space)
    pci.addRegion(Self.busMasterRegion, index: 4, kind: .ports, size: 16)
    for channel in channels { channel.isBusMaster = { [pci] in pci.isBusMaster } }
    pci.onChange = { [unowned self] in for channel in channels { channel.moveData() } }
  }

  public func attach(to platform: DevicePlatform) {
    for channel in channels { channel.attach(to: platform) }
  }

  public func reset() {
    for channel in channels { channel.reset() }
    pci.reset()
  }

  public func save() -> State { State(pci: pci.save(), channels: channels.map { $0.save() }) }

  public func restore(_ state: State) {
    for (channel, saved) in zip(channels, state.channels) { channel.restore(saved) }
    pci.restore(state.pci)
  }

  private func isDecoded(_ channel: Int) -> Bool {
    pci.configuration.get(Self.timing + 2 * channel, as: UInt16.self) & 0x8000 != 0
  }

  public func read(region: Int, offset: UInt64, size: Int) -> UInt64 {
    if region == Self.busMasterRegion {
      return ByteCycles.read(offset: offset, size: size) { offset in
        offset < 16 ? channels[Int(offset >> 3)].readBusMaster(offset & 7) : 0xff
      }
    }
    guard (0..<4).contains(region), isDecoded(region >> 1) else { return .max }
    let channel = channels[region >> 1]
    if region & 1 != 0 {
      return ByteCycles.read(offset: offset, size: size) { $0 == 0 ? channel.readStatus(acknowledges: false) : 0xff }
    }
    if offset == ATARegisters.Offset.data { return channel.readData(width: Self.width(size)) & Self.mask(size) }
    return ByteCycles.read(offset: offset, size: size) { $0 <= ATARegisters.Offset.command ? channel.read($0) : 0xff }
  }

  public func write(region: Int, offset: UInt64, size: Int, value: UInt64) {
    if region == Self.busMasterRegion {
      return ByteCycles.write(offset: offset, size: size, value: value) { offset, byte in
        if offset < 16 { channels[Int(offset >> 3)].writeBusMaster(offset & 7, byte) }
      }
    }
    guard (0..<4).contains(region), isDecoded(region >> 1) else { return }
    let channel = channels[region >> 1]
    if region & 1 != 0 {
      return ByteCycles.write(offset: offset, size: size, value: value) { if $0 == 0 { channel.writeControl($1) } }
    }
    if offset == ATARegisters.Offset.data { return channel.writeData(value, width: Self.width(size)) }
    ByteCycles.write(offset: offset, size: size, value: value) {
      if (1...ATARegisters.Offset.command).contains($0) { channel.write($0, $1) }
    }
  }

  /// The data register is 16 bits wide: a byte of it is half of a word that goes by, four bytes are two words.
  private static func width(_ size: Int) -> Int { size <= 2 ? 2 : 4 }

  private static func mask(_ size: Int) -> UInt64 { size == 1 ? 0xff : .max }
}
