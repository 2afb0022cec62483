import CHost
import Glibc
import X86

/// What is known of one page of guest RAM.
public struct PageAttributes: OptionSet, Sendable {
  public let rawValue: UInt8
  @inlinable public init(rawValue: UInt8) { self.rawValue = rawValue }
  /// An engine holds decoded or translated code of this page: writes must be reported to it.
  @inlinable public static var holdsCode: PageAttributes { PageAttributes(rawValue: 2) }
  /// Somebody wants to know of each write.
  @inlinable public static var watched: PageAttributes { PageAttributes(rawValue: 4) }
}

/// The guest's RAM, its ROM and the memory of its devices: one memfd, mapped once, so that another process can map it too
/// and snapshots can clone it.
///
/// RAM up to `lowLimit` (3 GiB) starts at address 0; what is more continues at 4 GiB, as on a PC. A ROM lies in the hole
/// between; its bytes follow the RAM's in the mapping, and device memory (a display's, flash) follows the ROM's. Where
/// something else than RAM answers below 4 GiB, or RAM does not answer as RAM does, is in a map of pages that can change
/// while the machine runs: see `GuestMemory+Mapping`. The mapping of the file is aligned to 2 MiB and asks for huge pages.
/// What is known of pages is in arrays of bytes beside it: `dirty`, where writers store ones, and `attributes`, which
/// change rarely and under a lock, because a lost bit there would be a missed report.
public final class GuestMemory: @unchecked Sendable {
  public enum Failure: Error, CustomStringConvertible {
    case size(UInt64, limit: UInt64)
    case readOnly(Range<UInt64>)
    case host(call: String, errno: Int32, size: UInt64)

    public var description: String {
      switch self {
      case .size(let size, let limit):
        "a guest memory of \(size) bytes is not possible: give a multiple of 4096 from 1 MiB to \(limit) bytes"
      case .readOnly(let range):
        "a ROM at 0x\(String(range.lowerBound, radix: 16)) to 0x\(String(range.upperBound, radix: 16)) is not possible: "
          + "it takes whole pages of 4096 bytes between 3 and 4 GiB"
      case .host(let call, let errno, let size):
        "the host could not provide \(size >> 20) MiB of guest memory (\(call): \(String(cString: strerror(errno))))"
      }
    }
  }

  /// Where low RAM ends and the hole for devices begins.
  public static let lowLimit: UInt64 = 3 << 30
  /// Where RAM beyond `lowLimit` continues.
  public static let highBase: UInt64 = 4 << 30

  /// Bytes of RAM.
  public let size: UInt64
  /// Where the ROM is; empty: there is none.
  public let readOnly: Range<UInt64>
  /// Bytes of device memory, for `takeDeviceMemory`.
  public let deviceMemorySize: UInt64
  /// Bytes of RAM, ROM and device memory.
  public let mappedSize: UInt64
  /// The host address space that all of it is in.
  private let reservation: UnsafeMutableRawBufferPointer
  /// The memfd.
  public let descriptor: Int32
  /// Host address of the first byte; RAM is contiguous here, and ROM follows it.
  public let base: UnsafeMutableRawPointer
  /// One `PageAttributes` byte for each page, in host order. Changed under the lock of whoever grants the attribute.
  public let attributes: UnsafeMutablePointer<UInt8>
  /// One byte for each page: not zero if it was written since somebody cleared it.
  public let dirty: UnsafeMutablePointer<UInt8>
  /// Contents that are brought when they are first wanted; nil: all are there.
  @usableFromInline var deferred: DeferredContents?
  /// Called with a guest-physical range when a page that holds code, or is watched, was written by somebody other than
  /// the engine (a device's DMA, a debugger). Set by the virtual machine before anything runs.
  public var onProtectedWrite: (@Sendable (Range<UInt64>) -> Void)?
  /// Called with each guest-physical range that somebody other than an engine has written, on the writer's thread. For
  /// whoever keeps a copy; set before anything runs.
  public var onOutsideWrite: (@Sendable (Range<UInt64>) -> Void)?
  /// Called after the map of pages has changed. Set before anything runs.
  var remapObservers: [@Sendable (Remapping) -> Void] = []

  /// What answers on the pages of the low 4 GiB; zero: RAM as far as it reaches. Single words, written under the machine
  /// lock and read by anybody.
  @usableFromInline let pageMap: UnsafeMutablePointer<PageMapping>
  /// Bytes of device memory that are given away.
  var deviceMemoryUsed: UInt64 = 0

