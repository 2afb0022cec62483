import CHost
import CZydis
import X86

/// Memory operands.
extension BlockTranslation {
  /// Slots beyond those of the sixteen base registers.
  enum Slot {
    /// Each base register has so many slots, which blocks share out among themselves.
    static let variants = 4
    /// Where no register decides on the page: by the page.
    static let fixed = 64
    /// Base registers with an index have slots of their own: `indexed` and on.
    static let indexed = 80
    /// For displacements beyond half a page, by base register and page of the displacement: `distant` and on.
    static let distant = 144
    /// FS or GS with its base, by the displacement's page: `perProcessor` and on.
    static let perProcessor = 152
    /// For accesses that are not grouped, by base register and displacement: `scattered` and on.
    static let scattered = 160
  }

  /// A base register's slot: code that works with other pages than the code before it has slots of its own, mostly. The stack
  /// is the same for all code.
  private func slot(of base: Int, isIndexed: Bool) -> Int {
    let first = (isIndexed ? Slot.indexed : 0) + base * Slot.variants
    guard base != GuestRegisters.rsp else { return first }
    let address = block.pointee.physicalAddress
    return first + Int(truncatingIfNeeded: (address >> 4 ^ address >> 7 ^ address >> 12) & 3)
  }

  /// The slot of accesses off an origin. Groups of accesses share one. Without groups, what lies more than a few bytes apart
  /// may well be on different pages, and should not take turns in one slot.
  func slot(_ origin: Origin, _ displacement: Int64) -> Int {
    guard origin.index == nil else { return slot(of: origin.base, isIndexed: true) }
    let part = Int(truncatingIfNeeded: displacement >> 5)
    if isTail { return Slot.scattered + (origin.base &* 5 &+ part) & 15 }
    let page = (displacement + 2048) >> 12
    return page == 0
      ? slot(of: origin.base, isIndexed: false) : Slot.distant + (Int(truncatingIfNeeded: page) &* 3 &+ origin.base) & 7
  }

  /// The slot of an access that belongs to no group.
  private func slot(_ address: Address) -> Int {
    let page = Int(address.displacement) >> 12
    if let segment = address.segment, segment >= SegmentRegister.fs.rawValue { return Slot.perProcessor + page & 7 }
    if address.isRelative {
      return Slot.fixed + (Int(truncatingIfNeeded: processor.cpu.pointee.rip >> 12) &+ page) & 15
    }
    guard let base = address.base else { return Slot.fixed + page & 15 }
    return slot(of: base, isIndexed: address.index != nil)
  }

  /// A guest's memory operand.
  struct Address {
    /// Guest register number; nil: none.
    var base: Int?
    var index: Int?
    /// As a shift, 0 to 3.
    var scale: Int
    var displacement: Int32
    /// Relative to the page of code, of which `displacement` is an offset.
    var isRelative = false
    /// The segment by number, where its base or its limit matters.
    var segment: Int?
    /// Whether the segment has a limit to be looked at, or may refuse the access.
    var isLimited = false
    /// Address size in bytes.
    var size: Int
    /// Whether the operand has several parts (`OperandParts`): one that wraps is left to the chain.
    var isDivided = false
  }

  /// The decoded instruction's memory operand. Nil if it is of a kind that is not translated.
  func address(of operand: UnsafePointer<ZydisDecodedOperand>) -> Address? {
    let memory = operand.pointee.mem
    let size = Int(instruction.pointee.address_width) / 8
    guard size >= 2, memory.type != ZYDIS_MEMOP_TYPE_MIB else { return nil }
    let place = processor.decoder.place(of: operand, in: instruction)
    guard Int64(Int32(truncatingIfNeeded: place.displacement)) == place.displacement || size < 8 else { return nil }
    var address = Address(
      scale: Int(max(1, memory.scale)).trailingZeroBitCount,
      displacement: Int32(truncatingIfNeeded: place.displacement), size: size)
    setSegment(&address, Int(RegisterNumbers.number(of: place.segment)))
    let base = RegisterNumbers.number(of: place.base)
    if base == Operation.instructionPointer {
      let (sum, overflow) = address.displacement.addingReportingOverflow(Int32(truncatingIfNeeded: nextPlace))
      guard !overflow, size == 8 else { return nil }
      address.displacement = sum
      address.isRelative = true
    } else if base != Operation.absent {
      address.base = Int(base) / 8
    }
    let index = RegisterNumbers.number(of: memory.index)
    if index != Operation.absent { address.index = Int(index) / 8 }
    return address
  }

