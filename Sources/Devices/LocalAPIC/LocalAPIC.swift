import Machine

/// One processor's local APIC: what it accepted, what is in service, and which vector comes next (SDM vol. 3A, 11.4 to
/// 11.9). Its registers are in `LocalAPIC+Registers.swift`, its x2APIC face in `LocalAPIC+ModelSpecificRegisters.swift`.
final class LocalAPIC {
  /// All that a snapshot holds except the timer.
  struct Registers: Codable {
    /// IA32_APIC_BASE: page address, EN (11), EXTD (10), BSP (8).
    var base: UInt64
    /// The 8-bit xAPIC ID, which software may change. The x2APIC ID is the processor's number.
    var identifier: UInt8
    var taskPriority: UInt8 = 0
    /// Bits 31:24 of the xAPIC logical destination register.
    var logicalDestination: UInt8 = 0
    var destinationFormat: UInt32 = 0xffff_ffff
    var spuriousVector: UInt32 = 0xff
    var requested = VectorSet()
    var inService = VectorSet()
    var triggerMode = VectorSet()
    /// Errors since the error status register was last written; the register as it reads; whether the next error
    /// interrupts.
    var pendingErrors: UInt8 = 0
    var errorStatus: UInt8 = 0
    var errorInterruptArmed = true
    var command: UInt64 = 0
    /// The local vector table, indexed by `LocalInterrupt.rawValue`.
    var localVectors = SIMD8<UInt32>(repeating: LocalVector.masked)
    /// An ExtINT message has come; the processor is to ask the 8259.
    var externalRequested = false
  }

  struct State: Codable {
    var registers: Registers
    var timer: APICTimer.State
  }

  enum Mode {
    case disabled, xAPIC, x2APIC
  }

  static let baseEnable: UInt64 = 1 << 11
  static let baseExtended: UInt64 = 1 << 10
  static let baseBootstrap: UInt64 = 1 << 8
  static let softwareEnable: UInt32 = 1 << 8
  static let suppressBroadcast: UInt32 = 1 << 12
  /// Version 0x14, six local vectors, end-of-interrupt broadcasts can be suppressed (SDM vol. 3A, 11.4.8).
  static let version: UInt32 = 0x0105_0014

  let cpu: Int
  unowned let fabric: InterruptFabric
  @exclusivity(unchecked) var registers: Registers
  @exclusivity(unchecked) private(set) var timer: APICTimer!

  init(cpu: Int, fabric: InterruptFabric, clock: any Clock) {
    self.cpu = cpu
    self.fabric = fabric
    registers = Self.powerOn(cpu: cpu)
    timer = APICTimer(name: "apic\(cpu)", processor: cpu, clock: clock) { [unowned self] in deliver(.timer) }
  }

  private static func powerOn(cpu: Int) -> Registers {
    let base = InterruptFabric.defaultAddress | baseEnable | (cpu == 0 ? baseBootstrap : 0)
    return Registers(base: base, identifier: UInt8(truncatingIfNeeded: cpu))
  }

  /// Power-up (SDM vol. 3A, 11.4.7.1).
  func reset() {
    registers = Self.powerOn(cpu: cpu)
    timer.reset()
  }

  /// An INIT (SDM vol. 3A, 11.4.7.3 and 11.12.5.1): as after power-up, but mode, address and ID stay.
  func initialize() {
    registers = Registers(base: registers.base, identifier: registers.identifier)
    timer.reset()
  }

  var state: State {
    get { State(registers: registers, timer: timer.state) }
    set {
      registers = newValue.registers
      timer.restore(newValue.timer)
    }
  }

  // MARK: Mode

  var mode: Mode {
    guard registers.base & Self.baseEnable != 0 else { return .disabled }
    return registers.base & Self.baseExtended != 0 ? .x2APIC : .xAPIC
  }

  var isSoftwareEnabled: Bool {
    registers.spuriousVector & Self.softwareEnable != 0 && registers.base & Self.baseEnable != 0
  }

  // MARK: Priorities

  /// PPR (SDM vol. 3A, 11.8.3.1).
  var processorPriority: UInt8 {
    guard let vector = registers.inService.highest, vector & 0xf0 > registers.taskPriority & 0xf0 else {
      return registers.taskPriority
    }
    return vector & 0xf0
  }

  /// APR (SDM vol. 3A, 11.6.2.4).
  var arbitrationPriority: UInt8 {
    let task = registers.taskPriority
    let requested = (registers.requested.highest ?? 0) & 0xf0
    let inService = (registers.inService.highest ?? 0) & 0xf0
    if task & 0xf0 >= requested, task & 0xf0 > inService { return task }
    return max(task & 0xf0, requested, inService)
  }

  /// The vector that is dispensed next: the highest request above the processor's priority.
  var deliverableVector: UInt8? {
    guard let vector = registers.requested.highest, vector & 0xf0 > processorPriority & 0xf0,
      registers.base & Self.baseEnable != 0
    else { return nil }
    return vector
  }

  /// Whether the 8259's output reaches the processor: through LINT0 in ExtINT mode, or directly when there is no APIC.
  var passesExternal: Bool {
    guard registers.base & Self.baseEnable != 0 else { return true }
    let entry = registers.localVectors[LocalInterrupt.line0.rawValue]
    return entry & (LocalVector.masked | 0x700) == 0x700
  }

  func notifyIfDeliverable() {
    if deliverableVector != nil { fabric.target?.interruptsChanged(cpu: cpu) }
  }

  // MARK: Accepting and finishing interrupts