  /// Memory that is all zeros. `readOnly` is where a ROM lies; whoever has its contents puts them there with `install`.
  public init(size: UInt64, readOnly: Range<UInt64> = 0..<0, deviceMemory: UInt64 = 0) throws(Failure) {
    guard size >= 1 << 20, size <= 1 << 40, size & 0xfff == 0 else { throw .size(size, limit: 1 << 40) }
    precondition(deviceMemory & 0xfff == 0 && deviceMemory <= 1 << 32, "device memory is whole pages, and not much")
    guard
      readOnly.isEmpty
        || (readOnly.lowerBound >= Self.lowLimit && readOnly.upperBound <= Self.highBase
          && (readOnly.lowerBound | readOnly.upperBound) & 0xfff == 0)
    else { throw .readOnly(readOnly) }
    let ramSize = size
    let size = size + UInt64(readOnly.count) + deviceMemory
    let alignment: UInt64 = 2 << 20
    let fd = hostMemoryFile("ringside-ram")
    guard fd >= 0 else { throw .host(call: "memfd_create", errno: errno, size: size) }
    guard ftruncate(fd, Int(size)) == 0 else {
      let error = errno
      close(fd)
      throw .host(call: "ftruncate", errno: error, size: size)
    }
    // Reserve with slack, then map the file at the first aligned address of the reservation.
    let reservation = mmap(nil, Int(size + alignment), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)
    guard let reservation, reservation != MAP_FAILED else {
      let error = errno
      close(fd)
      throw .host(call: "mmap", errno: error, size: size)
    }
    let start = (UInt64(UInt(bitPattern: reservation)) + alignment - 1) & ~(alignment - 1)
    let wanted = UnsafeMutableRawPointer(bitPattern: UInt(start))
    guard let mapping = mmap(wanted, Int(size), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0),
      mapping != MAP_FAILED
    else {
      let error = errno
      munmap(reservation, Int(size + alignment))
      close(fd)
      throw .host(call: "mmap", errno: error, size: size)
    }
    madvise(mapping, Int(size), MADV_HUGEPAGE)
    self.size = ramSize
    self.readOnly = readOnly
    deviceMemorySize = deviceMemory
    mappedSize = size
    self.reservation = UnsafeMutableRawBufferPointer(start: reservation, count: Int(size + alignment))
    descriptor = fd
    base = mapping
    // Fresh anonymous memory reads as zero and costs nothing until it is used.
    attributes = calloc(Int(size >> 12), 1).unsafelyUnwrapped.bindMemory(to: UInt8.self, capacity: Int(size >> 12))
    dirty = calloc(Int(size >> 12), 1).unsafelyUnwrapped.bindMemory(to: UInt8.self, capacity: Int(size >> 12))
    pageMap = calloc(Self.mapCount, MemoryLayout<PageMapping>.size).unsafelyUnwrapped
      .bindMemory(to: PageMapping.self, capacity: Self.mapCount)
    setPages(readOnly) { PageMapping(page: (ramSize + $0) >> 12, .readOnly) }
  }

  deinit {
    munmap(reservation.baseAddress, reservation.count)
    close(descriptor)
    free(attributes)
    free(dirty)
    free(pageMap)
  }

  /// Offset into the mapping of what a read of a guest-physical address finds, or nil where there is no memory.
  @inlinable public func offset(of address: GuestPhysicalAddress) -> UInt64? {
    let raw = address.rawValue
    guard raw < Self.highBase else { return highOffset(raw) }
    let entry = pageMap[Int(raw >> 12)]
    guard entry.isRAM else { return entry.readOffset(raw) }
    return raw < min(size, Self.lowLimit) ? raw : nil
  }

  /// Offset into the mapping of what a write to a guest-physical address changes, or nil where it changes no memory.
  @inlinable public func writableOffset(of address: GuestPhysicalAddress) -> UInt64? {
    let raw = address.rawValue
    guard raw < Self.highBase else { return highOffset(raw) }
    let entry = pageMap[Int(raw >> 12)]
    guard entry.isRAM || entry.writesRAM else { return entry.writeOffset(raw) }
    return raw < min(size, Self.lowLimit) ? raw : nil
  }