  /// Lets an address be one of a segment, by number; anything beyond the six is none.
  func setSegment(_ address: inout Address, _ number: Int) {
    switch number {
    case SegmentRegister.fs.rawValue, SegmentRegister.gs.rawValue:
      address.segment = number
      address.isLimited =
        !is64 && !mode.contains(number == SegmentRegister.fs.rawValue ? .openFS : .openGS)
    case SegmentRegister.cs.rawValue:
      // Writes to it fault outside 64-bit mode.
      address.isLimited = !is64
    case SegmentRegister.es.rawValue...SegmentRegister.ds.rawValue:
      address.isLimited = !isFlat
    default: break
    }
    if address.isLimited { address.segment = number }
  }

  /// Has the address in R11. Destroys RAX; leaves the flags alone, but for a segment's base and limit.
  ///
  /// With a limit, `size` bytes that `isWrite` writes are within it then, or the code has left for the chain.
  mutating func computeAddress(_ address: Address, size: Int = 0, isWrite: Bool = false) {
    let second = GuestRegisters.second
    let displacement = address.displacement
    // 16 bits are cut off below.
    let width = max(address.size, 4)
    if address.isRelative {
      code.load(second, .frame(FrameOffset.codePage))
      code.loadAddress(second, .memory(base: second, index: nil, scale: 0, displacement: displacement))
    } else {
      var index: Int?
      if let guest = address.index {
        if let host = host(guest) {
          index = host
        } else {
          code.load(GuestRegisters.first, GuestRegisters.home(guest))
          index = GuestRegisters.first
        }
      }
      if let guest = address.base {
        var base = second
        if let host = host(guest) { base = host } else { code.load(second, GuestRegisters.home(guest)) }
        code.loadAddress(
          second, .memory(base: base, index: index, scale: address.scale, displacement: displacement), size: width)
      } else if let index {
        // No base: MOV R11, displacement; LEA R11, [R11 + index * scale].
        loadDisplacement(second, displacement)
        code.loadAddress(
          second, .memory(base: second, index: index, scale: address.scale, displacement: 0), size: width)
      } else {
        loadDisplacement(second, displacement)
        if width == 4 { code.load(second, .register(second), size: 4) }
      }
    }
    if address.size == 2 { code.instruction(.escape0f, 0xb7, reg: second, .register(second), size: 4) }
    // Without a base what wraps is on another page.
    guard let segment = address.segment else { return }
    if address.isDivided, address.size == 2 {
      code.loadAddress(
        GuestRegisters.first, .memory(base: second, index: nil, scale: 0, displacement: Int32(size - 1)))
      code.arithmetic(7, .register(GuestRegisters.first), immediate: 0xffff, size: 4)
      leave(if: HostCondition.above)
    }
    guard !address.isLimited else { return applyLimit(of: segment, size: size, isWrite: isWrite) }
    code.load(GuestRegisters.first, .frame(FrameOffset.cpu))
    code.arithmetic(
      0, second,
      .memory(
        base: GuestRegisters.first, index: nil, scale: 0, displacement: Int32(StateOffset.base(segment))))
    // Linear addresses have 32 bits there.
    if !is64 { code.load(second, .register(second), size: 4) }
  }

  /// Makes the offset in R11 a linear address, or leaves. Destroys RAX and the flags.
  ///
  /// Offset and size make at most 33 bits, so nothing wraps before the comparison; the sum with the base wraps at 32 bits,
  /// as linear addresses do.
  private mutating func applyLimit(of segment: Int, size: Int, isWrite: Bool) {
    let first = GuestRegisters.first
    let second = GuestRegisters.second
    let bound = HostOperand.frame(FrameOffset.segment(segment, isWrite ? \.write : \.read))
    if size == 1 {
      code.arithmetic(7, second, bound)
    } else {
      code.loadAddress(first, .memory(base: second, index: nil, scale: 0, displacement: Int32(size - 1)))
      code.arithmetic(7, first, bound)
    }
    leave(if: HostCondition.greater)
    code.arithmetic(0, second, .frame(FrameOffset.segment(segment, \.base)), size: 4)
  }

