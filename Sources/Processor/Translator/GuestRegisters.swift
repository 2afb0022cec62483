import CHost

/// Where the guest's general registers are while translated code runs.
///
/// Twelve of the sixteen have a host register, most of them their namesake, so that instructions keep their bytes and
/// shifts by CL and products in RDX their implicit operands. RAX, whose high byte LAHF fills, and R11 are the
/// translator's own; R15 counts instructions; RSP is the host's stack.
enum GuestRegisters {
  static let rax = 0
  static let rcx = 1
  static let rdx = 2
  static let rsp = 4

  /// Temporaries of generated code.
  static let first = HostRegister.rax
  static let second = HostRegister.r11
  /// Instructions that may still run in this slice.
  static let budget = HostRegister.r15

  private static let hosts: [Int8] = [10, 1, 2, 3, 14, 5, 6, 7, 8, 9, -1, -1, 12, 13, -1, -1]

  /// The host register of a guest register; nil: it is in the frame.
  static func host(_ guest: Int) -> Int? {
    let number = hosts[guest]
    return number < 0 ? nil : Int(number)
  }

  /// Pairs of guest and host registers.
  static let mapped: [(guest: Int, host: Int)] = (0..<16).compactMap { guest in host(guest).map { (guest, $0) } }
  static let homeless: [Int] = (0..<16).filter { host($0) == nil }

  /// The frame field of a guest register without a host register.
  static func home(_ guest: Int) -> HostOperand { .frame(FrameOffset.homes + (guest - 8) * 8) }

  /// Where the contents of the host register are that has been lent to a guest register without one.
  static func lent(_ guest: Int) -> HostOperand { .frame(FrameOffset.lent + (guest - 8) * 8) }
}

/// Byte offsets in `TranslationFrame`.
enum FrameOffset {
  static let flags = offset(\.flags)
  static let codePage = offset(\.codePage)
  static let cpu = offset(\.cpu)
  static let hostStack = offset(\.hostStack)
  static let reserve = offset(\.reserve)
  static let attention = offset(\.attention)
  static let blockCache = offset(\.blockCache)
  static let target = offset(\.target)
  static let nextCodePage = offset(\.nextCodePage)
  static let linkStamp = offset(\.linkStamp)
  static let globalLinkStamp = offset(\.globalLinkStamp)
  static let lookUpsLeft = offset(\.lookUpsLeft)
  static let vectorsAreLoaded = offset(\.vectorsAreLoaded)
  static let record = offset(\.record)
  static let translatedCount = offset(\.translatedCount)
  static let homes = offset(\.homes)
  static let lent = offset(\.lent)
  static let scratch = offset(\.scratch)
  static let dynamicRecord = offset(\.dynamicRecord)
  private static let interruptFrame = offset(\.interruptFrame)
  private static let knownReturns = offset(\.knownReturns)
  static let emptySlot = offset(\.emptySlot)
  private static let sets = offset(\.sets)
  private static let segments = offset(\.segments)
  static let leaveCounts = offset(\.leaveCounts)

  /// A field of the bounds of a segment register.
  static func segment(_ number: Int, _ field: PartialKeyPath<SegmentBounds>) -> Int {
    segments + number * MemoryLayout<SegmentBounds>.stride + MemoryLayout<SegmentBounds>.offset(of: field)!
  }

  static func interruptFrame(_ field: PartialKeyPath<InterruptFrame>) -> Int {
    interruptFrame + MemoryLayout<InterruptFrame>.offset(of: field)!
  }

  /// See `TranslationFrame.knownReturns`.
  static func knownReturn(_ number: Int) -> Int { knownReturns + number * MemoryLayout<KnownReturn>.stride }

  /// A field of the slots of code at CPL 0 (0) or above (1).
  static func set(_ number: Int, _ field: Int) -> Int { sets + number * MemoryLayout<PageSlots>.stride + field }
  static func slot(_ set: Int, _ number: Int) -> Int {
    self.set(set, MemoryLayout<PageSlots>.offset(of: \.slots)!) + number * MemoryLayout<PageSlot>.stride
  }

  private static func offset<T>(_ field: KeyPath<TranslationFrame, T>) -> Int {
    guard let offset = MemoryLayout<TranslationFrame>.offset(of: field) else {
      preconditionFailure("TranslationFrame's fields are stored")
    }
    return offset
  }
}
