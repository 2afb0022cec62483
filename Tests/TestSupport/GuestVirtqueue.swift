import Memory
import X86

/// The driver's side of a split virtqueue in guest memory, as small as it can be: each chain has descriptors of its own,
/// and everything can be spoiled by hand.
public final class GuestVirtqueue {
  /// A piece of a chain.
  public struct Piece {
    public var address: UInt64
    public var count: UInt32
    public var isWritable: Bool

    public init(_ address: UInt64, _ count: UInt32, isWritable: Bool = false) {
      self.address = address
      self.count = count
      self.isWritable = isWritable
    }
  }

  public let size: Int
  public let descriptors: UInt64
  public let available: UInt64
  public let used: UInt64
  private let memory: GuestMemory
  private var nextDescriptor = 0
  private var nextAvailable: UInt16 = 0
  private var nextUsed: UInt16 = 0

  /// Lays a queue out from `base` on, which takes three pages and more.
  public init(size: Int, at base: UInt64, in memory: GuestMemory) {
    self.size = size
    self.memory = memory
    descriptors = base
    available = base + UInt64(16 * size)
    used = (available + UInt64(6 + 2 * size) + 4095) & ~4095
  }

  public func store<T: BitwiseCopyable>(_ value: T, at address: UInt64) {
    precondition(memory.store(value, at: GuestPhysicalAddress(address)), "a test writes outside of RAM")
  }

  public func load<T: BitwiseCopyable>(_ address: UInt64, as type: T.Type = T.self) -> T {
    memory.load(GuestPhysicalAddress(address), as: type)!
  }

  /// Writes a descriptor.
  public func describe(
    _ index: Int, _ address: UInt64, _ count: UInt32, flags: UInt16, next: UInt16 = 0, table: UInt64? = nil
  ) {
    let entry = (table ?? descriptors) + UInt64(16 * index)
    store(address, at: entry)
    store(count, at: entry + 8)
    store(flags, at: entry + 12)
    store(next, at: entry + 14)
  }

  /// Makes a chain of the next free descriptors, and hands it over. Returns its head.
  @discardableResult
  public func offer(_ pieces: [Piece]) -> UInt16 {
    let first = nextDescriptor
    for (index, piece) in pieces.enumerated() {
      let isLast = index == pieces.count - 1
      let next = (nextDescriptor + 1) % size
      describe(
        nextDescriptor, piece.address, piece.count, flags: (piece.isWritable ? 2 : 0) | (isLast ? 0 : 1),
        next: UInt16(next))
      nextDescriptor = next
    }
    offer(head: UInt16(first))
    return UInt16(first)
  }

  /// Hands the chain that begins at a descriptor over.
  public func offer(head: UInt16) {
    store(head, at: available + 4 + 2 * UInt64(Int(nextAvailable) % size))
    nextAvailable &+= 1
    store(nextAvailable, at: available + 2)
  }

  /// What the device has given back since the last call: heads and bytes written.
  public func takeUsed() -> [(head: UInt16, written: UInt32)] {
    var result: [(head: UInt16, written: UInt32)] = []
    let index: UInt16 = load(used + 2)
    while nextUsed != index {
      let entry = used + 4 + 8 * UInt64(Int(nextUsed) % size)
      result.append((UInt16(truncatingIfNeeded: load(entry, as: UInt32.self)), load(entry + 4)))
      nextUsed &+= 1
    }
    return result
  }

  /// The index at which the driver wants its next interrupt (with the event index).
  public func setUsedEvent(_ index: UInt16) { store(index, at: available + 4 + 2 * UInt64(size)) }

  /// The index at which the device wants its next notice.
  public var availableEvent: UInt16 { load(used + 4 + 8 * UInt64(size)) }

  /// No interrupts, please (without the event index).
  public func setFlags(_ flags: UInt16) { store(flags, at: available) }
}
