import CHost
import Machine
import Memory
import X86

/// Data accesses by linear address.
///
/// The fast path is a hit in the software TLB: right rights, right page, plain RAM, not crossing into the next page.
/// Everything else (a miss, a page boundary, a device, a page whose writes are watched, a fault) is the slow path.
extension SoftwareProcessor {
  typealias Datum = FixedWidthInteger & BitwiseCopyable

  /// Host address of a datum if the current TLB table has it.
  @inline(__always)
  static func hit(_ tag: UInt64, _ host: UInt64, _ address: UInt64, _ size: Int) -> UnsafeMutableRawPointer? {
    let offset = address &- tag
    guard offset <= UInt64(truncatingIfNeeded: 4096 &- size) else { return nil }
    return UnsafeMutableRawPointer(bitPattern: UInt(truncatingIfNeeded: host &+ offset))
  }

  @inline(__always)
  func readHit(_ address: UInt64, _ size: Int) -> UnsafeMutableRawPointer? {
    let entry = cpu.pointee.engine.tlb.unsafelyUnwrapped + TranslationCache.index(of: address)
    return Self.hit(entry.pointee.readTag, entry.pointee.host, address, size)
  }

  @inline(__always)
  func writeHit(_ address: UInt64, _ size: Int) -> UnsafeMutableRawPointer? {
    let entry = cpu.pointee.engine.tlb.unsafelyUnwrapped + TranslationCache.index(of: address)
    return Self.hit(entry.pointee.writeTag, entry.pointee.host, address, size)
  }

  /// Loads from a linear address with the current rights.
  @inline(__always)
  func load<T: Datum>(_ address: UInt64, as type: T.Type = T.self) throws(GuestFault) -> T {
    if let host = readHit(address, MemoryLayout<T>.size) { return host.loadUnaligned(as: T.self) }
    return T(truncatingIfNeeded: try loadSlowly(address, size: MemoryLayout<T>.size, rights: .current))
  }

  /// Stores to a linear address with the current rights.
  @inline(__always)
  func store<T: Datum>(_ value: T, at address: UInt64) throws(GuestFault) {
    if let host = writeHit(address, MemoryLayout<T>.size) {
      return host.storeBytes(of: value, as: T.self)
    }
    try storeSlowly(UInt64(truncatingIfNeeded: value), at: address, size: MemoryLayout<T>.size, rights: .current)
  }

  /// As `load`, with other rights than the instruction's own.
  func load<T: Datum>(_ address: UInt64, as type: T.Type = T.self, rights: AccessRights) throws(GuestFault) -> T {
    T(truncatingIfNeeded: try loadSlowly(address, size: MemoryLayout<T>.size, rights: rights))
  }

  /// As `store`, with other rights than the instruction's own.
  func store<T: Datum>(_ value: T, at address: UInt64, rights: AccessRights) throws(GuestFault) {
    try storeSlowly(UInt64(truncatingIfNeeded: value), at: address, size: MemoryLayout<T>.size, rights: rights)
  }

  /// Faults as a write of `count` bytes (at most a page) would, without writing.
  func checkWritable(_ address: UInt64, count: Int, rights: AccessRights = .current) throws(GuestFault) {
    if rights == .current, writeHit(address, count) != nil { return }
    _ = try translate(address, for: .write, rights: rights)
    let last = linear(address &+ UInt64(truncatingIfNeeded: count &- 1))
    if last & ~0xfff != linear(address) & ~0xfff { _ = try translate(last & ~0xfff, for: .write, rights: rights) }
  }

  /// Faults as a read of `count` bytes (at most a page) would, without reading.
  func checkReadable(_ address: UInt64, count: Int, rights: AccessRights = .current) throws(GuestFault) {
    if rights == .current, readHit(address, count) != nil { return }
    _ = try translate(address, for: .read, rights: rights)
    let last = linear(address &+ UInt64(truncatingIfNeeded: count &- 1))
    if last & ~0xfff != linear(address) & ~0xfff { _ = try translate(last & ~0xfff, for: .read, rights: rights) }
  }

  /// Reads, changes and writes a datum; atomically with regard to other processors where `isLocked`. Returns the old
  /// value.
  @discardableResult
  func update<T: Datum>(_ address: UInt64, isLocked: Bool, _ change: (T) -> T) throws(GuestFault) -> T {
    if let host = writeHit(address, MemoryLayout<T>.size) {
      return isLocked ? Self.exchange(host, change) : Self.plainUpdate(host, change)
    }
    return try updateSlowly(address, isLocked: isLocked, change)
  }

  @inline(__always)
  private static func plainUpdate<T: Datum>(_ host: UnsafeMutableRawPointer, _ change: (T) -> T) -> T {
    let old = host.loadUnaligned(as: T.self)
    host.storeBytes(of: change(old), as: T.self)
    return old
  }

  /// A loop of the host's own locked compare-and-exchange, which is atomic across cache lines too.
  @inline(__always)
  private static func exchange<T: Datum>(_ host: UnsafeMutableRawPointer, _ change: (T) -> T) -> T {
    var expected = host.loadUnaligned(as: T.self)
    while true {
      let desired = change(expected)
      let seen = T(
        truncatingIfNeeded: hostCompareExchange(
          host, UInt64(truncatingIfNeeded: expected), UInt64(truncatingIfNeeded: desired),
          Int32(MemoryLayout<T>.size)))
      if seen == expected { return expected }
      expected = seen
    }
  }

