import Machine
import Memory
import Synchronization
import X86

/// KVM's clock (Linux, Documentation/virt/kvm/x86/msr.rst): a guest names a place in its memory for each of its
/// processors, and finds there how to make nanoseconds of that processor's time-stamp counter.
///
/// The rate never changes, and all processors' pages describe one and the same clock, whatever a guest has made of their
/// time-stamp counters; so a page is written when the guest asks for it and when its processor's counter has been moved.
/// The counters stand still while the machine is paused, and with them this clock; the page says that there was a pause.
///
/// Two numbers for each register: the old ones, which Linux had given away twice, and the new ones.
public final class KVMClock {
  public struct State: Codable {
    /// The registers as they were written. The first is the machine's, the others are each processor's own.
    var wallClock: UInt64 = 0
    var systemTimes: [UInt64]
    /// What the processors' time-stamp counters are ahead of the machine's.
    var timeStampOffsets: [UInt64]
    /// What the guest's clock shows, in nanoseconds.
    var time: UInt64 = 0
  }

  private enum Register {
    case wallClock, systemTime

    init?(_ index: UInt32) {
      switch index {
      case 0x11, 0x4b56_4d00: self = .wallClock
      case 0x12, 0x4b56_4d01: self = .systemTime
      default: return nil
      }
    }
  }

  /// Bit 0 of the system time register: the page is to be kept.
  private static let isEnabled: UInt64 = 1

  /// Flags of a page: all processors' clocks agree; the machine was paused since the guest last cleared this.
  private static let isStable: UInt8 = 1 << 0
  private static let wasPaused: UInt8 = 1 << 1

  private var state: State
  /// The machine's time-stamp counter and the guest's clock at one moment.
  private var origin: (stamp: UInt64, time: UInt64) = (0, 0)
  /// Nanoseconds are ticks, shifted, times `multiplier` over 2^32.
  private var shift: Int8 = 0
  private var multiplier: UInt32 = 0
  private var platform: DevicePlatform!

  public init(cpuCount: Int) {
    let zeros = [UInt64](repeating: 0, count: cpuCount)
    state = State(systemTimes: zeros, timeStampOffsets: zeros)
  }

  // MARK: Rate

  /// Takes as many of the multiplier's bits as there are.
  private func setRate(_ frequency: UInt64) {
    shift = 0
    var ticks = max(frequency, 1)
    var nanoseconds = nanosecondsPerSecond
    while ticks <= nanoseconds {
      ticks <<= 1
      shift += 1
    }
    while ticks > nanoseconds << 1 {
      nanoseconds <<= 1
      shift -= 1
    }
    multiplier = UInt32(clamping: scale(nanoseconds, by: 1 << 32, over: ticks))
  }

  /// As the guest computes it.
  private var time: UInt64 {
    let ticks = platform.clock.timeStamp &- origin.stamp
    let product = (shift < 0 ? ticks >> UInt64(-shift) : ticks << UInt64(shift))
      .multipliedFullWidth(by: UInt64(multiplier))
    return origin.time &+ (product.high << 32 | product.low >> 32)
  }

  // MARK: Pages

  /// `struct pvclock_vcpu_time_info`, without its version.
  private func writePage(cpu: Int, flags: UInt8) {
    let register = state.systemTimes[cpu]
    guard register & Self.isEnabled != 0 else { return }
    let page = GuestPhysicalAddress(register & ~Self.isEnabled)
    write(at: page) { [self] memory in
      _ = memory.store(origin.stamp &+ state.timeStampOffsets[cpu], at: page &+ 8)
      _ = memory.store(origin.time, at: page &+ 16)
      _ = memory.store(multiplier, at: page &+ 24)
      _ = memory.store(shift, at: page &+ 28)
      _ = memory.store(flags, at: page &+ 29)
    }
  }

  /// `struct pvclock_wall_clock`: seconds and nanoseconds since 1970 when the guest's clock was at zero.
  private func writeWallClock() {
    let place = GuestPhysicalAddress(state.wallClock)
    let start = platform.inputs.wallClock() &- time
    write(at: place) { memory in
      _ = memory.store(UInt32(truncatingIfNeeded: start / nanosecondsPerSecond), at: place &+ 4)
      _ = memory.store(UInt32(truncatingIfNeeded: start % nanosecondsPerSecond), at: place &+ 8)
    }
  }

  /// Lets `body` write what follows a version, which is odd meanwhile: other processors may be reading. A place that is
  /// not RAM gets nothing.
  private func write(at place: GuestPhysicalAddress, _ body: (GuestMemory) -> Void) {
    let memory = platform.memory
    guard let old = memory.load(place, as: UInt32.self) else { return }
    let version = old | 1
    _ = memory.store(version, at: place)
    atomicMemoryFence(ordering: .releasing)
    body(memory)
    atomicMemoryFence(ordering: .releasing)
    _ = memory.store(version &+ 1, at: place)
  }

  /// What the guest has left of `wasPaused`.
  private func pauseFlag(cpu: Int) -> UInt8 {
    let page = GuestPhysicalAddress(state.systemTimes[cpu] & ~Self.isEnabled)
    return (platform.memory.load(page &+ 29, as: UInt8.self) ?? 0) & Self.wasPaused
  }
}

extension KVMClock: ParavirtualClock {
  public func readMSR(_ index: UInt32, cpu: Int) -> UInt64? {
    switch Register(index) {
    case .wallClock: state.wallClock
    case .systemTime: state.systemTimes[cpu]
    case nil: nil
    }
  }

  public func writeMSR(_ index: UInt32, value: UInt64, cpu: Int) -> Bool {
    switch Register(index) {
    case .wallClock:
      state.wallClock = value
      writeWallClock()
    case .systemTime:
      state.systemTimes[cpu] = value
      writePage(cpu: cpu, flags: Self.isStable)
    case nil: return false
    }
    return true
  }

  public func setTimeStampOffset(_ offset: UInt64, cpu: Int) {
    guard offset != state.timeStampOffsets[cpu] else { return }
    state.timeStampOffsets[cpu] = offset
    writePage(cpu: cpu, flags: Self.isStable | pauseFlag(cpu: cpu))
  }

  public func initialize(cpu: Int) { state.systemTimes[cpu] = 0 }

  public func resume() {
    for cpu in state.systemTimes.indices { writePage(cpu: cpu, flags: Self.isStable | Self.wasPaused) }
  }
}

/// Without ports or memory of its own.
extension KVMClock: Device {
  public var name: String { "kvm-clock" }

  public func attach(to platform: DevicePlatform) {
    self.platform = platform
    setRate(platform.clock.timeStampFrequency)
  }

  public func reset() {
    let zeros = [UInt64](repeating: 0, count: state.systemTimes.count)
    state = State(systemTimes: zeros, timeStampOffsets: zeros)
    origin = (platform.clock.timeStamp, platform.clock.now)
  }

  public func read(region: Int, offset: UInt64, size: Int) -> UInt64 { .max }

  public func write(region: Int, offset: UInt64, size: Int, value: UInt64) {}

  public func save() -> State {
    var state = state
    state.time = time
    return state
  }

  /// The guest's clock goes on from where it was, whatever the machine's time-stamp counter has done since. Pages follow
  /// when the machine does.
  public func restore(_ state: State) {
    guard state.systemTimes.count == self.state.systemTimes.count,
      state.timeStampOffsets.count == self.state.timeStampOffsets.count
    else { return }
    self.state = state
    origin = (platform.clock.timeStamp, state.time)
  }
}