  @inlinable func highOffset(_ raw: UInt64) -> UInt64? {
    let offset = raw &- Self.highBase &+ Self.lowLimit
    return offset < size ? offset : nil
  }

  /// The guest-physical address of an offset into the mapping that is in RAM or ROM.
  @inlinable public func address(atOffset offset: UInt64) -> GuestPhysicalAddress {
    if offset >= size { return GuestPhysicalAddress(offset &- size &+ readOnly.lowerBound) }
    return GuestPhysicalAddress(offset < Self.lowLimit ? offset : offset &- Self.lowLimit &+ Self.highBase)
  }

  /// Host address of the page that a read of `address` finds, or nil where there is no memory. Valid for reads within
  /// that page; before a write, see `writableHostPage`.
  @inlinable @inline(__always) public func hostPage(of address: GuestPhysicalAddress) -> UnsafeMutableRawPointer? {
    guard let offset = offset(of: address) else { return nil }
    deferred?.bring(offset, count: 1)
    return base + Int(offset & ~0xfff)
  }

  /// Host address of the page that a write to `address` changes; nil where that is no memory. Not always the page that is
  /// read there.
  @inlinable public func writableHostPage(of address: GuestPhysicalAddress) -> UnsafeMutableRawPointer? {
    guard let offset = writableOffset(of: address) else { return nil }
    deferred?.bring(offset, count: 1)
    return base + Int(offset & ~0xfff)
  }

  /// Host address of the page at `address` if reads and writes both go there.
  @inlinable public func plainHostPage(of address: GuestPhysicalAddress) -> UnsafeMutableRawPointer? {
    guard let page = writableHostPage(of: address), page == hostPage(of: address) else { return nil }
    return page
  }

  /// Number of 4 KiB pages of the mapping.
  public var pageCount: Int { Int(mappedSize >> 12) }

  /// The guest-physical ranges that are RAM, in ascending order.
  public var ranges: [Range<UInt64>] {
    let low = 0..<min(size, Self.lowLimit)
    guard size > Self.lowLimit else { return [low] }
    return [low, Self.highBase..<(Self.highBase + size - Self.lowLimit)]
  }

  /// Whether the whole of `count` bytes at `address` can be read and written, in one piece of the mapping.
  public func contains(_ address: GuestPhysicalAddress, count: UInt64) -> Bool {
    isReadable(address, count: count) && isWritable(address, count: count)
      && offset(of: address) == writableOffset(of: address)
  }

  /// Host address of `count` bytes of RAM; nil where not all of it is RAM. Before a write that a guest or its engines
  /// are to see, and after it, see `noteWrite`.
  public func hostRange(_ address: GuestPhysicalAddress, count: UInt64) -> UnsafeMutableRawPointer? {
    guard contains(address, count: count), let offset = offset(of: address) else { return nil }
    deferred?.bring(offset, count: count)
    return base + Int(offset)
  }

  /// Whether the whole of `count` bytes at `address` can be written, in one piece of the mapping.
  public func isWritable(_ address: GuestPhysicalAddress, count: UInt64) -> Bool {
    isOnePiece(address, count, writableOffset)
  }

  /// Whether the whole of `count` bytes at `address` can be read, in one piece of the mapping.
  public func isReadable(_ address: GuestPhysicalAddress, count: UInt64) -> Bool {
    isOnePiece(address, count, offset)
  }

  /// The host's view of `count` bytes at `address`, for somebody who reads or writes there himself; nil where not all of
  /// it is readable, or, for writes, writable. Valid for as long as the memory lives. After writing, see `noteWrite`.
  public func hostBytes(
    _ address: GuestPhysicalAddress, count: UInt64, forWriting: Bool
  ) -> UnsafeMutableRawBufferPointer? {
    guard forWriting ? isWritable(address, count: count) : isReadable(address, count: count),
      let offset = forWriting ? writableOffset(of: address) : offset(of: address)
    else { return nil }
    deferred?.bring(offset, count: count)
    return UnsafeMutableRawBufferPointer(start: base + Int(offset), count: Int(count))
  }

  /// The RAM as a whole, as it lies in the mapping, with all of its contents.
  public var contents: UnsafeRawBufferPointer {
    deferred?.bring(0, count: size)
    return UnsafeRawBufferPointer(start: base, count: Int(size))
  }

  /// From now on the contents of the RAM are `contents`': what it has is brought when it is first wanted. Before anything
  /// runs.
  public func deferContents(_ contents: DeferredContents) { deferred = contents }

