import Machine
import Memory

/// Parallel flash memory with Intel's command set, as firmware keeps its variables in (JEDEC JESD68.01, "Common Flash
/// Memory Interface"; Intel, "Common Flash Memory Interface and Command Sets", AP-646; behaviour as QEMU's pflash_cfi01 with
/// one chip of eight bits).
///
/// While the chip is in read-array mode, the guest reads it as memory and only writes, which are commands, come here. In
/// every other mode reads come here too. Programming and erasing take no time. Unlike a real chip, programming sets bits as
/// well as clearing them.
///
/// Region 0: the whole chip.
public final class Flash: Device {
  public struct State: Codable, Equatable, Sendable {
    var mode = Mode.array
    var status: UInt8 = 0
    /// A command that waits for its next cycle.
    var command: UInt8?
    /// Write-to-buffer: cycles to come, the count itself first, and what has come.
    var bufferCount: Int?
    var buffer: [BufferedByte] = []
    /// What the chip holds; nil: it was not saved with the registers.
    var contents: [UInt8]?
  }

  /// What reads give.
  enum Mode: String, Codable, Sendable {
    case array, status, identification, query
  }

  struct BufferedByte: Codable, Equatable, Sendable {
    var offset: Int
    var value: UInt8
  }

  /// Bits of the status register.
  private enum Status {
    static let ready: UInt8 = 0x80
    static let eraseError: UInt8 = 0x20
    static let programError: UInt8 = 0x10
  }

  private enum Command {
    static let program: [UInt8] = [0x10, 0x40]
    static let erase: UInt8 = 0x20
    static let clearStatus: UInt8 = 0x50
    static let lock: UInt8 = 0x60
    static let readStatus: UInt8 = 0x70
    static let identify: UInt8 = 0x90
    static let query: UInt8 = 0x98
    static let confirm: UInt8 = 0xd0
    static let programBuffer: UInt8 = 0xe8
  }

  /// Bytes that are erased at once.
  public static let sectorSize = 4096
  private static let bufferSize = 2048

  public let name = "flash"
  private let range: Range<UInt64>
  private let memory: GuestMemory.DeviceMemory
  private let size: Int
  private let initial: [UInt8]
  private var platform: DevicePlatform?
  private var state = State()

  /// Called under the machine lock with each range of the chip that has changed, and what it holds now.
  public var onChange: ((_ offset: Int, _ bytes: UnsafeRawBufferPointer) -> Void)?

  /// `contents` are as long as `memory`, which answers at `range` of guest memory.
  public init(_ contents: [UInt8], memory: GuestMemory.DeviceMemory, at range: Range<UInt64>) {
    precondition(contents.count == Int(memory.count) && range.count == contents.count, "a flash of another size")
    self.memory = memory
    self.range = range
    size = contents.count
    initial = contents
  }

  public func attach(to platform: DevicePlatform) {
    self.platform = platform
    initial.withUnsafeBytes { memory.base.copyMemory(from: $0.baseAddress.unsafelyUnwrapped, byteCount: size) }
  }

  /// What the chip holds stays.
  public func reset() {
    state = State()
    modeChanged()
  }

  public func save() -> State {
    var state = state
    state.contents = Array(UnsafeRawBufferPointer(start: memory.base, count: size))
    return state
  }

  public func restore(_ state: State) {
    self.state = state
    self.state.contents = nil
    if let contents = state.contents, contents.count == size {
      contents.withUnsafeBytes { memory.base.copyMemory(from: $0.baseAddress.unsafelyUnwrapped, byteCount: size) }
      changed(0, count: size)
    }
    modeChanged()
  }

  private func modeChanged() {
    platform?.memory.map(range, to: state.mode == .array ? .readOnlyMemory(memory) : .bus)
  }

  // MARK: Cycles

  public func read(region: Int, offset: UInt64, size: Int) -> UInt64 {
    ByteCycles.read(offset: offset, size: size) { readByte(Int(truncatingIfNeeded: $0)) }
  }

  private func readByte(_ offset: Int) -> UInt8 {
    guard (0..<size).contains(offset) else { return 0xff }
    switch state.mode {
    case .array: return memory.base.load(fromByteOffset: offset, as: UInt8.self)
    case .status: return state.status
    // Manufacturer Intel, device, and no lock on any sector.
    case .identification: return [0x89, 0x18, 0][min(offset & 0xff, 2)]
    case .query: return queryByte(offset & 0xff)
    }
  }