  /// Takes a message that is addressed to this processor (SDM vol. 3A, 11.8.2). False where it is dropped.
  func accept(_ mode: InterruptMessage.DeliveryMode, vector: UInt8, isLevelTriggered: Bool) -> Bool {
    switch mode {
    case .fixed, .lowestPriority:
      return request(vector, isLevelTriggered: isLevelTriggered)
    case .nonMaskable:
      fabric.target?.nonMaskableInterrupt(cpu: cpu)
      return true
    case .initialize:
      initialize()
      fabric.target?.initialize(cpu: cpu)
      return true
    case .startUp:
      fabric.target?.startUp(cpu: cpu, vector: vector)
      return true
    case .external:
      guard isSoftwareEnabled else { return false }
      registers.externalRequested = true
      fabric.target?.interruptsChanged(cpu: cpu)
      return true
    case .systemManagement:
      // There is no system management mode: taken, and without effect.
      return true
    case .reserved:
      return false
    }
  }

  private func request(_ vector: UInt8, isLevelTriggered: Bool) -> Bool {
    guard isSoftwareEnabled else { return false }
    guard vector >= 16 else {
      note(APICError.receiveIllegalVector)
      return false
    }
    if isLevelTriggered {
      registers.triggerMode.insert(vector)
    } else {
      registers.triggerMode.remove(vector)
    }
    guard !registers.requested.contains(vector) else { return true }
    registers.requested.insert(vector)
    if vector & 0xf0 > processorPriority & 0xf0 { fabric.target?.interruptsChanged(cpu: cpu) }
    return true
  }

  /// The processor takes the next vector.
  func acknowledge() -> UInt8? {
    guard let vector = deliverableVector else { return nil }
    registers.requested.remove(vector)
    registers.inService.insert(vector)
    return vector
  }

  /// A write to the EOI register (SDM vol. 3A, 11.8.5).
  func endOfInterrupt() {
    guard let vector = registers.inService.highest else { return }
    registers.inService.remove(vector)
    if registers.triggerMode.contains(vector) {
      finishLine0(vector)
      if registers.spuriousVector & Self.suppressBroadcast == 0 { fabric.endOfInterrupt(vector) }
    }
    notifyIfDeliverable()
  }

  // MARK: The local vector table

  /// Delivers an interrupt that arises in this processor.
  func deliver(_ source: LocalInterrupt, isLevelTriggered: Bool = false) {
    let entry = registers.localVectors[source.rawValue]
    guard entry & LocalVector.masked == 0 else { return }
    if source == .performanceCounter {
      // SDM vol. 3B, 20.6.3.2: set by hardware when the interrupt is delivered.
      registers.localVectors[source.rawValue] |= LocalVector.masked
    }
    let hasMode = source != .timer && source != .error
    let mode = hasMode ? InterruptMessage.DeliveryMode(bits: entry >> 8) : .fixed
    switch mode {
    case .startUp, .reserved, .lowestPriority: return
    default: break
    }
    _ = accept(mode, vector: UInt8(truncatingIfNeeded: entry), isLevelTriggered: isLevelTriggered)
  }

  /// LINT0 or LINT1 changed to `level`.
  func lineChanged(_ source: LocalInterrupt, level: Bool) {
    guard mode != .disabled else {
      // Without its APIC the processor has two plain pins here: INTR and NMI.
      guard level else { return }
      if source == .line0 {
        fabric.target?.interruptsChanged(cpu: cpu)
      } else {
        fabric.target?.nonMaskableInterrupt(cpu: cpu)
      }
      return
    }
    if source == .line0, isLine0Continuous {
      evaluateLine0(level: level)
    } else if level {
      deliver(source)
    }
  }

  /// LINT0 acts by its level, not its edges: ExtINT, or fixed mode and level-triggered. LINT1 is always
  /// edge-triggered (SDM vol. 3A, 11.5.1).
  private var isLine0Continuous: Bool {
    let entry = registers.localVectors[LocalInterrupt.line0.rawValue]
    let mode = InterruptMessage.DeliveryMode(bits: entry >> 8)
    return mode == .external || mode == .fixed && entry & LocalVector.levelTriggered != 0
  }

  /// Looks at the level of LINT0 again, after a change of it or of its entry.
  func evaluateLine0(level: Bool) {
    guard level, isLine0Continuous else { return }
    if passesExternal {
      fabric.target?.interruptsChanged(cpu: cpu)
      return
    }
    let entry = registers.localVectors[LocalInterrupt.line0.rawValue]
    guard InterruptMessage.DeliveryMode(bits: entry >> 8) == .fixed,
      entry & (LocalVector.masked | LocalVector.remoteIRR) == 0
    else { return }
    if request(UInt8(truncatingIfNeeded: entry), isLevelTriggered: true) {
      registers.localVectors[LocalInterrupt.line0.rawValue] |= LocalVector.remoteIRR
    }
  }

  private func finishLine0(_ vector: UInt8) {
    let entry = registers.localVectors[LocalInterrupt.line0.rawValue]
    guard entry & LocalVector.remoteIRR != 0, UInt8(truncatingIfNeeded: entry) == vector else { return }
    registers.localVectors[LocalInterrupt.line0.rawValue] &= ~LocalVector.remoteIRR
    evaluateLine0(level: fabric.line0Level)
  }

  // MARK: Errors

  /// Remembers an error; the first one after the error status register was written interrupts (SDM vol. 3A, 11.5.3).
  func note(_ error: UInt8) {
    registers.pendingErrors |= error
    guard registers.errorInterruptArmed else { return }
    registers.errorInterruptArmed = false
    deliver(.error)
  }
}
