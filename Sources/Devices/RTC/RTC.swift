import Machine

/// The PC's clock chip with battery-backed memory: an MC146818 with 128 bytes (Motorola MC146818A data sheet; the update
/// cycle's times are those of a 32.768 kHz crystal).
///
/// The chip's registers are bytes in the memory, in the format that register B says, and stay as the guest writes them.
/// Time passes in them only when somebody looks: `settle` carries out the updates, alarms and periodic ticks since the
/// last look. A host timer is armed only for events that the guest wants to be interrupted by.
///
/// The time of day comes from the host once, at power-up, and then from the machine's clock: the guest's clock stands
/// still while the machine is paused, and keeps what the guest set across a reset of the machine, as the memory does.
///
/// Region 0 is the ports 0x70 (index; bit 7 masks NMI) and 0x71 (data).
public final class RTC {
  let line: InterruptLine
  var platform: DevicePlatform!
  var timer: (any ClockTimer)!
  var state = State()

  /// - Parameter line: the inverted IRQ pin, interrupt 8 on a PC. A level, until the guest reads register C.
  public init(line: InterruptLine) {
    self.line = line
  }

  /// Whether the guest has masked NMI at the index port.
  public var masksNonMaskableInterrupts: Bool { state.index & 0x80 != 0 }

  /// Sets a byte of the battery-backed memory, before or while the machine runs. The clock's registers (0 to 0xd) are the
  /// chip's own business and stay.
  public func setMemory(_ index: UInt8, _ value: UInt8) {
    guard 0x0e..<0x80 ~= index else { return }
    state.bytes[Int(index)] = value
  }

  /// Describes the machine's equipment: the kinds of its floppy drives, as `FloppyFormat.drive` has them, a coprocessor and a
  /// mouse. Before `setMemorySize`, which sums up.
  public func setEquipment(floppyDrives: [UInt8]) {
    let (first, second) = (floppyDrives.first ?? 0, floppyDrives.dropFirst().first ?? 0)
    setMemory(0x10, first << 4 | second & 0xf)
    setMemory(0x14, 0x06 | (floppyDrives.isEmpty ? 0 : 1 | UInt8(min(floppyDrives.count, 4) - 1) << 6))
  }

  /// Describes the machine's RAM (bytes) in the bytes that PC firmware uses: conventional memory in 0x15, memory from 1 MiB
  /// in 0x17 and 0x30 (KiB), from 16 MiB in 0x34 and from 4 GiB in 0x5b (64 KiB units), each as large as it can say.
  public func setMemorySize(below4GiB: UInt64, above4GiB: UInt64 = 0) {
    func beyond(_ start: UInt64, unit: UInt64, limit: UInt64) -> UInt64 {
      below4GiB > start ? min((below4GiB - start) / unit, limit) : 0
    }
    setMemory(0x15, 2, min(below4GiB / 1024, 640))
    let fromOneMiB = beyond(1 << 20, unit: 1024, limit: 0xffff)
    setMemory(0x17, 2, fromOneMiB)
    setMemory(0x30, 2, fromOneMiB)
    setMemory(0x34, 2, beyond(16 << 20, unit: 65_536, limit: 0xffff))
    setMemory(0x5b, 3, min(above4GiB / 65_536, 0xff_ffff))
    let checksum = state.bytes[0x10...0x2d].reduce(into: UInt16(0)) { $0 &+= UInt16($1) }
    setMemory(0x2e, UInt8(truncatingIfNeeded: checksum >> 8))
    setMemory(0x2f, UInt8(truncatingIfNeeded: checksum))
  }

  /// A little-endian number.
  private func setMemory(_ index: UInt8, _ count: UInt8, _ value: UInt64) {
    for byte in 0..<count { setMemory(index + byte, UInt8(truncatingIfNeeded: value >> UInt64(8 * byte))) }
  }

  // MARK: Registers

