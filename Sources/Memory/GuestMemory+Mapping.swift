import X86

// The map of pages: what a chip set and devices put in RAM's place, and take away again while the guest runs. Changes are
// made under the machine lock. Engines hear of each and forget what they have derived from the pages concerned before they
// run their next block; a processor other than the one whose access made the change may do a few accesses more by the old
// map, as on a machine where the change takes its time to arrive.

extension GuestMemory {
  /// A change of the map.
  public struct Remapping: Sendable {
    /// Guest-physical, whole pages.
    public var range: Range<UInt64>
    /// Numbers of the pages of the mapping that have come, or gone.
    public var pages: [Range<Int>]

    /// The whole map, for whoever begins to follow another memory's.
    public static let everything = Remapping(range: 0..<GuestMemory.highBase, pages: [])
  }

  /// A piece of memory that belongs to a device: it answers the guest where `map` puts it.
  public struct DeviceMemory: @unchecked Sendable {
    // The address is good for as long as the memory is, and what is behind it is the device's business.
    /// In the mapping; whole pages.
    public let offset: UInt64
    public let count: UInt64
    /// Host address.
    public let base: UnsafeMutableRawPointer

    /// `count` bytes from `start` on; both are multiples of a page.
    public func part(_ start: UInt64, count: UInt64) -> DeviceMemory {
      precondition((start | count) & 0xfff == 0 && start <= self.count && count <= self.count - start)
      return DeviceMemory(offset: offset + start, count: count, base: base + Int(start))
    }
  }

  /// How reads and writes of a range are answered.
  public enum Answer {
    /// As RAM, or nothing where there is none.
    case ram
    /// Reads by RAM; writes go to the bus.
    case protectedRAM
    /// By the bus.
    case bus
    /// Reads by the bus, writes by RAM.
    case busAndRAM
    /// Reads and writes by device memory.
    case memory(DeviceMemory)
    /// Reads by device memory, writes go to the bus.
    case readOnlyMemory(DeviceMemory)
    /// Reads by device memory, writes by RAM.
    case memoryAndRAM(DeviceMemory)
  }

  static let mapCount = Int(highBase >> 12)

  /// The ROM, as a piece of memory that can answer elsewhere too.
  public var rom: DeviceMemory {
    DeviceMemory(offset: size, count: UInt64(readOnly.count), base: base + Int(size))
  }

  /// Gives a device its memory: `count` bytes, whole pages, of the `deviceMemory` that this one was made with. While the
  /// machine is built.
  public func takeDeviceMemory(_ count: UInt64) -> DeviceMemory {
    precondition(
      count & 0xfff == 0 && count <= deviceMemorySize - deviceMemoryUsed, "more device memory than was asked for")
    let offset = size + UInt64(readOnly.count) + deviceMemoryUsed
    deviceMemoryUsed += count
    return DeviceMemory(offset: offset, count: count, base: base + Int(offset))
  }

  /// Adds somebody who wants to hear of each change. Before anything runs.
  public func observeRemapping(_ observer: @escaping @Sendable (Remapping) -> Void) { remapObservers.append(observer) }

  /// Has a range of whole pages below 4 GiB answered in another way. Device memory must be as large as the range. Under
  /// the machine lock.
  public func map(_ range: Range<UInt64>, to answer: Answer) {
    precondition((range.lowerBound | range.upperBound) & 0xfff == 0 && range.upperBound <= Self.highBase)
    func pages(_ memory: DeviceMemory, _ rights: PageMapping.Rights) -> (UInt64) -> PageMapping {
      precondition(memory.count == UInt64(range.count), "a range is as large as the memory that answers in it")
      return { PageMapping(page: (memory.offset + $0) >> 12, rights) }
    }
    let low = range.lowerBound
    let mapping: (UInt64) -> PageMapping =
      switch answer {
      case .ram: { _ in .ram }
      case .protectedRAM: { PageMapping(page: (low + $0) >> 12, .readOnly) }
      case .bus: { _ in PageMapping(page: 0, .none) }
      case .busAndRAM: { _ in PageMapping(page: 0, .onlyWritesRAM) }
      case .memory(let memory): pages(memory, .readWrite)
      case .readOnlyMemory(let memory): pages(memory, .readOnly)
      case .memoryAndRAM(let memory): pages(memory, .writesRAM)
      }
    var changed = pageNumbers(range)
    guard setPages(range, mapping) else { return }
    changed += pageNumbers(range)
    report(Remapping(range: range, pages: changed))
  }

