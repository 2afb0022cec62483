import CHost

/// Slots of address spaces that are not in use: when one is again, it goes on with what it had, unless entries of a TLB were
/// taken away meanwhile. Systems go back and forth between few address spaces, and filling all slots anew costs more than
/// copying them.
final class SlotStore {
  private typealias Slots = UnsafeMutablePointer<PageSlot>

  private static let count = Int(PageSlotCount)
  private static let setCount = 2
  /// For each set and address space, one set of slots, and of what epoch they are.
  private let slots: UnsafeMutablePointer<PageSlot>
  private var epochs: [UInt64]

  /// No epoch is this.
  private static let never: UInt64 = ~0

  init() {
    let total = Self.setCount * TranslationCache.spaceCount
    slots = .allocate(capacity: total * Self.count)
    slots.initialize(repeating: PageSlot(), count: total * Self.count)
    epochs = Array(repeating: Self.never, count: total)
  }

  deinit { slots.deallocate() }

  private func place(_ set: Int, _ space: Int) -> Int { set * TranslationCache.spaceCount + space }

  private func header(
    _ set: Int, of frame: UnsafeMutablePointer<TranslationFrame>
  ) -> UnsafeMutablePointer<PageSlots> {
    (UnsafeMutableRawPointer(frame) + FrameOffset.set(set, 0)).assumingMemoryBound(to: PageSlots.self)
  }

  private func current(_ set: Int, of frame: UnsafeMutablePointer<TranslationFrame>) -> Slots {
    (UnsafeMutableRawPointer(frame) + FrameOffset.slot(set, 0)).assumingMemoryBound(to: PageSlot.self)
  }

  /// Puts a set's slots aside and brings those of the table `new`, or empties them. Slots that hold nothing but global pages
  /// are good for another address space, too, and stay.
  func exchange(
    _ set: Int, of frame: UnsafeMutablePointer<TranslationFrame>, _ translations: TranslationCache,
    to new: UnsafeMutablePointer<TLBEntry>, epoch: UInt64
  ) {
    // Slots that have had other rights (STAC) are not put aside.
    let context = set == 0 ? TranslationCache.Context.supervisor : .user
    let header = header(set, of: frame)
    let current = current(set, of: frame)
    let newSpace = translations.space(of: new, context)
    if header.pointee.epoch == epoch, let old = header.pointee.tlb,
      let oldSpace = translations.space(of: old, context)
    {
      if set == 0, let newSpace, !translations.spaces[oldSpace].hasLocalSupervisorPages,
        !translations.spaces[newSpace].hasLocalSupervisorPages
      {
        header.pointee.tlb = new
        return
      }
      let place = place(set, oldSpace)
      (slots + place * Self.count).update(from: current, count: Self.count)
      epochs[place] = epoch
    }
    if let newSpace, epochs[place(set, newSpace)] == epoch {
      current.update(from: slots + place(set, newSpace) * Self.count, count: Self.count)
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

  /// Forgets what is taken from the TLB, with the epoch or before the next code is entered.
  func forget(
    _ loss: TranslationCache.Loss, of translations: TranslationCache, _ frame: UnsafeMutablePointer<TranslationFrame>
  ) {
    switch loss {
    case .all: break
    case .local(let number):
      let space = translations.spaces[number]
      for set in 0..<Self.setCount {
        epochs[place(set, number)] = Self.never
        let header = header(set, of: frame)
        guard let table = header.pointee.tlb, space.tables.holds(table) else { continue }
        if table == space.tables.table(.supervisor), !space.hasLocalSupervisorPages { continue }
        header.pointee.epoch = Self.never
      }
    case .page(let page):
      forgetSlots(of: frame) { $0.readPage == page || $0.writePage == page }
    case .writes(let hostPage):
      forgetSlots(of: frame) { $0.writePage &+ $0.writeAddend == hostPage }
    }
  }

  /// Empties slots that are in use, and forgets all that are not.
  @inline(__always)
  private func forgetSlots(
    of frame: UnsafeMutablePointer<TranslationFrame>, where isLost: (PageSlot) -> Bool
  ) {
    for place in epochs.indices { epochs[place] = Self.never }
    for set in 0..<Self.setCount {
      forEachFilled(set, of: frame) { if isLost($0.pointee) { $0.pointee = frame.pointee.emptySlot } }
    }
  }

  /// All slots of a set that are not empty: those on its list, where it is whole.
  @inline(__always)
  private func forEachFilled(_ set: Int, of frame: UnsafeMutablePointer<TranslationFrame>, _ body: (Slots) -> Void) {
    let current = current(set, of: frame)
    let header = header(set, of: frame)
    let filledCount = header.pointee.filledCount
    guard header.pointee.isListed != 0, filledCount <= UInt64(FilledSlotCapacity) else {
      for number in 0..<Self.count { body(current + number) }
      return
    }
    let filled = (UnsafeMutableRawPointer(frame) + FrameOffset.set(set, SlotSetOffset.filled))
      .assumingMemoryBound(to: Slots.self)
    for number in 0..<Int(filledCount) { body(filled[number]) }
  }
}
