import Machine

/// A PC's floppy disk controller, an Intel 82077AA (data sheet 290166), with up to two drives (its family tree begins with
/// NEC's µPD765 and Intel's 8272A, whose programs run on it).
///
/// The guest writes a command byte by byte, the command moves its data by DMA channel 2 or through the data register, and
/// the guest reads its result byte by byte. Sectors move one at a time between the disk's image and a buffer, as the
/// host's disk permits; seeking takes no time. Sectors have 512 bytes: others are not found, as on a disk that has none of
/// them. SCAN commands are unknown.
///
/// Region 0: six ports (0x3f0 to 0x3f5); the first two, which a PC/AT does not have, read as ones. Region 1: one port (0x3f7),
/// read as the digital input register, written as the data rate. Interrupt 6.
public final class FloppyController: Device {
  public static let driveLimit = 2
  static let sectorSize = 512
  static let channel = 2
  /// FIFO off, polling on.
  static let powerOnConfiguration: UInt8 = 0x20

  struct Drive {
    let disk: any BlockBackend
    let format: FloppyFormat
  }

  public let name = "floppy"
  let drives: [Drive]
  let dma: DMAController
  private let line: InterruptLine
  var platform: DevicePlatform?
  var errors = GuestErrorLog(device: "floppy")
  var state = State()
  /// What is under way for an older life of the device is nobody's any more.
  private var era = 0

  /// `disks` are in drives A and B; their sizes are those of `FloppyFormat`s.
  public init(disks: [any BlockBackend], dma: DMAController, interrupt line: InterruptLine) {
    precondition(disks.count <= Self.driveLimit, "a PC has two floppy drives")
    drives = disks.map { disk in
      guard let format = FloppyFormat(size: disk.size) else { preconditionFailure("no floppy disk has this size") }
      return Drive(disk: disk, format: format)
    }
    self.dma = dma
    self.line = line
  }

  public func attach(to platform: DevicePlatform) {
    self.platform = platform
    errors.start(platform.log)
  }

  public func reset() {
    era &+= 1
    let changes = state.hasChanged
    state = State()
    state.hasChanged = changes
    driveInterrupt()
  }

  public func save() -> State { state }

  public func restore(_ state: State) {
    era &+= 1
    self.state = state
    self.state.timing = state.timing.resized(to: 2, with: 0)
    self.state.cylinders = state.cylinders.resized(to: 4, with: 0)
    self.state.hasChanged = state.hasChanged.resized(to: 4, with: true)
    // Positions are indices.
    if state.position > state.bytes.count || state.position < 0 { self.state.position = 0 }
    if state.dataPosition > state.data.count || state.dataPosition < 0 { self.state.dataPosition = 0 }
    driveInterrupt()
    // The machine was saved between a sector and the next.
    if state.phase == .execution, state.data.isEmpty { moveSector() }
  }

  // MARK: Registers

  public func read(region: Int, offset: UInt64, size: Int) -> UInt64 {
    ByteCycles.read(offset: offset, size: size) { offset in
      if region == 1 { return offset == 0 ? digitalInput : 0xff }
      return switch offset {
      case Register.digitalOutput: state.output
      case Register.tapeDrive: state.tapeDrive
      case Register.mainStatus: mainStatus
      case Register.data: readData()
      default: 0xff
      }
    }
  }

  public func write(region: Int, offset: UInt64, size: Int, value: UInt64) {
    ByteCycles.write(offset: offset, size: size, value: value) { offset, byte in
      if region == 1 {
        if offset == 0 { state.rate = byte & 3 }
        return
      }
      switch offset {
      case Register.digitalOutput: writeOutput(byte)
      case Register.tapeDrive: state.tapeDrive = byte & 3
      case Register.mainStatus:
        state.rate = byte & 3
        if byte & 0x80 != 0, isRunning { resetByProgram() }
      case Register.data: if isRunning { writeData(byte) }
      default: break
      }
    }
  }

  private var isRunning: Bool { state.output & Output.isRunning != 0 }

  /// Whether data move by DMA (SPECIFY).
  var usesDMA: Bool { state.timing[1] & 1 == 0 }

  private var digitalInput: UInt8 {
    let drive = Int(state.output & Output.drive)
    guard state.output & 0x10 << UInt8(drive) != 0 else { return 0 }
    return !drives.indices.contains(drive) || state.hasChanged[drive] ? 0x80 : 0
  }

  private var mainStatus: UInt8 {
    guard isRunning else { return 0 }
    switch state.phase {
    case .command: return MainStatus.isReady | (state.bytes.isEmpty ? 0 : MainStatus.isBusy)
    case .result: return MainStatus.isReady | MainStatus.isToHost | MainStatus.isBusy
    case .execution:
      guard !usesDMA else { return MainStatus.isBusy }
      // While the image is being read or written, the register has nothing, and takes nothing.
      let isReady = state.dataPosition < state.data.count ? MainStatus.isReady : 0
      let direction = isWriting ? 0 : MainStatus.isToHost
      return MainStatus.isBusy | MainStatus.isWithoutDMA | isReady | direction
    }
  }

  private var isWriting: Bool { state.transfer.map { $0.kind == .write || $0.kind == .format } ?? false }

  private func writeOutput(_ value: UInt8) {
    let wasRunning = isRunning
    state.output = value
    if wasRunning, !isRunning {
      clear()
    } else if !wasRunning, isRunning {
      announceReset()
    }
    driveInterrupt()
  }

  /// The data rate register's reset bit, which clears itself.
  private func resetByProgram() {
    clear()
    announceReset()
    driveInterrupt()
  }

  private func clear() {
    era &+= 1
    expectCommand()
    state.interrupt = false
    state.news = []
    if !state.isLocked {
      state.configuration = Self.powerOnConfiguration
      state.precompensation = 0
    }
    state.perpendicular &= 0x3c
  }

  /// With polling on, the chip notices that all drives have become ready, and interrupts.
  private func announceReset() {
    guard state.configuration & 0x10 == 0 else { return }
    state.news = (0..<4).map { Status.readyChanged | $0 }
    state.interrupt = true
  }

  // MARK: Interrupt

  func raiseInterrupt() {
    state.interrupt = true
    driveInterrupt()
  }

  func clearInterrupt() {
    state.interrupt = false
    driveInterrupt()
  }

  private func driveInterrupt() { line.set(state.interrupt && state.output & Output.gate != 0) }

  // MARK: The disk

  /// Begins a request of the disk in `drive` and calls `body` with its result, unless the device has been reset since.
  func submit(
    _ drive: Drive, _ operation: BlockRequest.Operation, at offset: UInt64, _ buffer: ATABuffer,
    _ body: @escaping (BlockResult) -> Void
  ) {
    let request = BlockRequest(
      operation, offset: offset, count: UInt64(buffer.bytes.count), memory: [.buffer(buffer.bytes)])
    let era = era
    drive.disk.submit(request) { [self] result in
      withExtendedLifetime(buffer) {}
      if era == self.era { body(result) }
    }
  }
}