  @inline(never)
  private func updateSlowly<T: Datum>(_ address: UInt64, isLocked: Bool, _ change: (T) -> T) throws(GuestFault) -> T {
    let size = MemoryLayout<T>.size
    try checkWritable(address, count: size)
    // The write translation may be in the TLB now, unless this is a device, a watched page or a page boundary.
    if let host = writeHit(address, size) {
      return isLocked ? Self.exchange(host, change) : Self.plainUpdate(host, change)
    }
    let start = linear(address)
    if (start & 0xfff) &+ UInt64(size) <= 4096 {
      let physical = try translate(start, for: .write, rights: .current)
      try checkAlignment(start, size, .current)
      noteDataAccess(start, count: size, isWrite: true)
      if let page = memory.plainHostPage(of: physical) {
        let host = page + Int(physical.rawValue & 0xfff)
        let old: T = isLocked ? Self.exchange(host, change) : Self.plainUpdate(host, change)
        noteWrite(physical, count: size)
        return old
      }
    }
    let old = T(truncatingIfNeeded: try loadSlowly(address, size: size, rights: .current))
    try storeSlowly(UInt64(truncatingIfNeeded: change(old)), at: address, size: size, rights: .current)
    return old
  }

  /// Linear addresses are 32 bits wide outside 64-bit mode.
  @inline(__always) func linear(_ address: UInt64) -> UInt64 { isLongMode64 ? address : address & 0xffff_ffff }

  /// As `linear`, by rights: descriptor tables, TSS and interrupt frames have 64-bit addresses in compatibility mode too.
  @inline(__always) func linear(_ address: UInt64, _ rights: AccessRights) -> UInt64 {
    rights == .implicitSupervisor && isLongMode ? address : linear(address)
  }

  /// Loads 1 to 8 bytes, little-endian, wherever they are.
  @inline(never)
  func loadSlowly(_ address: UInt64, size: Int, rights: AccessRights) throws(GuestFault) -> UInt64 {
    let start = linear(address, rights)
    if rights != .implicitSupervisor { noteDataAccess(start, count: size, isWrite: false) }
    let inFirst = 4096 - Int(start & 0xfff)
    guard size > inFirst else {
      let physical = try translate(start, for: .read, rights: rights)
      try checkAlignment(start, size, rights)
      return try loadPhysical(physical, size: size)
    }
    let first = try translate(start, for: .read, rights: rights)
    let second = try translate(linear(start &+ UInt64(inFirst), rights), for: .read, rights: rights)
    try checkAlignment(start, size, rights)
    let low = try loadPhysical(first, size: inFirst)
    let high = try loadPhysical(second, size: size - inFirst)
    return low | high << UInt64(8 * inFirst)
  }

  @inline(never)
  func storeSlowly(_ value: UInt64, at address: UInt64, size: Int, rights: AccessRights) throws(GuestFault) {
    let start = linear(address, rights)
    if rights != .implicitSupervisor { noteDataAccess(start, count: size, isWrite: true) }
    let inFirst = 4096 - Int(start & 0xfff)
    guard size > inFirst else {
      let physical = try translate(start, for: .write, rights: rights)
      try checkAlignment(start, size, rights)
      return storePhysical(value, at: physical, size: size)
    }
    let first = try translate(start, for: .write, rights: rights)
    let second = try translate(linear(start &+ UInt64(inFirst), rights), for: .write, rights: rights)
    try checkAlignment(start, size, rights)
    storePhysical(value, at: first, size: inFirst)
    storePhysical(value >> UInt64(8 * inFirst), at: second, size: size - inFirst)
  }

  /// #AC, which comes after all faults of paging, for a datum whose address is not a multiple of its size.
  @inline(__always)
  private func checkAlignment(_ address: UInt64, _ size: Int, _ rights: AccessRights) throws(GuestFault) {
    guard checksAlignment, rights == .current, size.nonzeroBitCount == 1 else { return }
    if address & UInt64(truncatingIfNeeded: size &- 1) != 0 { throw .exception(.alignmentCheck, errorCode: 0) }
  }

  /// `size` bytes (1 to 8) within one page, RAM or device.
  private func loadPhysical(_ address: GuestPhysicalAddress, size: Int) throws(GuestFault) -> UInt64 {
    if let page = memory.hostPage(of: address) {
      let host = page + Int(address.rawValue & 0xfff)
      switch size {
      case 1: return UInt64(host.load(as: UInt8.self))
      case 2: return UInt64(host.loadUnaligned(as: UInt16.self))
      case 4: return UInt64(host.loadUnaligned(as: UInt32.self))
      case 8: return host.loadUnaligned(as: UInt64.self)
      default:
        var value: UInt64 = 0
        for index in 0..<size { value |= UInt64(host.load(fromByteOffset: index, as: UInt8.self)) << UInt64(8 * index) }
        return value
      }
    }
    return try deviceLoad(address, size: size)
  }

  /// `size` bytes (1 to 8) within one page: RAM, or the bus for devices and ROM.
  private func storePhysical(_ value: UInt64, at address: GuestPhysicalAddress, size: Int) {
    guard let page = memory.writableHostPage(of: address) else { return deviceStore(value, at: address, size: size) }
    let host = page + Int(address.rawValue & 0xfff)
    switch size {
    case 1: host.storeBytes(of: UInt8(truncatingIfNeeded: value), as: UInt8.self)
    case 2: host.storeBytes(of: UInt16(truncatingIfNeeded: value), as: UInt16.self)
    case 4: host.storeBytes(of: UInt32(truncatingIfNeeded: value), as: UInt32.self)
    case 8: host.storeBytes(of: value, as: UInt64.self)
    default:
      for index in 0..<size {
        host.storeBytes(of: UInt8(truncatingIfNeeded: value >> UInt64(8 * index)), toByteOffset: index, as: UInt8.self)
      }
    }
    noteWrite(address, count: size)
  }
}
