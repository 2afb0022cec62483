import CHost
import Memory
import X86

/// The device's side of a split virtqueue (VIRTIO 1.2, 2.7).
///
/// Three areas in guest memory: a table of descriptors; the *available* ring, where the driver names chains that it hands
/// over; the *used* ring, where the device hands them back. Their host addresses are found once, when the queue is
/// enabled: RAM does not move. Other processors of the guest write to them at any moment, so everything that is read is
/// read once and judged before it is used. What no driver may do is a `VirtqueueFault`; nothing of a queue's is to be
/// trusted after that.
///
/// Each side tells the other when it wants to hear of news: by flags, or, with the event index, by the index at which it
/// wants the next notice (2.7.7, 2.7.10). After saying so it must look once more, and the fences are for that.
final class Virtqueue {
  struct State: Codable, Equatable, Sendable {
    /// Descriptors; a power of two.
    var size: UInt16
    var isEnabled = false
    /// Guest-physical addresses of the three areas.
    var descriptors: UInt64 = 0
    var available: UInt64 = 0
    var used: UInt64 = 0
    /// Entry in the table of messages for this queue's interrupts.
    var vector = UInt16.max
    /// The next entry to take from the available ring, and the next to write of the used ring.
    var nextAvailable: UInt16 = 0
    var nextUsed: UInt16 = 0
    /// Entries of the used ring up to which an interrupt was considered.
    var signalled: UInt16 = 0
  }

  /// Offsets in an entry of the descriptor table, and its flags (2.7.5).
  private enum Descriptor {
    static let size = 16
    static let count = 8
    static let flags = 12
    static let next = 14
    static let hasNext: UInt16 = 1
    static let isWritable: UInt16 = 2
    static let isIndirect: UInt16 = 4
  }

  /// Flags of the available ring and of the used ring: no notices, please.
  private static let noNotices: UInt16 = 1
  /// Entries that a table of indirect descriptors may have.
  private static let indirectLimit = 1024
  /// Bytes of a whole chain (2.7.4.2).
  private static let byteLimit: UInt64 = 1 << 32

  let number: Int
  let maximumSize: UInt16
  private let memory: GuestMemory
  private(set) var state: State
  /// Whether the event index was negotiated.
  var usesEventIndex = false

  /// Set while the queue is enabled and its areas are RAM. Aligned as 2.7 demands.
  private var descriptorTable: UnsafeRawPointer?
  private var availableRing: UnsafeRawPointer?
  private var usedRing: UnsafeMutableRawPointer?

  init(number: Int, maximumSize: UInt16, memory: GuestMemory) {
    precondition(maximumSize.nonzeroBitCount == 1, "a split queue has a power of two of descriptors")
    self.number = number
    self.maximumSize = maximumSize
    self.memory = memory
    state = State(size: maximumSize)
  }

  // MARK: Setting up

  func reset() {
    state = State(size: maximumSize)
    disable()
  }

  /// What the driver says of a queue that is not enabled yet.
  func configure(_ change: (inout State) -> Void) {
    guard !state.isEnabled else { return }
    change(&state)
  }

  /// The number is not the queue's to judge.
  func setVector(_ vector: UInt16) { state.vector = vector }

  func enable() throws(VirtqueueFault) {
    guard !state.isEnabled else { return }
    state.isEnabled = true
    try locate()
  }

  func disable() {
    state.isEnabled = false
    descriptorTable = nil
    availableRing = nil
    usedRing = nil
  }

  /// Takes a saved state over.
  func restore(_ state: State) throws(VirtqueueFault) {
    disable()
    self.state = state
    if state.isEnabled { try locate() }
  }

  /// Finds the areas.
  private func locate() throws(VirtqueueFault) {
    let size = UInt64(state.size)
    guard state.size.nonzeroBitCount == 1, state.size <= maximumSize else {
      throw VirtqueueFault("queue \(number) is to have \(state.size) descriptors")
    }
    guard state.descriptors % 16 == 0, state.available % 2 == 0, state.used % 4 == 0,
      let descriptors = memory.hostRange(GuestPhysicalAddress(state.descriptors), count: 16 * size),
      let available = memory.hostRange(GuestPhysicalAddress(state.available), count: 6 + 2 * size),
      let used = memory.hostRange(GuestPhysicalAddress(state.used), count: 6 + 8 * size)
    else { throw VirtqueueFault("the areas of queue \(number) are not in RAM, or not aligned") }
    descriptorTable = UnsafeRawPointer(descriptors)
    availableRing = UnsafeRawPointer(available)
    usedRing = used
  }

  // MARK: Taking chains

  private var availableIndex: UInt16 { availableRing?.load(fromByteOffset: 2, as: UInt16.self) ?? state.nextAvailable }

  /// Whether the driver has handed anything over.
  var hasChain: Bool { availableIndex != state.nextAvailable }

  /// The next chain that the driver has handed over; nil: there is none.
  func take(era: UInt64) throws(VirtqueueFault) -> VirtioChain? {
    guard let table = descriptorTable, let ring = availableRing else { return nil }
    let count = availableIndex &- state.nextAvailable
    guard count > 0 else { return nil }
    guard count <= state.size else { throw VirtqueueFault("queue \(number) has \(count) chains available") }
    hostFence()
    let slot = Int(state.nextAvailable & (state.size - 1))
    let head = ring.load(fromByteOffset: 4 + 2 * slot, as: UInt16.self)
    guard head < state.size else { throw VirtqueueFault("queue \(number) has no descriptor \(head)") }
    let chain = try follow(head, in: table, era: era)
    state.nextAvailable &+= 1
    return chain
  }

