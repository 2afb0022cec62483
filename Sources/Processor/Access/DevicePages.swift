import CHost
import Memory
import X86

/// Where pages that are not RAM are found: beside the software TLB, which has RAM alone, what saves the walk to a device's
/// registers. An entry lives as long as those of the TLB table that it was found under, and no longer than until anything is
/// taken from any.
struct DevicePages {
  private struct Entry {
    /// The TLB table of address space and rights; nil: nothing is known.
    var table: UnsafeMutablePointer<TLBEntry>?
    /// `TranslationCache.lossCount` then.
    var lossCount: UInt64 = 0
    var page: UInt64 = 0
    var physicalPage: UInt64 = 0
    var isWritable = false
  }

  private let entries: UnsafeMutablePointer<Entry>
  /// A machine has more pages of devices, but a driver uses few at a time.
  private static let count = 16

  init() {
    entries = .allocate(capacity: Self.count)
    entries.initialize(repeating: Entry(), count: Self.count)
  }

  func deallocate() { entries.deallocate() }

  @inline(__always) private static func index(of address: UInt64) -> Int {
    Int(truncatingIfNeeded: (address &>> 12) & UInt64(count - 1))
  }

  /// Remembers a page that was found for an access under `table`.
  func insert(
    _ address: UInt64, _ physical: GuestPhysicalAddress, isWritable: Bool, table: UnsafeMutablePointer<TLBEntry>,
    lossCount: UInt64
  ) {
    entries[Self.index(of: address)] = Entry(
      table: table, lossCount: lossCount, page: address & ~0xfff, physicalPage: physical.rawValue & ~0xfff,
      isWritable: isWritable)
  }

  /// Where a linear address leads, if its page is known, and known to be writable if `isWrite`.
  @inline(__always)
  func physical(
    _ address: UInt64, isWrite: Bool, table: UnsafeMutablePointer<TLBEntry>?, lossCount: UInt64
  ) -> GuestPhysicalAddress? {
    let entry = entries[Self.index(of: address)]
    guard entry.page == address & ~0xfff, entry.lossCount == lossCount, let known = entry.table, known == table,
      entry.isWritable || !isWrite
    else { return nil }
    return GuestPhysicalAddress(entry.physicalPage | address & 0xfff)
  }
}
