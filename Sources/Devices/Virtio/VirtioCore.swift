import Machine
import Memory

/// What all virtio devices have in common whatever they do and wherever they sit: status, negotiation of features, queues
/// (VIRTIO 1.2, chapters 2 and 3). A transport in front brings the driver's accesses here, a `VirtioModel` behind takes
/// chains and hands them back.
///
/// A driver that breaks the rules of a queue finds the status bit DEVICE_NEEDS_RESET set; until it has reset the device
/// nothing moves any more (2.1.2).
///
/// What a model has begun goes on over a reset, because nobody can take a request back from a disk: chains carry the *era*
/// that they are from, and those of an earlier one are dropped when they come back. `operations` counts what is under way,
/// and the status reads as it was until all of it has ended: then the driver may use the memory again.
public final class VirtioCore {
  struct State: Codable, Equatable, Sendable {
    var status: UInt8
    var features: UInt64
    var generation: UInt8
    var queues: [Virtqueue.State]
  }

  let platform: DevicePlatform
  private let offered: UInt64
  private(set) var features: UInt64 = 0
  private var ownStatus: UInt8 = 0
  /// What the status was before a reset that has not come to its end.
  private var statusBeforeReset: UInt8 = 0
  /// Changes with the configuration structure.
  private(set) var generation: UInt8 = 0
  let queues: [Virtqueue]

  private var era: UInt64 = 0
  private var operations = 0
  /// Takes up queues that were left for the sake of others.
  private var resumption: (any ClockTimer)?
  private var postponed: Set<Int> = []
  private var guestErrors: GuestErrorLog

  /// The transport's way to the guest's processors.
  private let interrupt: (VirtioInterrupt) -> Void
  private let notifyModel: (Int) -> Void
  private let resetModel: () -> Void

  /// The most chains that a device handles in one go: a driver that never stops must not keep the machine to itself.
  private static let burst = 1024

  init(
    name: String, offered: UInt64, queueSizes: [UInt16], platform: DevicePlatform,
    interrupt: @escaping (VirtioInterrupt) -> Void, notifyModel: @escaping (Int) -> Void,
    resetModel: @escaping () -> Void
  ) {
    self.offered = offered | VirtioFeature.common
    self.platform = platform
    self.interrupt = interrupt
    self.notifyModel = notifyModel
    self.resetModel = resetModel
    queues = queueSizes.enumerated().map { Virtqueue(number: $0, maximumSize: $1, memory: platform.memory) }
    guestErrors = GuestErrorLog(device: name)
    guestErrors.start(platform.log)
    resumption = platform.clock.makeTimer(name) { [unowned self] in resume() }
  }

  // MARK: The transport's side

  /// A word of what is offered, 0 or 1.
  func offered(word: UInt32) -> UInt32 { Self.word(offered, word) }

  func accepted(word: UInt32) -> UInt32 { Self.word(features, word) }

  /// The driver accepts features. They are settled once it says so in the status.
  func accept(_ value: UInt32, word: UInt32) {
    guard word < 2, ownStatus & VirtioStatus.featuresAreAccepted == 0 else { return }
    let shift = UInt64(word) * 32
    features = features & ~(0xffff_ffff << shift) | UInt64(value) << shift
  }

  private static func word(_ value: UInt64, _ word: UInt32) -> UInt32 {
    word < 2 ? UInt32(truncatingIfNeeded: value >> (UInt64(word) * 32)) : 0
  }

  var status: UInt8 { operations > 0 && ownStatus == 0 ? statusBeforeReset : ownStatus }

  /// The driver writes the status; 0 resets (2.1.1, 3.1.1).
  func setStatus(_ value: UInt8) {
    guard value != 0 else { return reset() }
    var value = value | ownStatus & VirtioStatus.needsReset
    let rises = value & ~ownStatus
    if rises & VirtioStatus.featuresAreAccepted != 0,
      features & ~offered != 0 || features & VirtioFeature.version1 == 0
    {
      value &= ~VirtioStatus.featuresAreAccepted
    }
    ownStatus = value
    if rises & (VirtioStatus.featuresAreAccepted | VirtioStatus.driverIsReady) != 0 { applyFeatures() }
  }

  private func applyFeatures() {
    // A driver from before the standard has no moment at which features are judged.
    features &= offered
    for queue in queues { queue.usesEventIndex = has(VirtioFeature.eventIndex) }
  }

  /// Whether a feature was negotiated.
  func has(_ feature: UInt64) -> Bool { features & feature != 0 }