  /// MOV register, imm32, sign-extended.
  private mutating func loadDisplacement(_ register: Int, _ value: Int32) {
    code.instruction(
      .primary, 0xc7, reg: 0, .register(register), size: 8, immediate: Int64(value), immediateSize: 4)
  }

  /// Checks an access of `size` bytes and returns where the host does it. Uses RAX and, if the address is not a register
  /// with a displacement, R11; destroys the flags.
  ///
  /// One that must be aligned to its size leaves if it is not. That is looked at first: an access that is refused leaves no
  /// mark in the page tables.
  mutating func access(_ address: Address, size: Int, isWrite: Bool, isAligned: Bool = false) -> HostOperand {
    guard let origin = origin(of: address) else {
      return computedAccess(address, size: size, isWrite: isWrite, isAligned: isAligned)
    }
    let request = OriginAccess(
      origin: origin, displacement: address.displacement, size: size, isWrite: isWrite, isAligned: isAligned)
    return hostBase(of: address).map { access(request, $0) } ?? access(request, address)
  }

  /// The host register that has an address but for its displacement; nil: it has to be computed.
  private func hostBase(of address: Address) -> Int? {
    guard is64, address.size == 8, address.index == nil, address.segment == nil else { return nil }
    return address.base.flatMap(host)
  }

  /// An access that belongs to no group.
  private mutating func computedAccess(
    _ address: Address, size: Int, isWrite: Bool, isAligned: Bool
  ) -> HostOperand {
    destroyFlags()
    computeAddress(address, size: size, isWrite: isWrite)
    checkComputed(address, size: size, isWrite: isWrite, isAligned: isAligned)
    return .memory(base: GuestRegisters.second, index: GuestRegisters.first, scale: 0, displacement: 0)
  }

  /// Checks an access at the address in R11, which is off `address`, and has the distance to the host's page in RAX. The
  /// flags are destroyed.
  mutating func checkComputed(_ address: Address, size: Int, isWrite: Bool, isAligned: Bool = false) {
    let slot = slot(address)
    code.move(GuestRegisters.first, GuestRegisters.second)
    check(RefillRequest(slot: slot, isWrite: isWrite, size: size, isAligned: isAligned))
    // The slot may hold another page now than the one that a group off the same register was checked for.
    if isWrite { writeGroups[slot] = nil } else { readGroups[slot] = nil }
  }

  /// An access by an address that is a host register with a displacement.
  private mutating func access(_ request: OriginAccess, _ host: Int) -> HostOperand {
    let first = GuestRegisters.first
    let known = group(covering: request)
    if request.isAligned, !(known?.isAligned(request) ?? false) {
      destroyFlags()
      if request.displacement & Int32(request.size - 1) == 0 {
        testAlignment(host, request.size)
      } else {
        code.loadAddress(
          first, .memory(base: host, index: nil, scale: 0, displacement: request.displacement), size: 4)
        testAlignment(first, request.size)
      }
    }
    if let known {
      code.load(first, addend(ofSlot: slot(of: request), isWrite: known.isWrite))
    } else {
      let group = formGroup(request)
      destroyFlags()
      if group.start == 0 {
        code.move(first, host)
      } else {
        code.loadAddress(
          first, .memory(base: host, index: nil, scale: 0, displacement: Int32(truncatingIfNeeded: group.start)))
      }
      check(refillRequest(request, group))
      note(group, request)
    }
    return .memory(base: host, index: first, scale: 0, displacement: request.displacement)
  }

  /// An access by an address that is computed, into R11: it wraps as the guest's does, so that what is at the same distance
  /// from the origin is at the same place.
  private mutating func access(_ request: OriginAccess, _ address: Address) -> HostOperand {
    let (first, second) = (GuestRegisters.first, GuestRegisters.second)
    if let known = group(covering: request) {
      if request.isAligned, !known.isAligned(request) {
        destroyFlags()
        computeAddress(address)
        testAlignment(second, request.size)
      } else {
        computeAddress(address)
      }
      code.load(first, addend(ofSlot: slot(of: request), isWrite: known.isWrite))
    } else {
      let group = formGroup(request)
      var beginning = address
      beginning.displacement = Int32(truncatingIfNeeded: group.start)
      let distance = Int32(truncatingIfNeeded: Int64(request.displacement) - group.start)
      destroyFlags()
      computeAddress(beginning)
      var refill = refillRequest(request, group)
      if request.isAligned {
        if refill.isGroup {
          code.loadAddress(
            first, .memory(base: second, index: nil, scale: 0, displacement: distance), size: 4)
          testAlignment(first, request.size)
        } else {
          refill.isAligned = true
        }
      }
      code.move(first, second)
      check(refill)
      if distance != 0 {
        code.loadAddress(
          second, .memory(base: second, index: nil, scale: 0, displacement: distance), size: address.size)
      }
      note(group, request)
    }
    return .memory(base: second, index: first, scale: 0, displacement: 0)
  }

