import CHost
import Memory
import X86

/// Address translation (SDM vol. 3A, chapter 4): no paging, 32-bit (with PSE and PSE-36), PAE, 4-level and 5-level.
extension SoftwareProcessor {
  /// What a walk found.
  private struct Leaf {
    var physical: UInt64
    /// R/W, U/S and XD of all levels taken together.
    var isWritable: Bool
    var isUser: Bool
    var isExecuteDisabled: Bool
    var isDirty: Bool
    var protectionKey: UInt32
    /// Survives changes of CR3.
    var isGlobal = false
    /// The page has 1 << so many bytes.
    var pageShift: UInt64 = 12
  }

  /// What a walk is for.
  private struct Request {
    let address: UInt64
    let access: AccessKind
    let rights: AccessRights
    let isUser: Bool
    /// Bits of the error code that the access itself decides.
    let code: UInt32
    /// Whether the access is known to be allowed, so that the entries above the leaf become accessed ones.
    var marksTables = false

    func fault(_ bits: UInt32) -> GuestFault { .pageFault(address: address, errorCode: code | bits) }
  }

  /// Bits of a page-fault error code (SDM vol. 3A, 4.7).
  enum PageFaultCode {
    static let present: UInt32 = 1
    static let write: UInt32 = 2
    static let user: UInt32 = 4
    static let reserved: UInt32 = 8
    static let fetch: UInt32 = 16
    static let protectionKey: UInt32 = 32
  }

  private enum Entry {
    static let present: UInt64 = 1
    static let writable: UInt64 = 2
    static let user: UInt64 = 4
    static let accessed: UInt64 = 0x20
    static let dirty: UInt64 = 0x40
    static let large: UInt64 = 0x80
    static let global: UInt64 = 0x100
    static let executeDisable: UInt64 = 1 << 63
  }

  /// Translates one linear address for one access: sets accessed and dirty bits, fills the TLB for current rights.
  ///
  /// Throws #PF, and #GP(0) for an address that is not canonical (callers that access the stack check that first).
  func translate(_ address: UInt64, for access: AccessKind, rights: AccessRights) throws(GuestFault)
    -> GuestPhysicalAddress
  {
    let isUser = rights == .user || (rights == .current && cpu.pointee.cpl == 3)
    guard cpu.pointee.cr0 & CR0.pg != 0 else {
      let physical = GuestPhysicalAddress(address & 0xffff_ffff & addressLines)
      fill(address, physical, access, isWritable: true, isGlobal: false, pageShift: 12, rights: rights)
      return physical
    }
    if rights == .current, access != .fetch,
      let physical = devicePages.physical(
        address, isWrite: access == .write, table: cpu.pointee.engine.tlb, lossCount: translations.lossCount)
    {
      return physical
    }
    guard isCanonical(address) else { throw .generalProtection() }

    var code: UInt32 = isUser ? PageFaultCode.user : 0
    if access == .write { code |= PageFaultCode.write }
    if access == .fetch, hasExecuteDisable || cpu.pointee.cr4 & CR4.smep != 0 { code |= PageFaultCode.fetch }

    let leaf = try walk(Request(address: address, access: access, rights: rights, isUser: isUser, code: code))
    let physical = GuestPhysicalAddress(leaf.physical & addressLines)
    if rights != .user {
      let mayWrite =
        leaf.isDirty && (leaf.isWritable || (!isUser && cpu.pointee.cr0 & CR0.wp == 0))
        && !isKeyProtected(leaf, write: true, isUser: isUser)
      fill(
        address, physical, access, isWritable: mayWrite, isGlobal: leaf.isGlobal, pageShift: leaf.pageShift,
        rights: rights)
    }
    return physical
  }

  private var hasExecuteDisable: Bool { cpu.pointee.efer & EFER.nxe != 0 && cpu.pointee.cr4 & CR4.pae != 0 }

  /// Whether an address is canonical for the paging mode; always so outside 64-bit mode.
  @inline(__always) func isCanonical(_ address: UInt64) -> Bool {
    guard cpu.pointee.efer & EFER.lma != 0 else { return true }
    return Self.isSignExtended(address, bits: cpu.pointee.cr4 & CR4.la57 != 0 ? 57 : 48)
  }

  /// Whether a register that holds a linear address takes it (descriptor tables, segment bases, MSRs, INVPCID): such
  /// are checked for the widest addresses that the model has, whatever the paging mode (SDM vol. 3A, 3.3.7.1).
  func isCanonicalForModel(_ address: UInt64) -> Bool {
    Self.isSignExtended(address, bits: model.linearAddressBits)
  }

  @inline(__always)
  private static func isSignExtended(_ address: UInt64, bits: Int64) -> Bool {
    let unused = 64 &- bits
    return (Int64(bitPattern: address) &<< unused) &>> unused == Int64(bitPattern: address)
  }

