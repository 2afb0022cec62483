import Machine
import Memory
import X86

/// The PC's two 8237A DMA controllers with their page registers: ISA devices have them move bytes (channels 0 to 3) or words
/// (5 to 7) between themselves and the first 16 MiB of memory (Intel 8237A data sheet; 82371SB datasheet, 2.5.1).
///
/// A channel begins where its address and page registers say, which wraps around within 64 KiB, and ends when its count is
/// through. A device that has data to move asks for a channel by `transfer`; transfers take no time. Memory-to-memory
/// transfers, which no PC is wired for, and software requests do nothing.
///
/// Region 0: the first chip, ports 0x00 to 0x0f. Region 1: the second, every other port from 0xc0 to 0xde. Region 2: the page
/// registers, ports 0x80 to 0x8f, of which those that belong to no channel are memory, too; port 0x80 shows how far
/// firmware has come.
public final class DMAController: Device {
  public struct State: Codable, Equatable, Sendable {
    var chips = [DMAChip](repeating: DMAChip(), count: 2)
    var pages = [UInt8](repeating: 0, count: 16)
  }

  public enum Direction: UInt8 {
    case toMemory = 1
    case fromMemory = 2
  }

  /// Of the page register of each channel, its offset.
  private static let pageRegisters = [7, 3, 1, 2, 15, 11, 9, 10]

  public let name = "dma"
  private var memory: GuestMemory?
  private var state = State()
  private var errors = GuestErrorLog(device: "dma")

  public init() {}

  public func attach(to platform: DevicePlatform) {
    memory = platform.memory
    errors.start(platform.log)
  }

  public func reset() { state = State() }

  public func save() -> State { state }

  public func restore(_ state: State) {
    self.state = state
    self.state.chips = state.chips.resized(to: 2, with: DMAChip())
    for index in 0..<2 { self.state.chips[index].normalize() }
    self.state.pages = state.pages.resized(to: 16, with: 0)
  }

  // MARK: Registers

  public func read(region: Int, offset: UInt64, size: Int) -> UInt64 {
    ByteCycles.read(offset: offset, size: size) { offset in
      switch (region, offset) {
      case (0, 0..<16): state.chips[0].read(UInt8(offset))
      case (1, 0..<32): state.chips[1].read(UInt8(offset >> 1))
      case (2, 0..<16): state.pages[Int(offset)]
      default: 0xff
      }
    }
  }

  public func write(region: Int, offset: UInt64, size: Int, value: UInt64) {
    ByteCycles.write(offset: offset, size: size, value: value) { offset, byte in
      switch (region, offset) {
      case (0, 0..<16): state.chips[0].write(UInt8(offset), byte)
      case (1, 0..<32): state.chips[1].write(UInt8(offset >> 1), byte)
      case (2, 0..<16): state.pages[Int(offset)] = byte
      default: break
      }
    }
  }

  // MARK: The devices' side

  /// Moves bytes between `buffer` and memory by a byte channel, 0 to 3, until the buffer or the channel's count is through.
  /// Returns how many, and whether the count is (terminal count). None move while the guest has the channel masked, or set up
  /// for the other direction; what is not memory reads as ones and is not written.
  public func transfer(
    channel: Int, _ direction: Direction, _ buffer: UnsafeMutableRawBufferPointer
  ) -> (count: Int, isTerminal: Bool) {
    precondition((0..<4).contains(channel), "channels 0 to 3 move bytes")
    guard let memory, state.chips[0].isOpen(channel) else { return (0, false) }
    guard state.chips[0].channels[channel].direction == direction.rawValue else {
      errors.note("channel \(channel) is set up for mode \(state.chips[0].channels[channel].mode)")
      return (0, false)
    }
    let page = UInt64(state.pages[Self.pageRegisters[channel]]) << 16
    var count = 0
    var isTerminal = false
    while count < buffer.count, !isTerminal {
      let step = state.chips[0].step(channel)
      let address = GuestPhysicalAddress(page | UInt64(step.address))
      switch direction {
      case .toMemory: _ = memory.store(buffer[count], at: address)
      case .fromMemory: buffer[count] = memory.load(address, as: UInt8.self) ?? 0xff
      }
      count += 1
      isTerminal = step.isLast
    }
    return (count, isTerminal)
  }
}
