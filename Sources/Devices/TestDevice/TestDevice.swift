import Machine

/// What kvm-unit-tests expects of QEMU's `pc-testdev`: interrupt lines, ports and memory with no meaning of their own, for
/// programs that test how a machine treats them.
///
/// Regions:
/// 0. `lineCount` ports (from 0x2000): a byte written to port n drives interrupt line n, level.
/// 1. Four ports (from 0xe0): a 32-bit register, accessed in any size at any offset.
/// 2. Four ports (from 0xe4): a page's address written here unmaps the page from the processor and maps it again, which a
///    guest cannot see; so nothing happens.
/// 3. Four ports (from 0xe8): the register of region 1, accessed in bytes.
/// 4. `memorySize` bytes of memory (from 0xff000000) of which each access is one to a device.
public final class TestDevice: Device {
  public struct State: Codable, Equatable, Sendable {
    var register: UInt32 = 0
    var memory = [UInt8](repeating: 0, count: Int(memorySize))
    /// One bit for each line.
    var lines: UInt32 = 0
  }

  /// As many as an I/O APIC has.
  public static let lineCount: UInt16 = 24
  public static let memorySize: UInt64 = 0x10000

  private enum Region {
    static let lines = 0
    static let register = 1
    static let flush = 2
    static let registerBytes = 3
    static let memory = 4
  }

  public let name = "test-device"
  private let lines: [InterruptLine]
  private var state = State()

  /// `lines` are global system interrupts 0 to 23, in order.
  public init(lines: [InterruptLine]) {
    precondition(lines.count == Int(Self.lineCount), "the test device drives \(Self.lineCount) interrupt lines")
    self.lines = lines
  }

  public func attach(to platform: DevicePlatform) {}

  public func reset() { restore(State()) }

  public func save() -> State { state }

  public func restore(_ state: State) {
    self.state = state
    self.state.memory = state.memory.resized(to: Int(Self.memorySize), with: 0)
    for (index, line) in lines.enumerated() { line.set(state.lines >> UInt32(index) & 1 != 0) }
  }

  public func read(region: Int, offset: UInt64, size: Int) -> UInt64 {
    ByteCycles.read(offset: offset, size: size) { offset in
      switch region {
      case Region.register, Region.registerBytes:
        return UInt8(truncatingIfNeeded: state.register >> (8 * UInt32(truncatingIfNeeded: offset & 3)))
      case Region.memory:
        return offset < Self.memorySize ? state.memory[Int(offset)] : 0xff
      default: return 0xff
      }
    }
  }

  public func write(region: Int, offset: UInt64, size: Int, value: UInt64) {
    if region == Region.lines { return drive(offset, level: value != 0) }
    ByteCycles.write(offset: offset, size: size, value: value) { offset, byte in
      switch region {
      case Region.register, Region.registerBytes:
        let shift = 8 * UInt32(truncatingIfNeeded: offset & 3)
        state.register = state.register & ~(0xff << shift) | UInt32(byte) << shift
      case Region.memory where offset < Self.memorySize: state.memory[Int(offset)] = byte
      default: break
      }
    }
  }

  private func drive(_ offset: UInt64, level: Bool) {
    guard offset < Self.lineCount else { return }
    let bit: UInt32 = 1 << UInt32(offset)
    state.lines = level ? state.lines | bit : state.lines & ~bit
    lines[Int(offset)].set(level)
  }
}
