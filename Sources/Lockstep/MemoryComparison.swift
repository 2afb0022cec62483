import Glibc
import Memory
import X86

/// Two memories' RAM, compared in the pages that were written.
struct MemoryComparison {
  /// Eight bytes that are not the same.
  struct Difference {
    var address: GuestPhysicalAddress
    var first: UInt64
    var second: UInt64
  }

  /// How many pages were looked at.
  private(set) var pages = 0
  /// The first of all.
  private(set) var difference: Difference?
  /// How many pages differ.
  private(set) var differingPages = 0

  /// Of two memories of one size.
  init(_ first: GuestMemory, _ second: GuestMemory) {
    for page in 0..<Int(first.size >> 12) where first.dirty[page] | second.dirty[page] != 0 {
      pages += 1
      let (ours, theirs) = (first.base + page << 12, second.base + page << 12)
      guard memcmp(ours, theirs, 4096) != 0 else { continue }
      differingPages += 1
      guard difference == nil else { continue }
      for offset in stride(from: 0, to: 4096, by: 8) {
        let one = ours.load(fromByteOffset: offset, as: UInt64.self)
        let other = theirs.load(fromByteOffset: offset, as: UInt64.self)
        guard one != other else { continue }
        difference = Difference(
          address: first.address(atOffset: UInt64(page << 12 + offset)), first: one, second: other)
        break
      }
    }
  }
}
