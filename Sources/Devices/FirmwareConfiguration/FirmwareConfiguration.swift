import Machine
import Memory
import X86

/// The configuration device of QEMU (docs/specs/fw_cfg): numbered items and named files with which a monitor tells
/// firmware, and programs that run without any, what machine they are in.
///
/// A guest writes an item's key to the selector and reads the item byte by byte from the data port; what lies beyond an
/// item's end reads as zero. Or it writes the address of a descriptor in its memory to the DMA register, and the device
/// reads the item there in one go. Numbers in items are little-endian, everything in the directory of files and in DMA
/// descriptors is big-endian.
///
/// Items do not change while the machine lives, but for those that the guest may write, by DMA: it tells where it has put
/// things.
///
/// Region 0: selector (16 bits at 0) and data (8 bits at 1), ports 0x510 and 0x511. Region 1: DMA address, two big-endian
/// 32-bit registers, the upper half first; writing the lower one starts the transfer. Ports 0x514 to 0x51b.
public final class FirmwareConfiguration: Device {
  public struct State: Codable, Equatable, Sendable {
    var key: UInt16 = 0
    /// Offset in the item of the next byte.
    var offset: UInt32 = 0
    /// Upper half of the DMA address.
    var addressHigh: UInt32 = 0
    var written: [WrittenItem] = []
  }

  /// What the guest has made of an item.
  struct WrittenItem: Codable, Equatable, Sendable {
    var key: UInt16
    var bytes: [UInt8]
  }

  /// Bits of a DMA descriptor's control word.
  private enum Control {
    static let error: UInt32 = 1 << 0
    static let read: UInt32 = 1 << 1
    static let skip: UInt32 = 1 << 2
    static let select: UInt32 = 1 << 3
    static let write: UInt32 = 1 << 4
  }

  /// What the DMA register reads as: "QEMU CFG".
  private static let signature: UInt64 = 0x5145_4d55_2043_4647

  public let name = "firmware-configuration"
  private let items: [UInt16: [UInt8]]
  private let writable: [UInt16: ([UInt8]) -> Void]
  private var memory: GuestMemory?
  private var state = State()
  private var errors = GuestErrorLog(device: "firmware-configuration")

  public init(_ contents: FirmwareConfigurationItems) {
    items = contents.items
    writable = contents.writable
  }

  public func attach(to platform: DevicePlatform) {
    memory = platform.memory
    errors.start(platform.log)
  }

  public func reset() { state = State() }

  public func save() -> State { state }

  public func restore(_ state: State) { self.state = state }

  // MARK: Registers

  public func read(region: Int, offset: UInt64, size: Int) -> UInt64 {
    if region == 1 {
      // Big-endian: the first port has the highest byte.
      return ByteCycles.read(offset: offset, size: size) {
        $0 < 8 ? UInt8(truncatingIfNeeded: Self.signature >> (56 - 8 * $0)) : 0xff
      }
    }
    return ByteCycles.read(offset: offset, size: size) { $0 == 1 ? next() : 0xff }
  }

  public func write(region: Int, offset: UInt64, size: Int, value: UInt64) {
    switch (region, offset, size) {
    case (0, 0, 2): select(UInt16(truncatingIfNeeded: value))
    case (1, 0, 4): state.addressHigh = UInt32(truncatingIfNeeded: value).byteSwapped
    case (1, 4, 4):
      let low = UInt32(truncatingIfNeeded: value).byteSwapped
      transfer(GuestPhysicalAddress(UInt64(state.addressHigh) << 32 | UInt64(low)))
      state.addressHigh = 0
    case (1, 0, 8): transfer(GuestPhysicalAddress(value.byteSwapped))
    // The data port was writable long ago; other sizes never were.
    default: errors.note("write of \(size) bytes at \(region):\(offset)")
    }
  }

  private func select(_ key: UInt16) {
    state.key = key
    state.offset = 0
  }

  private var item: [UInt8] {
    state.written.first { $0.key == state.key }?.bytes ?? items[state.key] ?? []
  }

  /// The next byte of the selected item.
  private func next() -> UInt8 {
    let index = Int(state.offset)
    guard index < item.count else { return 0 }
    state.offset += 1
    return item[index]
  }

  // MARK: DMA

  /// Carries out the descriptor at `address`: control, length and address of the data. The control word becomes zero, or
  /// the error bit.
  private func transfer(_ address: GuestPhysicalAddress) {
    guard let memory, let control = memory.load(address, as: UInt32.self)?.byteSwapped,
      let length = memory.load(address &+ 4, as: UInt32.self)?.byteSwapped,
      let target = memory.load(address &+ 8, as: UInt64.self)?.byteSwapped
    else { return errors.note("a DMA descriptor at \(address) is not in memory") }
    if control & Control.select != 0 { select(UInt16(truncatingIfNeeded: control >> 16)) }
    var isGood = true
    if control & Control.read != 0 {
      isGood = copy(UInt64(length), to: GuestPhysicalAddress(target), memory)
    } else if control & Control.write != 0 {
      isGood = take(length, from: GuestPhysicalAddress(target), memory)
    } else if control & Control.skip != 0 {
      advance(length)
    }
    _ = memory.store((isGood ? 0 : Control.error).byteSwapped, at: address)
  }

  /// Copies from the item and fills up with zeros. False where the target is not RAM; nothing is copied then.
  private func copy(_ length: UInt64, to target: GuestPhysicalAddress, _ memory: GuestMemory) -> Bool {
    guard memory.contains(target, count: length) else { return false }
    let rest = item.dropFirst(Int(state.offset)).prefix(Int(length))
    let isCopied = rest.withUnsafeBytes { memory.write(target, from: $0) }
    memory.fill(target &+ UInt64(rest.count), count: length - UInt64(rest.count), with: 0)
    advance(UInt32(truncatingIfNeeded: length))
    return isCopied
  }

  /// Copies into the item. False where it is none that can be written, or has not so many bytes left, or the source is not
  /// RAM; nothing is copied then.
  private func take(_ length: UInt32, from source: GuestPhysicalAddress, _ memory: GuestMemory) -> Bool {
    var bytes = item
    let start = Int(state.offset)
    guard let onWrite = writable[state.key], start <= bytes.count, Int(length) <= bytes.count - start else {
      return false
    }
    guard bytes.withUnsafeMutableBytes({ memory.read(source, into: .init(rebasing: $0[start..<start + Int(length)])) })
    else { return false }
    let key = state.key
    state.written.removeAll { $0.key == key }
    state.written.append(WrittenItem(key: key, bytes: bytes))
    advance(length)
    onWrite(bytes)
    return true
  }

  private func advance(_ length: UInt32) {
    state.offset = UInt32(clamping: min(UInt64(state.offset) + UInt64(length), UInt64(item.count)))
  }
}
