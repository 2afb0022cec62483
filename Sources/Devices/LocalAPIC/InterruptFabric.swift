import Machine

/// All local APICs of a machine and the bus between them.
///
/// Everything that interrupts a processor passes here. The ways in:
/// - `send(_:)`: messages of the I/O APIC; `sendMessageSignalled(address:data:)`: a device's MSI;
/// - `line0`: the output of the 8259 pair, wired to LINT0 of every processor ("virtual wire mode", MP specification
///   1.4, 3.6.2.2), and `line1`: the NMI wire, LINT1;
/// - each processor's own APIC: timer, interprocessor interrupts, performance counters, errors.
///
/// The ways out: `InterruptTarget` hears that there may be something new, and the processor's thread comes back with
/// `pendingVector` and `acknowledge` (`InterruptController`). An interrupt that the 8259 presents goes first: it passes by
/// the APIC's priorities (SDM vol. 3A, 11.1).
///
/// The same registers are seen at the same address by every processor, and each sees its own. So whoever dispatches a
/// memory access sets `currentCPU` first, under the machine lock. Regions:
/// - 0: the page at `defaultAddress`, for the bus; answers those processors whose IA32_APIC_BASE points there;
/// - 1: the page wherever it is: for a dispatcher that found the address in `registerPage(cpu:)`.
///
/// All calls come under the machine lock, and an interrupt passes here several times; so the fields that it touches do
/// without dynamic exclusivity checks, which would cost more than the work. To restore a machine, restore the fabric last: what other devices do to their
/// wires while they are restored must not remain.
public final class InterruptFabric {
  /// Where the registers are after power-up.
  public static let defaultAddress: UInt64 = 0xfee0_0000
  /// Bytes of the register page.
  public static let pageSize: UInt64 = 0x1000
  /// The timer's frequency before its divider, in Hz: what CPUID leaf 15H (ECX) can report as the crystal clock.
  public static let timerFrequency: UInt64 = APICTimer.frequency

  /// Who runs the processors.
  @exclusivity(unchecked) public var target: (any InterruptTarget)?
  /// The 8259 pair; nil on a machine without one. (Not weak: an object that has had a weak reference counts slowly.)
  @exclusivity(unchecked) public var externalController: (any ExternalInterruptController)?
  /// The processor whose register page regions 0 and 1 show. Set before each access.
  @exclusivity(unchecked) public var currentCPU = 0

  public let cpuCount: Int
  public let supportsX2APIC: Bool
  let physicalAddressBits: Int
  @exclusivity(unchecked) var apics: ContiguousArray<LocalAPIC> = []
  /// Levels of LINT0 and LINT1.
  @exclusivity(unchecked) var line0Level = false
  var line1Level = false
  /// Where the search for the receiver of a lowest-priority message starts: receivers of equal priority take turns.
  var nextLowestPriority = 0
  private var endOfInterruptObservers: [(UInt8) -> Void] = []
  private var guestErrors = GuestErrorLog(device: "apic")

  /// - Parameters:
  ///   - cpuCount: processors; their x2APIC IDs are 0 to `cpuCount - 1`.
  ///   - target: may also be set later.
  ///   - physicalAddressBits: MAXPHYADDR of the processors, up to 52.
  public init(
    cpuCount: Int, target: (any InterruptTarget)? = nil, supportsX2APIC: Bool = true, physicalAddressBits: Int = 40
  ) {
    precondition(cpuCount > 0 && 32...52 ~= physicalAddressBits, "an interrupt fabric needs processors")
    self.cpuCount = cpuCount
    self.target = target
    self.supportsX2APIC = supportsX2APIC
    self.physicalAddressBits = physicalAddressBits
  }

  /// Guest-physical address of the page at which a processor sees its registers; nil unless it is in xAPIC mode.
  public func registerPage(cpu: Int) -> UInt64? {
    let apic = apics[cpu]
    return apic.mode == .xAPIC ? apic.registers.base & ~0xfff : nil
  }

  /// IA32_APIC_BASE of a processor: CPUID's APIC bit follows its EN bit (11).
  public func apicBase(cpu: Int) -> UInt64 { apics[cpu].registers.base }