  /// The query structure: command set, timings, size and sectors.
  private func queryByte(_ offset: Int) -> UInt8 {
    let sectors = size / Self.sectorSize - 1
    let table: [Int: UInt8] = [
      0x10: UInt8(ascii: "Q"), 0x11: UInt8(ascii: "R"), 0x12: UInt8(ascii: "Y"), 0x13: 1, 0x15: 0x31,
      0x1b: 0x45, 0x1c: 0x55, 0x1f: 7, 0x20: 7, 0x21: 10, 0x23: 4, 0x24: 4, 0x25: 4,
      0x27: UInt8(truncatingIfNeeded: size.trailingZeroBitCount), 0x2a: 11, 0x2c: 1,
      0x2d: UInt8(truncatingIfNeeded: sectors), 0x2e: UInt8(truncatingIfNeeded: sectors >> 8),
      0x2f: UInt8(truncatingIfNeeded: Self.sectorSize >> 8), 0x30: UInt8(truncatingIfNeeded: Self.sectorSize >> 16),
      0x31: UInt8(ascii: "P"), 0x32: UInt8(ascii: "R"), 0x33: UInt8(ascii: "I"), 0x34: UInt8(ascii: "1"),
      0x35: UInt8(ascii: "0"),
    ]
    return table[offset] ?? 0
  }

  public func write(region: Int, offset: UInt64, size: Int, value: UInt64) {
    let mode = state.mode
    ByteCycles.write(offset: offset, size: size, value: value) { offset, byte in
      guard offset < UInt64(self.size) else { return }
      cycle(Int(offset), byte)
    }
    if state.mode != mode { modeChanged() }
  }

  private func cycle(_ offset: Int, _ value: UInt8) {
    guard let command = state.command else { return begin(value) }
    state.command = nil
    switch command {
    case _ where Command.program.contains(command):
      memory.base.storeBytes(of: value, toByteOffset: offset, as: UInt8.self)
      changed(offset, count: 1)
      state.status |= Status.ready
    case Command.erase:
      state.status |= Status.ready
      guard value == Command.confirm else {
        state.status |= Status.eraseError | Status.programError
        return
      }
      let first = offset & ~(Self.sectorSize - 1)
      let count = min(Self.sectorSize, size - first)
      (memory.base + first).initializeMemory(as: UInt8.self, repeating: 0xff, count: count)
      changed(first, count: count)
    // Sectors have no locks here: setting and clearing them are taken and change nothing.
    case Command.lock: state.status |= Status.ready
    default: fillBuffer(offset, value)
    }
  }

  private func begin(_ command: UInt8) {
    switch command {
    case Command.clearStatus:
      state.status = 0
      state.mode = .array
    case Command.readStatus: state.mode = .status
    case Command.identify: state.mode = .identification
    case Command.query: state.mode = .query
    case _ where Command.program.contains(command), Command.erase, Command.lock:
      state.command = command
      state.mode = .status
    case Command.programBuffer:
      state.command = command
      state.status |= Status.ready
      state.mode = .status
      state.buffer = []
      state.bufferCount = nil
    // 0xff, and what is no command.
    default: state.mode = .array
    }
  }

  /// Write to buffer: the count less one, the bytes, the confirmation.
  private func fillBuffer(_ offset: Int, _ value: UInt8) {
    state.command = Command.programBuffer
    guard let count = state.bufferCount else {
      state.bufferCount = Int(value) + 1
      return
    }
    if count > 0 {
      state.bufferCount = count - 1
      if state.buffer.count < Self.bufferSize { state.buffer.append(BufferedByte(offset: offset, value: value)) }
      return
    }
    state.command = nil
    state.bufferCount = nil
    if value == Command.confirm {
      for byte in state.buffer where (0..<size).contains(byte.offset) {
        memory.base.storeBytes(of: byte.value, toByteOffset: byte.offset, as: UInt8.self)
        changed(byte.offset, count: 1)
      }
    } else {
      state.status |= Status.programError
    }
    state.buffer = []
    state.status |= Status.ready
  }

  private func changed(_ offset: Int, count: Int) {
    platform?.memory.noteWrite(memory, at: UInt64(offset), count: UInt64(count))
    onChange?(offset, UnsafeRawBufferPointer(start: memory.base + offset, count: count))
  }
}
