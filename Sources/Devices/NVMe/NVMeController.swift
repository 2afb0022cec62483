import Machine
import Memory
import X86

/// An NVMe controller with one disk (NVM Express 1.4) as a PCI function.
///
/// The driver writes commands into submission queues and rings a doorbell; answers come in completion queues, each with a
/// message of its own. Data goes straight between the disk and the pages that a command names. At most as many commands of a
/// queue are under way as it has entries, and an answer waits for room in its queue: what a driver does cannot make this
/// grow.
///
/// A controller that is switched off (CC.EN) forgets what it has begun, but says that it is ready until the disk has
/// finished: until then the disk may write to the guest's memory.
///
/// Regions:
/// - 0: the table of messages, base-address register 4;
/// - 1: registers and doorbells, base-address registers 0 and 1.
public final class NVMeController: PCIFunction {
  public struct State: Codable, Equatable, Sendable {
    var pci: PCIEndpoint.State?
    var registers = NVMeRegisters()
    /// By number; 0 is for administration.
    var submissionQueues: [Int: NVMeSubmissionQueue] = [:]
    var completionQueues: [Int: NVMeCompletionQueue] = [:]
    /// Features that are only remembered.
    var features: [UInt8: UInt32] = [:]
    var hasWriteCache = true
    /// Submission queues that were ever made.
    var queuesMade: UInt64 = 0
    /// Commands that wait for an event.
    var eventRequests: [UInt16] = []
  }

  public let name = "nvme"
  public let pci: PCIEndpoint
  let disk: any BlockBackend
  let identity: NVMeIdentity
  /// Pairs of queues for the disk.
  let queueLimit: Int
  var state = State()
  private(set) var platform: DevicePlatform?
  private var guestErrors = GuestErrorLog(device: "nvme")
  private var operations = 0

  static let blockSize: UInt64 = 512
  static let regionSize: UInt64 = 0x4000
  static let doorbells: UInt64 = 0x1000

  /// `serial`: 20 characters at most. `queueCount`: pairs of queues for the disk, one for each processor is best.
  public init(_ disk: any BlockBackend, serial: String, queueCount: Int) {
    precondition((1...64).contains(queueCount), "an NVMe controller has 1 to 64 pairs of queues")
    self.disk = disk
    identity = NVMeIdentity(serial: serial, blockCount: disk.size / Self.blockSize)
    queueLimit = queueCount
    pci = PCIEndpoint(
      PCIConfigurationSpace(
        vendor: NVMeIdentity.vendor, device: NVMeIdentity.device, revision: 1, classCode: 0x01_0802,
        subsystemVendor: NVMeIdentity.vendor, subsystem: NVMeIdentity.device))
    pci.addRegion(1, index: 0, kind: .memory64(prefetchable: false), size: Self.regionSize)
    pci.addMessageTable(queueCount + 1, region: 0, index: 4)
    pci.addInterruptPin()
  }

  public func attach(to platform: DevicePlatform) {
    self.platform = platform
    guestErrors.start(platform.log)
  }

  public func reset() {
    pci.reset()
    stop()
    state = State(queuesMade: state.queuesMade)
  }

  func note(_ message: @autoclosure () -> String) { guestErrors.note(message()) }

  // MARK: Switching on and off

  /// Writes of the controller configuration (3.1.5).
  private func configure(_ value: UInt32) {
    let old = state.registers.configuration
    state.registers.configuration = value
    let (wasOn, isOn) = (old & 1 != 0, value & 1 != 0)
    if isOn, !wasOn { start() }
    if !isOn, wasOn {
      stop()
      state.registers = NVMeRegisters(
        configuration: value, queueSizes: state.registers.queueSizes,
        submissionBase: state.registers.submissionBase, completionBase: state.registers.completionBase)
    }
    // A shutdown, normal or abrupt: all that was written is on the disk already, or a flush was its driver's business.
    if isOn, value & 0xc000 != 0 { state.registers.isShutDown = true }
  }

  private func start() {
    let registers = state.registers
    let sizes = registers.queueSizes
    let (submission, completion) = (sizes & 0xfff, sizes >> 16 & 0xfff)
    // Memory pages of 4 KiB, NVM commands, entries as identified; queues of two entries and more.
    guard registers.configuration & 0x7f0 == 0, submission > 0, completion > 0,
      registers.submissionBase % NVMeTransfer.pageSize == 0, registers.completionBase % NVMeTransfer.pageSize == 0
    else { return fail("the configuration that it is switched on with is not possible") }
    state.submissionQueues[0] = NVMeSubmissionQueue(
      base: registers.submissionBase, size: submission + 1, completionQueue: 0, birth: nextBirth())
    state.completionQueues[0] = NVMeCompletionQueue(base: registers.completionBase, size: completion + 1, vector: 0)
    state.registers.isReady = true
  }