  /// What `cpu`'s time-stamp counter is ahead of the clock's, modulo 2^64. To be told at each change: TSC deadlines
  /// follow it.
  public func setTimeStampOffset(_ offset: UInt64, cpu: Int) {
    apics[cpu].timer.setTimeStampOffset(offset)
  }

  /// Leaves a processor's APIC as firmware would for an operating system that starts in virtual wire mode: enabled, with
  /// LINT0 open for the 8259 and LINT1 for NMI (MP specification 1.4, 3.6.2.2). For loaders that replace firmware.
  public func enableVirtualWire(cpu: Int = 0) {
    let apic = apics[cpu]
    guard apic.mode == .xAPIC else { return }
    _ = apic.write(register: APICRegister.spuriousVector, value: LocalAPIC.softwareEnable | 0xff)
    let lines = APICRegister.localVectors.lowerBound + LocalInterrupt.line0.rawValue
    _ = apic.write(register: lines, value: 0x700)
    _ = apic.write(register: lines + 1, value: 0x400)
  }

  // MARK: Wires

  /// LINT0 of every processor: the output of the 8259 pair.
  public var line0: InterruptLine {
    InterruptLine { [unowned self] level in
      guard level != line0Level else { return }
      line0Level = level
      for apic in apics { apic.lineChanged(.line0, level: level) }
    }
  }

  /// LINT1 of every processor: the NMI wire.
  public var line1: InterruptLine {
    InterruptLine { [unowned self] level in
      guard level != line1Level else { return }
      line1Level = level
      for apic in apics { apic.lineChanged(.line1, level: level) }
    }
  }

  /// A source within a processor asks for its local vector: performance counters, the thermal sensor.
  public func signal(_ source: LocalInterrupt, cpu: Int) {
    apics[cpu].deliver(source)
  }

  /// Registers an I/O APIC: `observer` hears the vector of each finished level-triggered interrupt.
  public func observeEndOfInterrupt(_ observer: @escaping (UInt8) -> Void) {
    endOfInterruptObservers.append(observer)
  }

  func endOfInterrupt(_ vector: UInt8) {
    for observer in endOfInterruptObservers { observer(vector) }
  }
}

// MARK: - Device

extension InterruptFabric: Device {
  public struct State: Codable {
    var apics: [LocalAPIC.State]
    var line0Level: Bool
    var line1Level: Bool
    var nextLowestPriority: Int
  }

  public var name: String { "apic" }

  public func attach(to platform: DevicePlatform) {
    guestErrors.start(platform.log)
    apics = ContiguousArray((0..<cpuCount).map { LocalAPIC(cpu: $0, fabric: self, clock: platform.clock) })
  }

  public func reset() {
    for apic in apics { apic.reset() }
    nextLowestPriority = 0
  }

  public func read(region: Int, offset: UInt64, size: Int) -> UInt64 {
    let mask: UInt64 = size >= 8 ? .max : (1 << UInt64(size * 8)) - 1
    guard let apic = apic(region: region, offset: offset) else { return mask }
    return apic.readPage(offset: Int(offset), size: size) & mask
  }

  public func write(region: Int, offset: UInt64, size: Int, value: UInt64) {
    guard let apic = apic(region: region, offset: offset) else {
      guestErrors.note("write of \(value.hexadecimal) to offset \(offset.hexadecimal) finds no register page")
      return
    }
    apic.writePage(offset: Int(offset), size: size, value: value)
  }

  private func apic(region: Int, offset: UInt64) -> LocalAPIC? {
    guard offset < Self.pageSize, apics.indices.contains(currentCPU) else { return nil }
    let apic = apics[currentCPU]
    return region == 1 || apic.registers.base & ~0xfff == Self.defaultAddress ? apic : nil
  }

  public func save() -> State {
    State(
      apics: apics.map(\.state), line0Level: line0Level, line1Level: line1Level,
      nextLowestPriority: nextLowestPriority)
  }

  public func restore(_ state: State) {
    line0Level = state.line0Level
    line1Level = state.line1Level
    nextLowestPriority = max(0, state.nextLowestPriority) % cpuCount
    for (apic, saved) in zip(apics, state.apics) { apic.state = saved }
    for cpu in 0..<cpuCount { target?.interruptsChanged(cpu: cpu) }
  }
}
