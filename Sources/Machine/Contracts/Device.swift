import Logging
import Memory
import X86

/// A device model. It sees offsets into its own regions and does not know where they sit on the bus.
///
/// All calls come under the machine lock. Unknown offsets behave as hardware would: reads give all ones (or what the
/// chip's manual says), writes are ignored. No value that a guest can write may trap.
public protocol Device: AnyObject {
  /// Everything that a snapshot must hold.
  associatedtype State: Codable

  /// Catalogue name, for logs and snapshots: "serial", "ioapic" …
  var name: String { get }
  /// The device gets its connections to the machine; called once, before `reset`.
  func attach(to platform: DevicePlatform)
  /// Power-on state.
  func reset()
  /// `size` is 1, 2, 4 or 8 bytes; the value is zero-extended.
  func read(region: Int, offset: UInt64, size: Int) -> UInt64
  func write(region: Int, offset: UInt64, size: Int, value: UInt64)
  func save() -> State
  /// Puts the device into a saved state, timers and interrupt lines included.
  func restore(_ state: State)
}

/// What a device may use of the machine around it.
public struct DevicePlatform {
  public var clock: any Clock
  public var memory: GuestMemory
  public var log: Logger
  /// Everything nondeterministic that enters the guest through this device (keys, received bytes, host time of day,
  /// entropy) is taken through here.
  public var inputs: any NondeterministicInput
  /// Asks for a change of the whole machine's state; takes effect after the current access.
  public var request: (MachineRequest) -> Void

  public init(
    clock: any Clock, memory: GuestMemory, log: Logger, inputs: any NondeterministicInput,
    request: @escaping (MachineRequest) -> Void
  ) {
    self.clock = clock
    self.memory = memory
    self.log = log
    self.inputs = inputs
    self.request = request
  }
}

/// What a device can ask of the whole machine.
public enum MachineRequest: Equatable, Sendable {
  case powerOff
  case reset
  /// Suspend to RAM: processors lose their state, devices go on until one of them asks for `wake`.
  case suspend
  /// The end of `suspend`.
  case wake
  /// The guest has failed: the machine does what it has been told to do then.
  case failure(GuestFailure)
  /// The debug-exit port: end the process with this status.
  case exit(status: Int32)
}

/// An interrupt wire, used under the machine lock only. Level semantics: `set(true)` asserts, `set(false)` releases; an edge is both in turn.
public struct InterruptLine: @unchecked Sendable {
  private let change: (Bool) -> Void
  public init(_ change: @escaping (Bool) -> Void) { self.change = change }
  /// A wire that leads nowhere.
  public static let unconnected = InterruptLine { _ in }
  public func set(_ level: Bool) { change(level) }
  public func pulse() {
    change(true)
    change(false)
  }
}

/// What stands between interrupt sources and one virtual processor. Its model-specific registers are the APIC base, x2APIC
/// and the TSC deadline. All calls under the machine lock.
public protocol InterruptController: ProcessorRegisters {
  /// The vector that the processor would get now, if its IF allows; nil where there is none. No side effect.
  func pendingVector(cpu: Int) -> UInt8?
  /// Interrupt acknowledge cycle: the vector, now in service. Nil only if nothing is pending any more.
  func acknowledge(cpu: Int) -> UInt8?
  /// The processor that makes the next access to the controller's registers: all see them at the same address, and each
  /// sees its own. Set before each access to memory that is not RAM.
  var currentCPU: Int { get set }
  /// Guest-physical page at which a processor sees its registers, wherever it has moved them; nil: nowhere.
  func registerPage(cpu: Int) -> UInt64?
  /// The register from which a processor reads its number, and what it reads there; nil: there is none. Some systems read
  /// it each time that they take a lock. Changed by the processor's own writes alone, or with all processors parked.
  func numberRegister(cpu: Int) -> NumberRegister?
  /// CR8 as the processor has it now, mirrored both ways.
  func setTaskPriority(_ cr8: UInt64, cpu: Int)
  func taskPriority(cpu: Int) -> UInt64
}

/// A register of 32 bits in which a processor finds its number.
public struct NumberRegister: Sendable, Equatable {
  public var address: GuestPhysicalAddress
  public var value: UInt32

  public init(address: GuestPhysicalAddress, value: UInt32) {
    self.address = address
    self.value = value
  }
}

/// What an interrupt controller tells a processor. Any thread, under the machine lock.
public protocol InterruptTarget: AnyObject {
  /// `pendingVector` may have changed from nil: look again.
  func interruptsChanged(cpu: Int)
  func nonMaskableInterrupt(cpu: Int)
  func initialize(cpu: Int)
  func startUp(cpu: Int, vector: UInt8)
}