  private func stop() {
    state.submissionQueues = [:]
    state.completionQueues = [:]
    state.features = [:]
    state.hasWriteCache = true
    state.eventRequests = []
    state.registers.isReady = false
    driveInterrupt()
  }

  /// A number for a new submission queue.
  func nextBirth() -> UInt64 {
    state.queuesMade &+= 1
    return state.queuesMade
  }

  /// The controller can do nothing more until it is switched off.
  func fail(_ reason: String) {
    note("fatal: \(reason)")
    state.registers.isFatal = true
  }

  func beginOperation() { operations += 1 }
  func endOperation() { operations -= 1 }

  // MARK: Registers

  public func read(region: Int, offset: UInt64, size: Int) -> UInt64 {
    if region == 0 { return pci.readMessages(offset: offset, size: size) }
    guard offset < Self.doorbells, offset & UInt64(size - 1) == 0 else { return 0 }
    let registers = state.registers
    var bytes = [UInt8](repeating: 0, count: 0x40)
    // 1024 entries, contiguous queues, 10 s to get ready, the NVM command set.
    bytes.put(UInt64(1023 | 1 << 16 | 20 << 24) | 1 << 37, at: 0x00)
    bytes.put(NVMeIdentity.version, at: 0x08)
    bytes.put(registers.interruptMask, at: 0x0c)
    bytes.put(registers.interruptMask, at: 0x10)
    bytes.put(registers.configuration, at: 0x14)
    bytes.put(registers.status(isBusy: operations > 0), at: 0x1c)
    bytes.put(registers.queueSizes, at: 0x24)
    bytes.put(registers.submissionBase, at: 0x28)
    bytes.put(registers.completionBase, at: 0x30)
    return bytes.littleEndian(at: Int(offset), size: size)
  }

  public func write(region: Int, offset: UInt64, size: Int, value: UInt64) {
    if region == 0 { return pci.writeMessages(offset: offset, size: size, value: value) }
    guard size >= 4, offset & UInt64(size - 1) == 0 else { return }
    if offset >= Self.doorbells { return ring(offset - Self.doorbells, UInt32(truncatingIfNeeded: value)) }
    write(offset, UInt32(truncatingIfNeeded: value))
    if size == 8 { write(offset + 4, UInt32(truncatingIfNeeded: value >> 32)) }
  }

  private func write(_ offset: UInt64, _ value: UInt32) {
    func merge(_ old: UInt64, _ shift: UInt64) -> UInt64 { old & ~(0xffff_ffff << shift) | UInt64(value) << shift }
    switch offset {
    case 0x0c: state.registers.interruptMask |= value
    case 0x10: state.registers.interruptMask &= ~value
    case 0x14: configure(value)
    case 0x24: state.registers.queueSizes = value & 0x0fff_0fff
    case 0x28: state.registers.submissionBase = merge(state.registers.submissionBase, 0)
    case 0x2c: state.registers.submissionBase = merge(state.registers.submissionBase, 32)
    case 0x30: state.registers.completionBase = merge(state.registers.completionBase, 0)
    case 0x34: state.registers.completionBase = merge(state.registers.completionBase, 32)
    default: break
    }
    driveInterrupt()
  }

  /// Doorbells: the tail of a submission queue, the head of a completion queue, in turn (3.1.16).
  private func ring(_ offset: UInt64, _ value: UInt32) {
    guard state.registers.isReady, !state.registers.isFatal, pci.isBusMaster else { return }
    let number = Int(truncatingIfNeeded: offset / 8)
    if offset & 4 == 0 {
      guard let queue = state.submissionQueues[number], value < queue.size else {
        return note("a doorbell of submission queue \(number) with \(value)")
      }
      state.submissionQueues[number]?.tail = value
      takeCommands(number)
    } else {
      guard let queue = state.completionQueues[number], value < queue.size else {
        return note("a doorbell of completion queue \(number) with \(value)")
      }
      state.completionQueues[number]?.head = value
      postWaiting(number)
      driveInterrupt()
    }
  }

  // MARK: State

  public func save() -> State {
    var state = state
    state.pci = pci.save()
    return state
  }

  public func restore(_ state: State) {
    self.state = state
    self.state.pci = nil
    if let saved = state.pci { pci.restore(saved) }
    driveInterrupt()
  }
}