  private func readData() -> UInt8 {
    let index = Int(state.index & 0x7f)
    settle()
    switch index {
    case RTCRegister.a:
      return state.bytes[index] | (isUpdateInProgress ? RTCRegister.updateInProgress : 0)
    case RTCRegister.c:
      let flags = state.bytes[index]
      state.bytes[index] = 0
      follow()
      return flags
    default:
      return state.bytes[index]
    }
  }

  private func writeData(_ value: UInt8) {
    let index = Int(state.index & 0x7f)
    guard index <= RTCRegister.d else {
      state.bytes[index] = value
      return
    }
    settle()
    switch index {
    case RTCRegister.a: writeA(value)
    case RTCRegister.b:
      // SET stops updates, and with them the wish to hear of their end.
      state.bytes[index] = value & RTCRegister.set != 0 ? value & ~RTCRegister.updateEnded : value
    case RTCRegister.c, RTCRegister.d: break
    default: state.bytes[index] = value
    }
    follow()
  }

  /// Register A: when the divider chain is let go, the first update is half a second away.
  private func writeA(_ value: UInt8) {
    let wasRunning = isDividing
    state.bytes[RTCRegister.a] = value & ~RTCRegister.updateInProgress
    if isDividing, !wasRunning { state.dividerStart = platform.clock.now &- nanosecondsPerSecond / 2 }
  }

  /// Takes IRQF to its line and arms the timer for the next event that interrupts.
  func follow() {
    let wanted = state.bytes[RTCRegister.b] & RTCRegister.interrupts
    let isRequesting = state.bytes[RTCRegister.c] & wanted != 0
    let flags = state.bytes[RTCRegister.c] & ~RTCRegister.requested
    state.bytes[RTCRegister.c] = isRequesting ? flags | RTCRegister.requested : flags
    line.set(isRequesting)
    if let next = nextEvent(wanted: wanted) {
      timer.arm(at: next)
    } else {
      timer.cancel()
    }
  }
}

extension RTC: Device {
  public struct State: Codable {
    /// Port 0x70.
    var index: UInt8 = 0
    var bytes = [UInt8](repeating: 0, count: 128)
    /// The clock has been set: the battery is in.
    var isPowered = false
    /// When the divider chain began to count: updates come at whole seconds from here, modulo 2^64.
    var dividerStart: UInt64 = 0
    /// Until when events have been carried out.
    var settledAt: UInt64 = 0
  }

  public var name: String { "rtc" }

  public func attach(to platform: DevicePlatform) {
    self.platform = platform
    timer = platform.clock.makeTimer("rtc") { [unowned self] in
      settle()
      follow()
    }
  }

  /// The first reset is power-up and sets the time. Later ones are the chip's RESET pin: interrupts off, time and memory
  /// kept.
  public func reset() {
    if state.isPowered {
      settle()
    } else {
      powerUp()
    }
    state.bytes[RTCRegister.b] &= ~(RTCRegister.interrupts | RTCRegister.squareWave)
    state.bytes[RTCRegister.c] = 0
    state.index = 0
    follow()
  }

  private func powerUp() {
    let now = platform.clock.now
    let wallClock = platform.inputs.wallClock()
    state.isPowered = true
    state.dividerStart = now &- wallClock % nanosecondsPerSecond
    state.settledAt = now
    state.bytes[RTCRegister.a] = 0x26
    state.bytes[RTCRegister.b] = RTCRegister.twentyFourHours
    state.bytes[RTCRegister.d] = 0x80
    time = CalendarTime(secondsSince1970: wallClock / nanosecondsPerSecond)
  }

  public func read(region: Int, offset: UInt64, size: Int) -> UInt64 {
    // The index port cannot be read.
    offset == 1 ? UInt64(readData()) : 0xff
  }

  public func write(region: Int, offset: UInt64, size: Int, value: UInt64) {
    switch offset {
    case 0: state.index = UInt8(truncatingIfNeeded: value)
    case 1: writeData(UInt8(truncatingIfNeeded: value))
    default: break
    }
  }

  public func save() -> State { state }

  public func restore(_ state: State) {
    self.state = state
    self.state.bytes = state.bytes.resized(to: 128, with: 0)
    follow()
  }
}