  /// Whether all of a range below 4 GiB is neither RAM nor mapped to anything.
  public func isFree(_ range: Range<UInt64>) -> Bool {
    range.upperBound <= Self.highBase && range.lowerBound >= min(size, Self.lowLimit)
      && (Int(range.lowerBound >> 12)..<Int((range.upperBound + 0xfff) >> 12)).allSatisfy { pageMap[$0].isRAM }
  }

  /// A device has written to memory of its own, by host address. Under the machine lock.
  public func noteWrite(_ memory: DeviceMemory, at offset: UInt64, count: UInt64) {
    guard count > 0, offset < memory.count, count <= memory.count - offset else { return }
    let pages = Int((memory.offset + offset) >> 12)..<Int((memory.offset + offset + count - 1) >> 12) + 1
    var holdsCode = false
    for page in pages {
      dirty[page] = 1
      holdsCode = holdsCode || attributes[page] & PageAttributes.holdsCode.rawValue != 0
    }
    // It may answer at several addresses; whoever runs code of it looks anew.
    if holdsCode { report(Remapping(range: 0..<0, pages: [pages])) }
  }

  /// Makes a part of the map that of another memory of the same sizes.
  public func takeOver(_ change: Remapping, from other: GuestMemory) {
    setPages(change.range) { other.pageMap[Int((change.range.lowerBound + $0) >> 12)] }
    report(change)
  }

  private func report(_ change: Remapping) {
    for observer in remapObservers { observer(change) }
  }

  /// Sets the pages of a range; `mapping` gets the offset in it. True if any was different.
  @discardableResult
  func setPages(_ range: Range<UInt64>, _ mapping: (UInt64) -> PageMapping) -> Bool {
    var hasChanged = false
    for page in Int(range.lowerBound >> 12)..<Int(range.upperBound >> 12) {
      let new = mapping(UInt64(page) << 12 - range.lowerBound)
      guard pageMap[page] != new else { continue }
      pageMap[page] = new
      hasChanged = true
    }
    return hasChanged
  }

  /// The pages of the mapping behind a range, in runs.
  private func pageNumbers(_ range: Range<UInt64>) -> [Range<Int>] {
    var runs: [Range<Int>] = []
    for page in Int(range.lowerBound >> 12)..<Int(range.upperBound >> 12) {
      let entry = pageMap[page]
      guard let number = entry.isRAM ? (page < Int(min(size, Self.lowLimit) >> 12) ? page : nil) : entry.page else {
        continue
      }
      if let last = runs.last, last.upperBound == number {
        runs[runs.count - 1] = last.lowerBound..<number + 1
      } else {
        runs.append(number..<number + 1)
      }
    }
    return runs
  }

  /// Whether `count` bytes from `address` on lie at ascending offsets without a gap. No wrap-around.
  func isOnePiece(
    _ address: GuestPhysicalAddress, _ count: UInt64, _ offset: (GuestPhysicalAddress) -> UInt64?
  ) -> Bool {
    guard let first = offset(address) else { return false }
    guard count > 1 else { return true }
    let (last, overflow) = address.rawValue.addingReportingOverflow(count - 1)
    guard !overflow, count <= mappedSize else { return false }
    if address.rawValue >= Self.highBase { return offset(GuestPhysicalAddress(last)) != nil }
    guard last < Self.highBase else { return false }
    var page = address.rawValue & ~0xfff
    let start = first & ~0xfff
    while page <= last {
      guard offset(GuestPhysicalAddress(page)) == start + (page - (address.rawValue & ~0xfff)) else { return false }
      page += 4096
    }
    return true
  }
}
