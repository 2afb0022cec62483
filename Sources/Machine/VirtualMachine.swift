import CHost
import Host
import Logging
import Memory
import Storage
import Synchronization
import X86

// The machine: memory, bus, clock, processors and devices, and the rules by which they meet.
//
// Threads. Each virtual processor has one; the event loop has one, on which timers fire and input arrives; whoever made
// the machine has its own. Devices have none: every call into a device is made under the machine lock.
//
// Stopping. To change the machine as a whole (pause, reset, end), the processors are asked to stop and come to `park`. A
// reset or an end is carried out by the last one that parks: at that moment no guest code runs and no thread more is
// needed. It can be asked for from anywhere, under the machine lock or not, and takes effect after the current access.
//
// Lock order, outermost first:
//   1. `control`: who is parked, and what the machine is to do. Never taken by devices.
//   2. `lock`, the machine lock: devices, bus, clock and its timers, interrupt controllers, each processor's `signals`.
//   3. leaves, held for a few instructions without calling out: `transition`, the event stream's, the event loop's and
//      writers' monitors.
// A processor's state belongs to its thread; others touch it only while that thread is parked.

/// A virtual machine.
///
/// Build it (`add` devices, `addCPU`, set the closures), `start` it, and `wait` for how it ends.
public final class VirtualMachine: @unchecked Sendable {
  public let memory: GuestMemory
  public let bus: Bus
  public let clock: HostClock
  public let inputs: any NondeterministicInput
  public let events = EventStream()
  public let log: Logger
  /// The machine lock.
  public let lock: Monitor
  let logsDebug: Bool
  let timeStampFrequency: TimeStampFrequency

  // Set while the machine is built.
  /// The way from interrupt controllers to processors.
  public let interruptRouter = InterruptRouter()
  public var cpus: [VirtualCPU] { interruptRouter.cpus }
  public private(set) var devices: [any Device] = []
  /// What stands behind the disk controllers.
  public private(set) var disks: [DiskQueue] = []
  /// Local APICs. Its region 1 is the page at which a processor sees its registers.
  public var interruptController: (any InterruptController & Device)?
  /// Where the processors' FERR# pins lead. Only ever set to true, once for each error.
  public var numericErrorLine = InterruptLine.unconnected
  /// Nil: guests have the clocks that a PC has.
  public var paravirtualClock: (any ParavirtualClock)?
  /// Nil: no hypercalls are known.
  public var hypercalls: (any HypercallInterface)?
  /// Loads what the guest starts with and sets the bootstrap processor's state; at start and after each reset, with all
  /// processors parked and at their power-up state. Under the machine lock.
  public var reload: (() throws -> Void)?
  /// Sets the bootstrap processor's state when the machine wakes from its suspension to RAM, as `reload` does otherwise:
  /// all processors and devices are at their power-up state, RAM is as it was.
  public var onWake: (() throws -> Void)?
  /// The machine goes on from a snapshot, whose state all devices have. Under the machine lock, before anything runs.
  public var onRestore: (() -> Void)?
  /// A guest's reset, or its triple fault, ends the run.
  public var endsOnReset = false
  /// What to do when the guest says that its kernel has crashed, and when its watchdog has run out.
  public var panicResponse = FailureResponse.none
  public var watchdogResponse = FailureResponse.none
  /// A processor has nothing to do: a good moment to write out what was gathered. On its thread, without locks.
  public var onIdle: (@Sendable () -> Void)?

  private let ownReference = BackReference<VirtualMachine>()

  let control = Monitor()
  var parkedCount = 0
  var pauseIsWanted = false
  var isStarted = false
  var outcome: MachineOutcome?
  var threads: [HostThread] = []

  let transition = Mutex<MachineTransition?>(nil)

  /// An empty machine. Its clock stands at zero.
  public init(
    memory: GuestMemory, loop: EventLoop, inputs: any NondeterministicInput, timeStampFrequency: TimeStampFrequency,
    log: Logger
  ) throws(HostFailure) {
    self.memory = memory
    self.inputs = inputs
    self.log = log
    self.timeStampFrequency = timeStampFrequency
    logsDebug = log.logLevel <= .debug
    lock = Monitor()
    bus = Bus(log: log)
    clock = try HostClock(loop: loop, lock: lock, frequency: timeStampFrequency)
    memory.onProtectedWrite = { [interruptRouter] range in interruptRouter.invalidate(range) }
    ownReference.whole = self
  }

  deinit {
    // Engines hold the memory.
    memory.onProtectedWrite = nil
    ownReference.whole = nil
  }

  /// Takes a device in and connects it to the machine. Its ports and memory are mapped separately (`bus`).
  public func add(_ device: any Device) {
    devices.append(device)
    var log = log
    log[metadataKey: "device"] = "\(device.name)"
    device.attach(
      to: DevicePlatform(clock: clock, memory: memory, log: log, inputs: inputs) { [ownReference] in
        ownReference.whole?.request($0)
      })
  }

  /// Takes a disk image in, for the controller that will be put in front of it.
  public func addDisk(_ image: any DiskImage) -> DiskQueue {
    let queue = DiskQueue(image, memory: memory, machineLock: lock, log: log)
    disks.append(queue)
    return queue
  }

  /// Puts the disks away in good order, all of them even where one fails: the first failure is thrown. After `wait`.
  public func closeDisks() throws(ImageFailure) {
    var failure: ImageFailure?
    for disk in disks {
      do throws(ImageFailure) { try disk.close() } catch { failure = failure ?? error }
    }
    disks = []
    if let failure { throw failure }
  }

  /// Adds a virtual processor. The first is the bootstrap processor.
  public func addCPU(_ makeEngine: EngineFactory) throws {
    interruptRouter.cpus.append(try VirtualCPU(index: cpus.count, machine: self, makeEngine: makeEngine))
  }

  /// Count and cost of all exits. While the machine is paused or after it has ended.
  public var exitReport: ExitReport { ExitReport(cpus.map(\.statistics), frequency: timeStampFrequency, bus: bus) }
}