  @inline(__always)
  private func checkRights(_ leaf: Leaf, for request: Request) throws(GuestFault) {
    let (access, isUser) = (request.access, request.isUser)
    // A key that forbids the access is reported beside what else does.
    let isKeyViolation = access != .fetch && isKeyProtected(leaf, write: access == .write, isUser: isUser)
    let violation = request.fault(PageFaultCode.present | (isKeyViolation ? PageFaultCode.protectionKey : 0))
    if isUser {
      guard leaf.isUser, access != .write || leaf.isWritable else { throw violation }
    } else {
      if access == .write, !leaf.isWritable, cpu.pointee.cr0 & CR0.wp != 0 { throw violation }
      if leaf.isUser {
        if access == .fetch {
          if cpu.pointee.cr4 & CR4.smep != 0 { throw violation }
        } else if cpu.pointee.cr4 & CR4.smap != 0,
          request.rights == .implicitSupervisor || cpu.pointee.rflags & RFLAGS.ac == 0
        {
          throw violation
        }
      }
    }
    if isKeyViolation || (access == .fetch && leaf.isExecuteDisabled && hasExecuteDisable) { throw violation }
  }

  /// Protection keys (SDM vol. 3A, 4.6.2).
  @inline(__always)
  private func isKeyProtected(_ leaf: Leaf, write: Bool, isUser: Bool) -> Bool {
    guard cpu.pointee.efer & EFER.lma != 0, cpu.pointee.cr4 & (CR4.pke | CR4.pks) != 0 else { return false }
    let shift = leaf.protectionKey &* 2
    if leaf.isUser {
      guard cpu.pointee.cr4 & CR4.pke != 0 else { return false }
      let bits = cpu.pointee.pkru &>> shift
      return bits & 1 != 0 || (write && bits & 2 != 0 && (isUser || cpu.pointee.cr0 & CR0.wp != 0))
    }
    // A user's access is refused by U/S alone.
    guard cpu.pointee.cr4 & CR4.pks != 0, !isUser else { return false }
    let bits = UInt32(truncatingIfNeeded: cpu.pointee.pkrs) &>> shift
    return bits & 1 != 0 || (write && bits & 2 != 0 && cpu.pointee.cr0 & CR0.wp != 0)
  }

  /// Puts a page into the TLB table of those rights (the current one; the supervisor's for implicit accesses): what the
  /// access found out, beside what is known of the page already. A page with a data breakpoint always takes the slow path.
  /// A device's page goes to where those are remembered.
  private func fill(
    _ address: UInt64, _ physical: GuestPhysicalAddress, _ access: AccessKind, isWritable: Bool, isGlobal: Bool,
    pageShift: UInt64, rights: AccessRights
  ) {
    guard rights != .user, let current = cpu.pointee.engine.tlb else { return }
    guard let host = memory.hostPage(of: physical) else {
      if rights == .current, access != .fetch, current != translations.emptyTable {
        translations.noteFill()
        devicePages.insert(
          address, physical, isWritable: isWritable, table: current, lossCount: translations.lossCount)
      }
      return
    }
    if access != .fetch, hasDataBreakpoint(onPage: address) { return }
    if rights == .current, checksAlignment { return }
    let table = rights == .current ? current : translations.table(.supervisor)
    let page = address & ~0xfff
    let index = TranslationCache.index(of: address)
    let noPage = TranslationCache.noPage(index)
    let hostPage = UInt64(UInt(bitPattern: host))
    let number = (Int(bitPattern: host) &- Int(bitPattern: memory.base)) >> 12
    var entry = table[index]
    let isKnown = entry.host == hostPage && (entry.readTag == page || entry.fetchTag == page)
    if !isKnown { entry = TLBEntry(readTag: noPage, writeTag: noPage, fetchTag: noPage, host: hostPage) }
    if access == .fetch {
      entry.fetchTag = page
    } else {
      let isPlain =
        memory.writableHostPage(of: physical) == host
        && PageAttributes(rawValue: memory.attributes[number]).isDisjoint(with: [.holdsCode, .watched])
      if isWritable, isPlain { memory.dirty[number] = 1 }
      entry.readTag = page
      entry.writeTag = isWritable && isPlain ? page : noPage
    }
    translations.fill(table + index, entry, isGlobal: isGlobal, address: address, pageShift: pageShift)
  }

  /// Where code is fetched from.
  func translateFetch(_ address: UInt64) throws(GuestFault) -> GuestPhysicalAddress {
    if let entry = cpu.pointee.engine.tlb?[TranslationCache.index(of: address)], entry.fetchTag == address & ~0xfff {
      let offset = entry.host &- UInt64(UInt(bitPattern: memory.base)) &+ (address & 0xfff)
      // What is not RAM may answer at several addresses.
      if offset < memory.size { return memory.address(atOffset: offset) }
    }
    return try translate(address, for: .fetch, rights: .current)
  }

