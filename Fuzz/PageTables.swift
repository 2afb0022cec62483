import Memory
import TestSupport
import X86

/// Builds a guest's page tables, from `Layout.tables` on.
struct PageTables {
  enum Flag {
    static let present: UInt64 = 1
    static let writable: UInt64 = 2
    static let user: UInt64 = 4
    static let large: UInt64 = 0x80
    static let global: UInt64 = 0x100
    static let noExecute: UInt64 = 1 << 63
  }

  let root: UInt64
  private let memory: GuestMemory
  private let shifts: [UInt64]
  private let entrySize: Int
  private let isPAE: Bool
  private(set) var end: UInt64

  /// Nil without paging.
  init?(_ paging: GuestMode.Paging, _ memory: GuestMemory) {
    switch paging {
    case .none: return nil
    case .twoLevel: shifts = [22, 12]
    case .pae: shifts = [30, 21, 12]
    case .fourLevel: shifts = [39, 30, 21, 12]
    case .fiveLevel: shifts = [48, 39, 30, 21, 12]
    }
    self.memory = memory
    isPAE = paging == .pae
    entrySize = paging == .twoLevel ? 4 : 8
    root = Layout.tables
    end = Layout.tables + 0x1000
  }

  private func location(_ table: UInt64, _ linear: UInt64, _ shift: UInt64) -> UInt64 {
    let mask: UInt64 = entrySize == 4 ? 0x3ff : 0x1ff
    return table + (linear >> shift & mask) * UInt64(entrySize)
  }

  private func load(_ address: UInt64) -> UInt64 {
    let address = GuestPhysicalAddress(address)
    return entrySize == 4
      ? UInt64(memory.load(address, as: UInt32.self) ?? 0) : memory.load(address, as: UInt64.self) ?? 0
  }

  private func store(_ value: UInt64, at address: UInt64) {
    let address = GuestPhysicalAddress(address)
    _ =
      entrySize == 4
      ? memory.store(UInt32(truncatingIfNeeded: value), at: address) : memory.store(value, at: address)
  }

  /// Maps one page, or with `isLarge` one of the next size.
  mutating func map(_ linear: UInt64, to physical: UInt64, _ flags: UInt64, isLarge: Bool = false) {
    var table = root
    let last = shifts.count - (isLarge ? 2 : 1)
    for level in 0..<last {
      let place = location(table, linear, shifts[level])
      var entry = load(place)
      if entry & Flag.present == 0 {
        guard end + 0x1000 <= Layout.memorySize else { return }
        entry = end | Flag.present | (isPAE && level == 0 ? 0 : Flag.writable | Flag.user)
        end += 0x1000
        store(entry, at: place)
      } else if entry & Flag.large != 0, level > 0 || entrySize == 4 {
        return
      }
      table = entry & 0x000f_ffff_ffff_f000
    }
    store(physical | flags | (isLarge ? Flag.large : 0), at: location(table, linear, shifts[last]))
  }

  /// Puts entries of all kinds of wrongness into the tables: that point to tables, to devices, beyond memory, with
  /// reserved bits.
  func disturb(_ random: inout SeededRandom) {
    for _ in 0..<1 + random.below(12) {
      let size = UInt64(entrySize)
      let place = root + random.next() % ((end - root) / size) * size
      let value: UInt64 =
        switch random.below(6) {
        case 0: root | 7
        case 1: root + random.next() % (end - root) & ~0xfff | 0x67
        case 2: Layout.device | 7
        case 3: random.next() & 0xffff_ffff_f000 | 7
        case 4: load(place) ^ 1 << (random.next() % (size * 8))
        default: random.next()
        }
      store(value, at: place)
    }
  }
}
