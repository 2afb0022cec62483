import CHost

/// Slots of address spaces that are not in use: when one is again, it goes on with what it had, unless entries of a TLB were
/// taken away meanwhile. Systems go back and forth between few address spaces, and filling all slots anew costs more than
/// copying them.
final class SlotStore {
  private typealias Slots = UnsafeMutablePointer<PageSlot>

  private static let count = Int(PageSlotCount)
  /// For each set and address space, one set of slots, and of what epoch they are.
  private let slots: UnsafeMutablePointer<PageSlot>
  private var epochs: [UInt64]

  init() {
    slots = .allocate(capacity: 2 * TranslationCache.spaceCount * Self.count)
    slots.initialize(repeating: PageSlot(), count: 2 * TranslationCache.spaceCount * Self.count)
    epochs = Array(repeating: ~0, count: 2 * TranslationCache.spaceCount)
  }

  deinit { slots.deallocate() }

  /// Puts a set's slots aside and brings those of the table `new`, or empties them.
  ///
  /// - Parameter space: the address space that a table is of; nil where slots have had other rights (STAC).
  func exchange(
    _ set: Int, of frame: UnsafeMutablePointer<TranslationFrame>,
    from space: (UnsafeMutablePointer<TLBEntry>) -> Int?, to new: UnsafeMutablePointer<TLBEntry>, epoch: UInt64
  ) {
    let raw = UnsafeMutableRawPointer(frame) + FrameOffset.set(set, 0)
    let header = raw.assumingMemoryBound(to: PageSlots.self)
    let current = (UnsafeMutableRawPointer(frame) + FrameOffset.slot(set, 0)).assumingMemoryBound(to: PageSlot.self)
    if header.pointee.epoch == epoch, let old = header.pointee.tlb, let number = space(old) {
      place(set, number).update(from: current, count: Self.count)
      epochs[set * TranslationCache.spaceCount + number] = epoch
    }
    if let number = space(new), epochs[set * TranslationCache.spaceCount + number] == epoch {
      current.update(from: place(set, number), count: Self.count)
      header.pointee.isListed = 0
    } else {
      current.update(repeating: frame.pointee.emptySlot, count: Self.count)
      header.pointee.isListed = 1
    }
    header.pointee.epoch = epoch
    header.pointee.tlb = new
    header.pointee.filledCount = 0
    header.pointee.keptCount = 0
  }

  private func place(_ set: Int, _ space: Int) -> Slots {
    slots + (set * TranslationCache.spaceCount + space) * Self.count
  }
}
