/// What answers on one guest-physical page below 4 GiB. All zeros: RAM as far as it reaches, and nothing beyond.
@usableFromInline struct PageMapping: Equatable, Sendable {
  /// Who answers which accesses.
  enum Rights {
    /// The page of the mapping answers reads; writes go to the bus.
    case readOnly
    /// The page answers both.
    case readWrite
    /// The page answers reads, and writes go to the RAM that would be here.
    case writesRAM
    /// Nothing answers reads, and writes go to the RAM that would be here.
    case onlyWritesRAM
    /// Nothing answers: all accesses go to the bus.
    case none
  }

  private static let isSet: UInt32 = 1 << 31
  private static let reads: UInt32 = 1 << 30
  private static let writes: UInt32 = 1 << 29
  private static let ramWrites: UInt32 = 1 << 28
  private static let pageMask: UInt32 = 1 << 28 - 1

  @usableFromInline let bits: UInt32

  /// RAM as ever.
  static let ram = PageMapping(bits: 0)

  private init(bits: UInt32) { self.bits = bits }

  /// `page` is the number of a page of the mapping, below 2^28.
  init(page: UInt64, _ rights: Rights) {
    let number = UInt32(truncatingIfNeeded: page) & Self.pageMask
    let access: UInt32 =
      switch rights {
      case .readOnly: Self.reads
      case .readWrite: Self.reads | Self.writes
      case .writesRAM: Self.reads | Self.ramWrites
      case .onlyWritesRAM: Self.ramWrites
      case .none: 0
      }
    bits = Self.isSet | access | number
  }

  @usableFromInline var isRAM: Bool { bits == 0 }
  @usableFromInline var writesRAM: Bool { bits & Self.ramWrites != 0 }

  /// Pages of the mapping that answer, as far as they are named here.
  var page: Int? { bits & Self.reads != 0 ? Int(bits & Self.pageMask) : nil }

  /// Offset into the mapping of what a read at `address` finds.
  @usableFromInline func readOffset(_ address: UInt64) -> UInt64? {
    bits & Self.reads != 0 ? UInt64(bits & Self.pageMask) << 12 | address & 0xfff : nil
  }

  /// Offset into the mapping of what a write to `address` changes, if it is the page that is read.
  @usableFromInline func writeOffset(_ address: UInt64) -> UInt64? {
    bits & Self.writes != 0 ? UInt64(bits & Self.pageMask) << 12 | address & 0xfff : nil
  }
}
