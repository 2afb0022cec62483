import Machine

/// A virtio device as a page of registers, for machines without PCI (VIRTIO 1.2, 4.2, version 2).
///
/// Region 0: 512 bytes.
public final class VirtioMMIO<Model: VirtioModel>: Device {
  public struct State: Codable {
    var registers: VirtioMMIORegisters
    var core: VirtioCore.State
    var model: Model.State
  }

  /// Bytes of region 0.
  public static var size: UInt64 { 512 }

  public var name: String { model.kind.name }
  public let model: Model
  private let line: InterruptLine
  /// Set by `attach`.
  private(set) var core: VirtioCore!
  private var registers = VirtioMMIORegisters()

  /// `line` is high while the interrupt status is not zero.
  public init(_ model: Model, interrupt line: InterruptLine) {
    self.model = model
    self.line = line
  }

  public func attach(to platform: DevicePlatform) {
    core = VirtioCore(
      name: name, offered: model.features, queueSizes: model.queueSizes, platform: platform,
      interrupt: { [unowned self] in interrupt($0) }, notifyModel: { [unowned self] in model.notify($0) },
      resetModel: { [unowned self] in model.reset() })
    model.attach(to: core, platform: platform)
  }

  public func reset() {
    registers = VirtioMMIORegisters()
    core.reset()
    drive()
  }

  private func interrupt(_ cause: VirtioInterrupt) {
    registers.interruptStatus |= cause.statusBit
    drive()
  }

  private func drive() { line.set(registers.interruptStatus != 0) }

  private var selected: Virtqueue? {
    core.queues.indices.contains(Int(registers.selectedQueue)) ? core.queues[Int(registers.selectedQueue)] : nil
  }

  /// Registers have 32 bits and are read and written whole; the configuration structure takes any width.
  public func read(region: Int, offset: UInt64, size: Int) -> UInt64 {
    if offset >= VirtioMMIORegisters.configuration {
      return model.configuration.littleEndian(
        at: Int(truncatingIfNeeded: offset - VirtioMMIORegisters.configuration), size: size)
    }
    guard size == 4 else { return 0 }
    return UInt64(read(offset))
  }

  private func read(_ offset: UInt64) -> UInt32 {
    switch offset {
    // "virt", version 2.
    case 0x000: 0x7472_6976
    case 0x004: 2
    case 0x008: UInt32(model.kind.identifier)
    case 0x00c: 0x1af4
    case 0x010: core.offered(word: registers.offeredWord)
    case 0x034: UInt32(selected?.maximumSize ?? 0)
    case 0x044: selected?.state.isEnabled == true ? 1 : 0
    case 0x060: UInt32(registers.interruptStatus)
    case 0x070: UInt32(core.status)
    // Shared memory: there is none.
    case 0x0b0..<0x0c0: .max
    case 0x0fc: UInt32(core.generation)
    default: 0
    }
  }

  public func write(region: Int, offset: UInt64, size: Int, value: UInt64) {
    if offset >= VirtioMMIORegisters.configuration {
      return ByteCycles.write(offset: offset - VirtioMMIORegisters.configuration, size: size, value: value) {
        model.writeConfiguration(Int(truncatingIfNeeded: $0), $1)
      }
    }
    guard size == 4 else { return }
    write(offset, UInt32(truncatingIfNeeded: value))
  }

  private func write(_ offset: UInt64, _ value: UInt32) {
    switch offset {
    case 0x014: registers.offeredWord = value
    case 0x020: core.accept(value, word: registers.acceptedWord)
    case 0x024: registers.acceptedWord = value
    case 0x030: registers.selectedQueue = value
    case 0x038: selected?.configure { $0.size = UInt16(clamping: value) }
    case 0x044:
      if value & 1 != 0 { core.enable(Int(registers.selectedQueue)) } else { selected?.disable() }
    case 0x050: core.notify(Int(value))
    case 0x064:
      registers.interruptStatus &= ~UInt8(truncatingIfNeeded: value)
      drive()
    case 0x070: if value == 0 { reset() } else { core.setStatus(UInt8(truncatingIfNeeded: value)) }
    case 0x080: selected?.configure { $0.descriptors = merge($0.descriptors, value, 0) }
    case 0x084: selected?.configure { $0.descriptors = merge($0.descriptors, value, 32) }
    case 0x090: selected?.configure { $0.available = merge($0.available, value, 0) }
    case 0x094: selected?.configure { $0.available = merge($0.available, value, 32) }
    case 0x0a0: selected?.configure { $0.used = merge($0.used, value, 0) }
    case 0x0a4: selected?.configure { $0.used = merge($0.used, value, 32) }
    default: break
    }
  }

  private func merge(_ old: UInt64, _ half: UInt32, _ shift: UInt64) -> UInt64 {
    old & ~(0xffff_ffff << shift) | UInt64(half) << shift
  }

  public func save() -> State { State(registers: registers, core: core.save(), model: model.save()) }

  public func restore(_ state: State) {
    registers = state.registers
    core.restore(state.core)
    model.restore(state.model)
    drive()
  }
}