  private func follow(_ head: UInt16, in table: UnsafeRawPointer, era: UInt64) throws(VirtqueueFault) -> VirtioChain {
    var table = table
    var limit = Int(state.size)
    var index = Int(head)
    var isIndirect = false
    var remaining = limit
    var segments: [VirtioChain.Segment] = []
    var readableCount = 0
    var total: UInt64 = 0
    while true {
      guard index < limit else { throw VirtqueueFault("queue \(number): a chain leads to descriptor \(index)") }
      guard remaining > 0 else { throw VirtqueueFault("queue \(number): a chain has no end") }
      remaining -= 1
      let entry = table + index * Descriptor.size
      let address = GuestPhysicalAddress(entry.loadUnaligned(as: UInt64.self))
      let count = UInt64(entry.loadUnaligned(fromByteOffset: Descriptor.count, as: UInt32.self))
      let flags = entry.loadUnaligned(fromByteOffset: Descriptor.flags, as: UInt16.self)
      let next = Int(entry.loadUnaligned(fromByteOffset: Descriptor.next, as: UInt16.self))

      if flags & Descriptor.isIndirect != 0 {
        guard !isIndirect, flags & Descriptor.hasNext == 0, count > 0, count % UInt64(Descriptor.size) == 0,
          count / UInt64(Descriptor.size) <= UInt64(Self.indirectLimit),
          let indirect = memory.hostRange(address, count: count)
        else { throw VirtqueueFault("queue \(number): a bad table of indirect descriptors") }
        isIndirect = true
        table = UnsafeRawPointer(indirect)
        limit = Int(count) / Descriptor.size
        remaining = limit
        index = 0
        continue
      }
      if count > 0 {
        let isWritable = flags & Descriptor.isWritable != 0
        guard isWritable ? memory.contains(address, count: count) : memory.isReadable(address, count: count) else {
          throw VirtqueueFault("queue \(number): \(count) bytes at \(address) are not RAM")
        }
        guard isWritable || readableCount == segments.count else {
          throw VirtqueueFault("queue \(number): a chain has data for the device behind room for its answer")
        }
        total += count
        guard total <= Self.byteLimit else { throw VirtqueueFault("queue \(number): a chain is longer than 4 GiB") }
        segments.append(VirtioChain.Segment(address: address, count: count))
        if !isWritable { readableCount += 1 }
      }
      guard flags & Descriptor.hasNext != 0 else { break }
      index = next
    }
    return VirtioChain(queue: number, head: head, era: era, segments: segments, readableCount: readableCount)
  }

  // MARK: Handing chains back

  /// The driver's buffer is its own again, with `written` bytes of the device's in it.
  func giveBack(_ head: UInt16, written: UInt64) {
    guard let usedRing else { return }
    let slot = Int(state.nextUsed & (state.size - 1))
    let entry = usedRing + 4 + 8 * slot
    entry.storeBytes(of: UInt32(head), as: UInt32.self)
    entry.storeBytes(of: UInt32(clamping: written), toByteOffset: 4, as: UInt32.self)
    state.nextUsed &+= 1
    // The entry before the index that announces it.
    hostFence()
    usedRing.storeBytes(of: state.nextUsed, toByteOffset: 2, as: UInt16.self)
    memory.noteWrite(GuestPhysicalAddress(state.used), count: 4)
    memory.noteWrite(GuestPhysicalAddress(state.used &+ UInt64(4 + 8 * slot)), count: 8)
  }

  /// Whether the driver wants an interrupt for what it was given back since the last call.
  func takeSignal() -> Bool {
    guard let availableRing, state.signalled != state.nextUsed else { return false }
    let old = state.signalled
    state.signalled = state.nextUsed
    hostFence()
    guard usesEventIndex else { return availableRing.load(as: UInt16.self) & Self.noNotices == 0 }
    let event = availableRing.load(fromByteOffset: 4 + 2 * Int(state.size), as: UInt16.self)
    return state.nextUsed &- event &- 1 < state.nextUsed &- old
  }

  // MARK: The driver's notices

  /// Notices are not needed for now: the device looks by itself.
  func declineNotices() {
    // With the event index the driver is silent once it has passed the index.
    if !usesEventIndex { setUsedFlags(Self.noNotices) }
  }

  /// Asks for a notice of the next chain. True: there is one already, and no notice may come for it.
  func requestNotices() -> Bool {
    guard let usedRing else { return false }
    if usesEventIndex {
      let offset = 4 + 8 * Int(state.size)
      usedRing.storeBytes(of: state.nextAvailable, toByteOffset: offset, as: UInt16.self)
      memory.noteWrite(GuestPhysicalAddress(state.used &+ UInt64(offset)), count: 2)
    } else {
      setUsedFlags(0)
    }
    hostFence()
    return hasChain
  }

  private func setUsedFlags(_ flags: UInt16) {
    guard let usedRing else { return }
    usedRing.storeBytes(of: flags, as: UInt16.self)
    memory.noteWrite(GuestPhysicalAddress(state.used), count: 2)
  }
}
