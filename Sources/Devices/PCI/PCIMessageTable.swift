/// The table of a function's message-signalled interrupts and the bits of those that wait (PCI Local Bus Specification 3.0,
/// 6.8.2, "MSI-X"). One page: entries of 16 bytes from offset 0 on, pending bits behind them.
struct PCIMessageTable {
  struct Entry: Codable, Equatable, Sendable {
    var address: UInt64 = 0
    var data: UInt32 = 0
    /// Bit 0 masks.
    var control: UInt32 = 1

    var isMasked: Bool { control & 1 != 0 }
  }

  struct State: Codable, Equatable, Sendable {
    var entries: [Entry]
    var pending: [Bool]
  }

  static let size: UInt64 = 4096
  static let pendingOffset: UInt64 = 2048

  private var entries: [Entry]
  private var pending: [Bool]

  init(count: Int) {
    entries = [Entry](repeating: Entry(), count: count)
    pending = [Bool](repeating: false, count: count)
  }

  mutating func reset() { self = PCIMessageTable(count: entries.count) }

  func save() -> State { State(entries: entries, pending: pending) }

  mutating func restore(_ state: State) {
    entries = state.entries.resized(to: entries.count, with: Entry())
    pending = state.pending.resized(to: entries.count, with: false)
  }

  /// The message of entry `vector`, to be sent now; nil, and remembered, while it or the whole function is masked.
  mutating func signal(_ vector: Int, isMasked: Bool) -> Entry? {
    guard entries.indices.contains(vector) else { return nil }
    guard !isMasked, !entries[vector].isMasked else {
      pending[vector] = true
      return nil
    }
    return entries[vector]
  }

  /// Those that waited and are masked no more.
  mutating func takePending(isMasked: Bool) -> [Entry] {
    guard !isMasked, pending.contains(true) else { return [] }
    var ready: [Entry] = []
    for vector in entries.indices where pending[vector] && !entries[vector].isMasked {
      pending[vector] = false
      ready.append(entries[vector])
    }
    return ready
  }

  /// Accesses have 4 or 8 bytes, aligned; others read all ones (6.8.2).
  func read(offset: UInt64, size: Int) -> UInt64 {
    guard isAligned(offset, size) else { return .max }
    return size == 8 ? UInt64(word(offset)) | UInt64(word(offset &+ 4)) << 32 : UInt64(word(offset))
  }

  mutating func write(offset: UInt64, size: Int, value: UInt64) {
    guard isAligned(offset, size) else { return }
    setWord(offset, UInt32(truncatingIfNeeded: value))
    if size == 8 { setWord(offset &+ 4, UInt32(truncatingIfNeeded: value >> 32)) }
  }

  private func isAligned(_ offset: UInt64, _ size: Int) -> Bool {
    (size == 4 || size == 8) && offset & UInt64(size - 1) == 0 && offset < Self.size
  }

  private func word(_ offset: UInt64) -> UInt32 {
    let index = Int(offset >> 4)
    guard index >= entries.count else {
      let entry = entries[index]
      return switch offset & 0xc {
      case 0: UInt32(truncatingIfNeeded: entry.address)
      case 4: UInt32(truncatingIfNeeded: entry.address >> 32)
      case 8: entry.data
      default: entry.control
      }
    }
    guard offset >= Self.pendingOffset else { return 0 }
    let first = Int(offset - Self.pendingOffset) * 8
    return (0..<32).reduce(0) { bits, bit in
      pending.indices.contains(first + bit) && pending[first + bit] ? bits | 1 << UInt32(bit) : bits
    }
  }

  private mutating func setWord(_ offset: UInt64, _ value: UInt32) {
    let index = Int(offset >> 4)
    guard index < entries.count else { return }
    switch offset & 0xc {
    case 0: entries[index].address = entries[index].address & ~0xffff_ffff | UInt64(value & ~3)
    case 4: entries[index].address = entries[index].address & 0xffff_ffff | UInt64(value) << 32
    case 8: entries[index].data = value
    default: entries[index].control = value & 1
    }
  }
}