  /// Copies guest memory out. False, and nothing copied, where not all of the range is readable.
  public func read(_ address: GuestPhysicalAddress, into buffer: UnsafeMutableRawBufferPointer) -> Bool {
    guard let destination = buffer.baseAddress else { return true }
    guard let source = hostBytes(address, count: UInt64(buffer.count), forWriting: false) else { return false }
    memcpy(destination, source.baseAddress!, buffer.count)
    return true
  }

  /// Copies into guest memory, marks it dirty and reports pages that hold code or are watched. False, and nothing
  /// copied, where not all of the range can be written.
  public func write(_ address: GuestPhysicalAddress, from buffer: UnsafeRawBufferPointer) -> Bool {
    guard let source = buffer.baseAddress else { return true }
    guard let target = hostBytes(address, count: UInt64(buffer.count), forWriting: true) else { return false }
    memcpy(target.baseAddress!, source, buffer.count)
    noteWrite(address, count: UInt64(buffer.count))
    return true
  }

  /// Fills a range with one byte, as `write` would.
  @discardableResult
  public func fill(_ address: GuestPhysicalAddress, count: UInt64, with byte: UInt8) -> Bool {
    guard count > 0 else { return true }
    guard let target = hostBytes(address, count: count, forWriting: true) else { return false }
    memset(target.baseAddress!, Int32(byte), Int(count))
    noteWrite(address, count: count)
    return true
  }

  /// Gives whole pages of RAM back to the host: they read as zeroes from now on, and cost nothing until they are written
  /// again. What is not RAM, and parts of pages, stay as they are.
  public func discard(_ address: GuestPhysicalAddress, count: UInt64) {
    let (end, overflow) = address.rawValue.addingReportingOverflow(count)
    guard !overflow else { return }
    for range in ranges {
      let first = max(address.rawValue &+ 0xfff & ~0xfff, range.lowerBound)
      let last = min(end & ~0xfff, range.upperBound)
      guard first < last, address.rawValue <= first, contains(GuestPhysicalAddress(first), count: last - first),
        let offset = offset(of: GuestPhysicalAddress(first))
      else {
        continue
      }
      // What has not come yet would come later, over the zeroes.
      deferred?.bring(offset, count: last - first)
      // A host that cannot do it keeps the memory, and the guest must not see that.
      if hostPunchHole(descriptor, off_t(offset), off_t(last - first)) != 0 {
        memset(base + Int(offset), 0, Int(last - first))
      }
      noteWrite(GuestPhysicalAddress(first), count: last - first)
    }
  }

  /// Puts a ROM's contents in place, at its end and behind bytes that are all ones if it is shorter than the place for
  /// it. Before anything runs.
  public func install(readOnly contents: [UInt8]) {
    precondition(contents.count <= readOnly.count, "a ROM is larger than the place for it")
    let rom = base + Int(size)
    memset(rom, 0xff, readOnly.count)
    contents.withUnsafeBytes { bytes in
      guard let source = bytes.baseAddress else { return }
      memcpy(rom + readOnly.count - bytes.count, source, bytes.count)
    }
  }

  /// To be called after writing through a host pointer. The range must be writable.
  public func noteWrite(_ address: GuestPhysicalAddress, count: UInt64) {
    guard count > 0, let first = writableOffset(of: address) else { return }
    var isProtected = false
    for page in Int(first >> 12)...Int((first + count - 1) >> 12) {
      isProtected =
        isProtected || attributes[page] & (PageAttributes.holdsCode.rawValue | PageAttributes.watched.rawValue) != 0
      dirty[page] = 1
    }
    let range = address.rawValue..<(address.rawValue + count)
    onOutsideWrite?(range)
    if isProtected { onProtectedWrite?(range) }
  }

  /// Copies out a value of a trivial type, or nil where not all of it is readable.
  public func load<T: BitwiseCopyable>(_ address: GuestPhysicalAddress, as type: T.Type) -> T? {
    let count = UInt64(MemoryLayout<T>.size)
    return hostBytes(address, count: count, forWriting: false)?.loadUnaligned(as: T.self)
  }

  /// Stores a value of a trivial type. False where not all of it can be written.
  public func store<T: BitwiseCopyable>(_ value: T, at address: GuestPhysicalAddress) -> Bool {
    withUnsafeBytes(of: value) { write(address, from: $0) }
  }
}