  // MARK: The walk

  /// Walks the page tables. No accessed or dirty bit is set before the access has been found to be allowed: where one is
  /// missing above the leaf, a second walk sets it. So does one where somebody else changes the tables meanwhile.
  @inline(__always)
  private func walk(_ first: Request) throws(GuestFault) -> Leaf {
    var request = first
    while true {
      let leaf = cpu.pointee.cr4 & CR4.pae != 0 ? try walkPAE(&request) : try walkLegacy(&request)
      if let leaf { return leaf }
    }
  }

  /// 4-level, 5-level and PAE paging: 8-byte entries. Nil: walk again.
  @inline(__always)
  private func walkPAE(_ request: inout Request) throws(GuestFault) -> Leaf? {
    let (address, access) = (request.address, request.access)
    let isLong = cpu.pointee.efer & EFER.lma != 0
    var reserved = ~model.physicalAddressMask & 0x000f_ffff_ffff_f000
    if !isLong { reserved |= 0x7ff0_0000_0000_0000 }
    if cpu.pointee.efer & EFER.nxe == 0 { reserved |= Entry.executeDisable }

    var leaf = Leaf(
      physical: 0, isWritable: true, isUser: true, isExecuteDisabled: false, isDirty: false, protectionKey: 0)
    var level: Int
    var table: UInt64
    var areTablesMarked = true
    if isLong {
      level = cpu.pointee.cr4 & CR4.la57 != 0 ? 5 : 4
      table = cpu.pointee.cr3 & 0x000f_ffff_ffff_f000
    } else {
      let pointer = withUnsafeBytes(of: &cpu.pointee.pdpte) {
        $0.load(fromByteOffset: Int(address >> 30 & 3) * 8, as: UInt64.self)
      }
      guard pointer & Entry.present != 0 else { throw request.fault(0) }
      level = 2
      table = pointer & 0x000f_ffff_ffff_f000
    }
    while true {
      let shift = UInt64(12 + 9 * (level - 1))
      let location = table &+ (address >> shift & 0x1ff) &* 8
      var entry = readEntry(location, size: 8)
      guard entry & Entry.present != 0 else { throw request.fault(0) }
      let isLarge = entry & Entry.large != 0
      let isLeaf = level == 1 || (isLarge && (level == 2 || (level == 3 && isLong && model.hasGigabytePages)))
      var bad = reserved
      if isLeaf, level > 1 {
        bad |= ((1 as UInt64) << shift &- 1) & ~0x1fff
      } else if isLarge, level > 2 {
        bad |= Entry.large
      }
      guard entry & bad == 0 else {
        throw request.fault(PageFaultCode.present | PageFaultCode.reserved)
      }
      leaf.isWritable = leaf.isWritable && entry & Entry.writable != 0
      leaf.isUser = leaf.isUser && entry & Entry.user != 0
      leaf.isExecuteDisabled = leaf.isExecuteDisabled || entry & Entry.executeDisable != 0
      if isLeaf {
        let offsetMask = (1 as UInt64) << shift &- 1
        leaf.pageShift = shift
        leaf.physical = (entry & 0x000f_ffff_ffff_f000 & ~offsetMask) | (address & offsetMask)
        leaf.protectionKey = UInt32(truncatingIfNeeded: entry >> 59 & 15)
        leaf.isDirty = entry & Entry.dirty != 0
        leaf.isGlobal = entry & Entry.global != 0 && cpu.pointee.cr4 & CR4.pge != 0
        try checkRights(leaf, for: request)
        guard areTablesMarked else {
          request.marksTables = true
          return nil
        }
        let wanted = Entry.accessed | (access == .write ? Entry.dirty : 0)
        guard mark(location, &entry, wanted, size: 8) else { return nil }
        leaf.isDirty = entry & Entry.dirty != 0
        return leaf
      }
      if !request.marksTables {
        areTablesMarked = areTablesMarked && entry & Entry.accessed != 0
      } else if !mark(location, &entry, Entry.accessed, size: 8) {
        return nil
      }
      table = entry & 0x000f_ffff_ffff_f000
      level -= 1
    }
  }