  /// Leaves unless the address in a register is a multiple of `size`. TEST of its lowest byte.
  private mutating func testAlignment(_ register: Int, _ size: Int) {
    code.instruction(
      .primary, 0xf6, reg: 0, .register(register), size: 1, hasByteRegister: true, immediate: Int64(size - 1),
      immediateSize: 1)
    leave(if: HostCondition.notZero)
  }

  /// Compares the address in RAX with a slot's page; then RAX is the distance to the host's page.
  private mutating func check(_ request: RefillRequest) {
    let miss = findPage(request)
    code.load(GuestRegisters.first, addend(ofSlot: request.slot, isWrite: request.isWrite))
    refill(request, at: miss, back: code.position)
  }

  /// Has the page of the address in RAX in a slot, with room for the access behind it; then RAX is the offset in the page.
  /// Returns the jump that is taken otherwise.
  mutating func findPage(_ request: RefillRequest) -> HostAssembler.Fixup {
    precondition((0..<Int(PageSlotCount)).contains(request.slot), "slots are in the frame")
    let first = GuestRegisters.first
    code.arithmetic(5, first, page(ofSlot: request.slot, isWrite: request.isWrite))
    guard request.isAligned else {
      code.instruction(
        .primary, 0x81, reg: 7, .register(first), size: 8, immediate: Int64(request.limit), immediateSize: 4)
      return code.jump(if: HostCondition.above)
    }
    // An offset that is aligned and leaves room has no other bits than the last such offset. TEST.
    code.instruction(
      .primary, 0xf7, reg: 0, .register(first), size: 8, immediate: Int64(~request.limit), immediateSize: 4)
    return code.jump(if: HostCondition.notZero)
  }

  /// The jump of `findPage` leads to a refill, which goes on at `back`.
  mutating func refill(_ request: RefillRequest, at miss: HostAssembler.Fixup, back: Int) {
    cold.append(.refill(miss, flagSource, request, back: back, operation: current))
  }

  /// The page that a slot has.
  func page(ofSlot slot: Int, isWrite: Bool) -> HostOperand {
    .frame(FrameOffset.slot(slotSet, slot) + (isWrite ? SlotOffset.writePage : SlotOffset.readPage))
  }

  /// The distance from there to the host's page.
  func addend(ofSlot slot: Int, isWrite: Bool) -> HostOperand {
    .frame(FrameOffset.slot(slotSet, slot) + (isWrite ? SlotOffset.writeAddend : SlotOffset.readAddend))
  }

  /// As `access`, with all of the host's address in R11, so that RAX is free.
  mutating func accessInSecond(_ address: Address, size: Int, isWrite: Bool) -> HostOperand {
    let operand = access(address, size: size, isWrite: isWrite)
    code.loadAddress(GuestRegisters.second, operand)
    return .memory(base: GuestRegisters.second, index: nil, scale: 0, displacement: 0)
  }

  // MARK: Stack

  /// Bytes of the stack pointer.
  var stackSize: Int { is64 ? 8 : mode.contains(.stack32) ? 4 : 2 }

  /// SS:[RSP + displacement].
  func stack(_ displacement: Int32) -> Address {
    var address = Address(base: GuestRegisters.rsp, scale: 0, displacement: displacement, size: stackSize)
    setSegment(&address, SegmentRegister.ss.rawValue)
    return address
  }

  mutating func moveStackPointer(by count: Int32) {
    let rsp = GuestRegisters.host(GuestRegisters.rsp).unsafelyUnwrapped
    code.loadAddress(rsp, .memory(base: rsp, index: nil, scale: 0, displacement: count), size: stackSize)
  }
}