  /// Back to the state after power-up.
  func reset() {
    if ownStatus != 0 { statusBeforeReset = ownStatus }
    ownStatus = 0
    features = 0
    era &+= 1
    postponed = []
    resumption?.cancel()
    for queue in queues { queue.reset() }
    resetModel()
  }

  func enable(_ queue: Int) {
    guard queues.indices.contains(queue) else { return }
    do throws(VirtqueueFault) { try queues[queue].enable() } catch { fail(error) }
  }

  /// The driver says that a queue has something new.
  func notify(_ queue: Int) {
    guard queues.indices.contains(queue), mayWork else { return }
    notifyModel(queue)
  }

  /// Drivers from before the standard use queues before they say that they are ready (3.1.2).
  private var mayWork: Bool {
    ownStatus & VirtioStatus.needsReset == 0
      && (ownStatus & VirtioStatus.driverIsReady != 0 || (ownStatus != 0 && !has(VirtioFeature.version1)))
  }

  // MARK: The model's side

  var memory: GuestMemory { platform.memory }

  /// Gives `body` every chain that the driver has put into a queue, as long as `isWanted`; if it is not in the end, the
  /// model comes again by itself.
  func forEachChain(_ queue: Int, while isWanted: @autoclosure () -> Bool = true, _ body: (VirtioChain) -> Void) {
    let queue = queues[queue]
    var count = 0
    repeat {
      queue.declineNotices()
      while isWanted(), let chain = take(queue) {
        body(chain)
        count += 1
        if count == Self.burst { return postpone(queue.number) }
      }
    } while mayWork && isWanted() && queue.requestNotices()
  }

  /// Whether the driver has put something into a queue.
  func hasChain(_ queue: Int) -> Bool { mayWork && queues[queue].hasChain }

  /// Asks for a notice of a queue's next chain. True: there is one already.
  func requestNotices(_ queue: Int) -> Bool { mayWork && queues[queue].requestNotices() }

  /// The next chain of a queue, for models that take one when they have something to put into it; nil: there is none.
  func takeChain(_ queue: Int) -> VirtioChain? { take(queues[queue]) }

  private func take(_ queue: Virtqueue) -> VirtioChain? {
    guard mayWork else { return nil }
    do throws(VirtqueueFault) { return try queue.take(era: era) } catch {
      fail(error)
      return nil
    }
  }

  private func postpone(_ queue: Int) {
    postponed.insert(queue)
    resumption?.arm(at: platform.clock.now)
  }

  private func resume() {
    let queues = postponed
    postponed = []
    for queue in queues.sorted() { notify(queue) }
  }

  /// Whether a chain is of this life of the device: otherwise its memory is the driver's own again.
  func isCurrent(_ chain: VirtioChain) -> Bool { chain.era == era && mayWork }

  /// Hands a chain back to the driver with `written` bytes in its room; `interrupt` comes later, by `signal`.
  func giveBack(_ chain: VirtioChain, written: UInt64) {
    guard isCurrent(chain) else { return }
    queues[chain.queue].giveBack(chain.head, written: written)
  }

  /// Interrupts, if the driver wants to hear of what it was given back.
  func signal(_ queue: Int) {
    guard mayWork, queues[queue].takeSignal() else { return }
    interrupt(.queue(vector: queues[queue].state.vector))
  }

  /// Something begins that ends later with `endOperation`, over a reset too.
  func beginOperation() { operations += 1 }

  func endOperation() { operations -= 1 }

  /// The configuration structure has changed by itself.
  func configurationHasChanged() {
    generation &+= 1
    if ownStatus & VirtioStatus.driverIsReady != 0 { interrupt(.configuration) }
  }

  /// The driver has done what it must not do.
  func fail(_ fault: VirtqueueFault) {
    guestErrors.note("\(fault.description): the device needs a reset")
    guard ownStatus & VirtioStatus.needsReset == 0 else { return }
    let isReady = ownStatus & VirtioStatus.driverIsReady != 0
    ownStatus |= VirtioStatus.needsReset
    if isReady { interrupt(.configuration) }
  }

  // MARK: State

  func save() -> State {
    State(status: ownStatus, features: features, generation: generation, queues: queues.map(\.state))
  }

  func restore(_ state: State) {
    reset()
    ownStatus = state.status
    features = state.features & offered
    generation = state.generation
    for (queue, saved) in zip(queues, state.queues) {
      queue.usesEventIndex = has(VirtioFeature.eventIndex)
      do throws(VirtqueueFault) { try queue.restore(saved) } catch { fail(error) }
    }
    // What was left for later, and what the driver had announced.
    for queue in queues { postpone(queue.number) }
  }
}
