import Machine

/// The watchdog timer of Intel's 6300ESB I/O controller hub (datasheet 300641, chapter 16), as QEMU offers it and Linux's
/// `i6300esb` drives it.
///
/// It counts down twice, by two preload values: the end of the first stage raises an interrupt, that of the second resets
/// the machine, or does what the user wants instead. A guest that is well reloads the timer before that. A write to the
/// timer's registers takes effect only behind two unlocking writes. In free-running mode there is the second stage only,
/// again and again, and its end turns the output over.
///
/// Nothing counts: the clock's timer is armed for the end of the stage. Stages shorter than 100 µs take 100 µs, so that a
/// guest cannot keep the host busy with them.
///
/// Region 0: 16 bytes of memory, by base-address register 0.
public final class WatchdogTimer: PCIFunction {
  public static let vendor: UInt16 = 0x8086
  public static let device: UInt16 = 0x25ab
  /// Nanoseconds of a cycle of the PCI clock, 33.3 MHz.
  private static let cycle: UInt64 = 30
  /// Nanoseconds.
  private static let shortestStage: UInt64 = 100_000

  public let name = "watchdog"
  public let pci: PCIEndpoint
  private let line: InterruptLine
  private var platform: DevicePlatform?
  private var timer: (any ClockTimer)?
  private var state: State

  /// `line` gets the end of the first stage, level: pin 10 of the I/O APIC.
  public init(interrupt line: InterruptLine) {
    self.line = line
    let endpoint = PCIEndpoint(
      PCIConfigurationSpace(vendor: Self.vendor, device: Self.device, revision: 2, classCode: 0x08_8000))
    endpoint.addRegion(0, index: 0, kind: .memory32(prefetchable: false), size: 16)
    pci = endpoint
    state = State(pci: endpoint.save())
    pci.aperture = PCIAperture(
      registers: ConfigurationRegister.configuration..<ConfigurationRegister.lock + 1,
      read: { [unowned self] in readConfiguration(ConfigurationRegister.configuration + $0) },
      write: { [unowned self] in writeConfiguration(ConfigurationRegister.configuration + $0, $1) })
  }

  public func attach(to platform: DevicePlatform) {
    self.platform = platform
    timer = platform.clock.makeTimer("watchdog") { [unowned self] in stageEnded() }
  }

  public func reset() {
    pci.reset()
    let timeout = state.timeout
    state = State(pci: pci.save())
    state.timeout = timeout
    timer?.cancel()
    driveInterrupt()
  }

  public func save() -> State {
    var state = state
    state.pci = pci.save()
    return state
  }

  public func restore(_ state: State) {
    pci.restore(state.pci)
    self.state = state
    if let deadline = state.deadline { timer?.arm(at: deadline) } else { timer?.cancel() }
    driveInterrupt()
  }

  // MARK: Configuration space

  private func readConfiguration(_ register: Int) -> UInt8 {
    switch register {
    case ConfigurationRegister.configuration: state.configuration
    case ConfigurationRegister.lock: state.lock
    default: 0
    }
  }

  private func writeConfiguration(_ register: Int, _ value: UInt8) {
    switch register {
    case ConfigurationRegister.configuration:
      state.configuration = value & Configuration.all
      driveInterrupt()
    case ConfigurationRegister.lock where state.lock & Lock.lock == 0:
      let wasEnabled = isEnabled
      state.lock = value & Lock.all
      if !isEnabled {
        stop()
      } else if !wasEnabled {
        restart()
      }
    default: break
    }
  }

  private var isEnabled: Bool { state.lock & Lock.enable != 0 }
  private var isFreeRunning: Bool { state.lock & Lock.freeRunning != 0 }

  // MARK: Registers

  public func read(region: Int, offset: UInt64, size: Int) -> UInt64 {
    ByteCycles.read(offset: offset, size: size) { offset in
      let value: UInt64 =
        switch offset & ~3 {
        case Register.preload1: UInt64(state.preload1)
        case Register.preload2: UInt64(state.preload2)
        case Register.interruptStatus: state.interrupt ? 1 : 0
        case Register.reload: state.timeout ? Reload.timeout : 0
        default: 0
        }
      return UInt8(truncatingIfNeeded: value >> (8 * (offset & 3)))
    }
  }

  /// Registers are written whole, at their own offsets.
  public func write(region: Int, offset: UInt64, size: Int, value: UInt64) {
    switch offset {
    case Register.interruptStatus:
      if value & 1 != 0 { state.interrupt = false }
      driveInterrupt()
    case Register.reload where Reload.unlock.contains(value):
      // The first of the two begins anew.
      if value == Reload.unlock[0] {
        state.unlocked = 1
      } else if state.unlocked == 1 {
        state.unlocked = 2
      }
    case Register.preload1, Register.preload2, Register.reload:
      guard state.unlocked == Reload.unlock.count else { return }
      state.unlocked = 0
      writeUnlocked(offset, value)
    default: break
    }
  }

  private func writeUnlocked(_ offset: UInt64, _ value: UInt64) {
    switch offset {
    case Register.preload1: state.preload1 = UInt32(value & 0xf_ffff)
    case Register.preload2: state.preload2 = UInt32(value & 0xf_ffff)
    default:
      if value & Reload.timeout != 0 { state.timeout = false }
      if value & Reload.reload != 0, isEnabled { restart() }
    }
  }

  // MARK: Counting

  /// Begins to count from the preload value.
  private func restart() { enter(isFreeRunning ? .second : .first) }

  private func enter(_ stage: Stage) {
    state.stage = stage
    let ticks = UInt64(stage == .first ? state.preload1 : state.preload2)
    let cycles = ticks << (state.configuration & Configuration.isFast != 0 ? 5 : 15)
    let deadline = (platform?.clock.now ?? 0) &+ max(cycles &* Self.cycle, Self.shortestStage)
    state.deadline = deadline
    timer?.arm(at: deadline)
  }

  private func stop() {
    state.deadline = nil
    timer?.cancel()
  }

  private func stageEnded() {
    guard state.deadline != nil else { return }
    switch state.stage {
    case .first:
      state.interrupt = true
      driveInterrupt()
      enter(.second)
    case .second:
      state.timeout = true
      state.outputIsLow.toggle()
      if isFreeRunning { enter(.second) } else { stop() }
      if state.outputIsLow, state.configuration & Configuration.outputDisable == 0 {
        platform?.request(.failure(.watchdog))
      }
    }
  }

  /// There is no system-management mode to go to, so the second type is none.
  private func driveInterrupt() {
    line.set(state.interrupt && state.configuration & Configuration.interruptType == 0)
  }
}
