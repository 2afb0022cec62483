import CHost
import X86

/// Accesses that the processor makes on its own account: descriptor tables, task-state segments, frames on inner stacks.
/// They are supervisor accesses at any CPL (SDM vol. 3A, 4.6.1), and their linear addresses have 64 bits in all of IA-32e
/// mode. The supervisor's TLB table holds exactly their rights.
extension SoftwareProcessor {
  @inline(__always)
  func loadSystem<T: Datum>(_ address: UInt64, as type: T.Type = T.self) throws(GuestFault) -> T {
    let entry = translations.table(.supervisor) + TranslationCache.index(of: address)
    if let host = Self.hit(entry.pointee.readTag, entry.pointee.host, address, MemoryLayout<T>.size) {
      return host.loadUnaligned(as: T.self)
    }
    return try load(address, as: T.self, rights: .implicitSupervisor)
  }

  @inline(__always)
  func storeSystem<T: Datum>(_ value: T, at address: UInt64) throws(GuestFault) {
    let entry = translations.table(.supervisor) + TranslationCache.index(of: address)
    if let host = Self.hit(entry.pointee.writeTag, entry.pointee.host, address, MemoryLayout<T>.size) {
      return host.storeBytes(of: value, as: T.self)
    }
    try store(value, at: address, rights: .implicitSupervisor)
  }

  /// A linear address in a descriptor table or task-state segment.
  @inline(__always) func systemAddress(_ base: UInt64, _ offset: UInt64) -> UInt64 {
    isLongMode ? base &+ offset : (base &+ offset) & 0xffff_ffff
  }

  // MARK: Descriptors

  /// Reads the descriptor that a selector names; `fault` if the table ends before it, or there is no such table.
  @inline(__always)
  func readDescriptor(_ selector: UInt16, orThrow fault: GuestFault) throws(GuestFault) -> Descriptor {
    let offset = UInt64(selector & 0xfff8)
    let base: UInt64
    if selector & 4 == 0 {
      guard offset &+ 7 <= UInt64(cpu.pointee.gdtr.limit) else { throw fault }
      base = cpu.pointee.gdtr.base
    } else {
      guard cpu.pointee.ldtr.attributes & SegmentAttributes.present != 0,
        offset &+ 7 <= UInt64(cpu.pointee.ldtr.limit)
      else { throw fault }
      base = cpu.pointee.ldtr.base
    }
    let address = systemAddress(base, offset)
    return Descriptor(raw: try loadSystem(address), address: address)
  }

  /// The upper half of a 16-byte system descriptor (IA-32e mode); `fault` if the table ends before it or its type field
  /// is not zero.
  func readUpperHalf(of descriptor: Descriptor, _ selector: UInt16, orThrow fault: GuestFault) throws(GuestFault)
    -> UInt64
  {
    let limit = selector & 4 == 0 ? cpu.pointee.gdtr.limit : cpu.pointee.ldtr.limit
    guard UInt64(selector & 0xfff8) &+ 15 <= UInt64(limit) else { throw fault }
    let upper = try loadSystem(descriptor.address &+ 8, as: UInt64.self)
    guard upper & 0x1f00_0000_0000 == 0 else { throw fault }
    return upper
  }

  /// Sets the accessed bit of a code or data descriptor in memory, if it is not set.
  @inline(__always)
  func setAccessed(_ descriptor: Descriptor) throws(GuestFault) {
    guard descriptor.attributes & SegmentAttributes.accessed == 0 else { return }
    try setTypeBits(of: descriptor, set: UInt8(SegmentAttributes.accessed), clear: 0)
  }

  /// Changes type bits of a descriptor in memory.
  @inline(never)
  func setTypeBits(of descriptor: Descriptor, set: UInt8, clear: UInt8) throws(GuestFault) {
    let address = systemAddress(descriptor.address, 5)
    let old = try loadSystem(address, as: UInt8.self)
    try storeSystem(old & ~clear | set, at: address)
  }
}

/// A stack on which a frame is built, before SS and RSP are changed to it.
struct StackCursor {
  let segment: SegmentState
  /// RSP, ESP or SP, not beyond `mask`.
  var pointer: UInt64
  let mask: UInt64
  let rights: AccessRights
  /// Thrown for a push beyond the limit, or to an address that is not canonical.
  let fault: GuestFault

  /// A stack in 64-bit mode.
  init(pointer: UInt64, rights: AccessRights, fault: GuestFault) {
    self.init(segment: SegmentState(), pointer: pointer, mask: ~0, rights: rights, fault: fault)
  }

  private init(segment: SegmentState, pointer: UInt64, mask: UInt64, rights: AccessRights, fault: GuestFault) {
    self.segment = segment
    self.pointer = pointer & mask
    self.mask = mask
    self.rights = rights
    self.fault = fault
  }

  /// A stack outside 64-bit mode, as wide as its segment says.
  init(legacy segment: SegmentState, pointer: UInt64, rights: AccessRights, fault: GuestFault) {
    let isBig = segment.attributes & SegmentAttributes.big != 0
    self.init(segment: segment, pointer: pointer, mask: isBig ? 0xffff_ffff : 0xffff, rights: rights, fault: fault)
  }

  /// What RSP becomes: a 16-bit stack leaves the upper bits as they are in `old`.
  func merged(into old: UInt64) -> UInt64 { mask == 0xffff ? old & ~0xffff | pointer : pointer }
}

extension SoftwareProcessor {
  /// The current stack, with current rights.
  func currentStack(fault: GuestFault = .stackFault()) -> StackCursor {
    isLongMode64
      ? StackCursor(pointer: cpu.pointee.gpr.4, rights: .current, fault: fault)
      : StackCursor(legacy: segment(.ss), pointer: cpu.pointee.gpr.4, rights: .current, fault: fault)
  }

  /// Pushes `size` bytes (2, 4 or 8).
  func push(_ value: UInt64, size: Int, on stack: inout StackCursor) throws(GuestFault) {
    let pointer = (stack.pointer &- UInt64(size)) & stack.mask
    let address: UInt64
    if stack.mask == ~0 {
      guard isCanonical(pointer) else { throw stack.fault }
      address = pointer
    } else {
      guard isWithin(stack.segment, offset: pointer, count: size) else { throw stack.fault }
      address = (stack.segment.base &+ pointer) & 0xffff_ffff
    }
    switch (size, stack.rights) {
    case (8, .current): try store(value, at: address)
    case (4, .current): try store(UInt32(truncatingIfNeeded: value), at: address)
    case (_, .current): try store(UInt16(truncatingIfNeeded: value), at: address)
    case (8, _): try storeSystem(value, at: address)
    case (4, _): try storeSystem(UInt32(truncatingIfNeeded: value), at: address)
    default: try storeSystem(UInt16(truncatingIfNeeded: value), at: address)
    }
    stack.pointer = pointer
  }
}