  /// 32-bit paging: 4-byte entries, 4 MiB pages under CR4.PSE with PSE-36's high address bits. Nil: walk again.
  @inline(__always)
  private func walkLegacy(_ request: inout Request) throws(GuestFault) -> Leaf? {
    let (address, access) = (request.address, request.access)
    let directory = (cpu.pointee.cr3 & 0xffff_f000) &+ (address >> 22 & 0x3ff) &* 4
    var entry = readEntry(directory, size: 4)
    guard entry & Entry.present != 0 else { throw request.fault(0) }
    var leaf = Leaf(
      physical: 0, isWritable: entry & Entry.writable != 0, isUser: entry & Entry.user != 0, isExecuteDisabled: false,
      isDirty: false, protectionKey: 0)
    var location = directory
    var isDirectoryMarked = true
    if entry & Entry.large != 0, cpu.pointee.cr4 & CR4.pse != 0 {
      // Bits 20:13 are address bits 39:32; bit 21 and those beyond the physical address width are reserved.
      let high = entry >> 13 & 0xff
      guard entry & 1 << 21 == 0, high << 32 & ~model.physicalAddressMask == 0 else {
        throw request.fault(PageFaultCode.present | PageFaultCode.reserved)
      }
      leaf.physical = high << 32 | entry & 0xffc0_0000 | address & 0x3f_ffff
      leaf.pageShift = 22
    } else {
      if !request.marksTables {
        isDirectoryMarked = entry & Entry.accessed != 0
      } else if !mark(directory, &entry, Entry.accessed, size: 4) {
        return nil
      }
      location = (entry & 0xffff_f000) &+ (address >> 12 & 0x3ff) &* 4
      entry = readEntry(location, size: 4)
      guard entry & Entry.present != 0 else { throw request.fault(0) }
      leaf.isWritable = leaf.isWritable && entry & Entry.writable != 0
      leaf.isUser = leaf.isUser && entry & Entry.user != 0
      leaf.physical = entry & 0xffff_f000 | address & 0xfff
    }
    leaf.isDirty = entry & Entry.dirty != 0
    leaf.isGlobal = entry & Entry.global != 0 && cpu.pointee.cr4 & CR4.pge != 0
    try checkRights(leaf, for: request)
    guard isDirectoryMarked else {
      request.marksTables = true
      return nil
    }
    let wanted = Entry.accessed | (access == .write ? Entry.dirty : 0)
    guard mark(location, &entry, wanted, size: 4) else { return nil }
    leaf.isDirty = entry & Entry.dirty != 0
    return leaf
  }

  /// A paging-structure entry; all ones where there is no RAM.
  @inline(__always)
  func readEntry(_ location: UInt64, size: Int) -> UInt64 {
    let address = GuestPhysicalAddress(location & addressLines)
    guard let page = memory.hostPage(of: address) else { return size == 8 ? ~0 : 0xffff_ffff }
    let host = page + Int(address.rawValue & 0xfff)
    return size == 8 ? host.load(as: UInt64.self) : UInt64(host.load(as: UInt32.self))
  }

  /// Sets bits of an entry with a locked exchange. False if somebody changed the entry meanwhile: walk again.
  @inline(__always)
  private func mark(_ location: UInt64, _ entry: inout UInt64, _ bits: UInt64, size: Int) -> Bool {
    entry & bits == bits || exchange(location, &entry, bits, size: size)
  }

  @inline(never)
  private func exchange(_ location: UInt64, _ entry: inout UInt64, _ bits: UInt64, size: Int) -> Bool {
    let address = GuestPhysicalAddress(location & addressLines)
    guard let page = memory.writableHostPage(of: address) else { return true }
    let seen = hostCompareExchange(page + Int(address.rawValue & 0xfff), entry, entry | bits, Int32(size))
    guard seen == entry else { return false }
    entry |= bits
    noteWrite(address, count: size)
    return true
  }

  /// The page a write went to by its physical address: dirty, and if it holds code, that code is dropped.
  func noteWrite(_ address: GuestPhysicalAddress, count: Int) {
    guard let host = memory.writableHostPage(of: address) else { return }
    let number = (Int(bitPattern: host) &- Int(bitPattern: memory.base)) >> 12
    let attributes = PageAttributes(rawValue: memory.attributes[number])
    memory.dirty[number] = 1
    if attributes.contains(.holdsCode) {
      blocks.noteWrite(page: number, address: address.rawValue, count: count)
      codeWatch.noteWrite(page: number, range: address.rawValue..<(address.rawValue &+ UInt64(count)))
    }
    if attributes.contains(.watched) {
      memory.onProtectedWrite?(address.rawValue..<(address.rawValue &+ UInt64(count)))
    }
  }

  /// Guest-physical memory was changed by somebody else: what was decoded from it is dropped.
  func noteOutsideWrite(_ range: Range<UInt64>) {
    var address = range.lowerBound
    while address < range.upperBound {
      let end = min(range.upperBound, (address | 0xfff) + 1)
      if let offset = memory.writableOffset(of: GuestPhysicalAddress(address)) {
        blocks.noteWrite(page: Int(offset >> 12), address: address, count: Int(end - address))
      }
      address = end
    }
  }
}
