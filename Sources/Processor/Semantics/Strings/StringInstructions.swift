import CHost
import CZydis
import X86

/// MOVS, CMPS, SCAS, LODS and STOS (SDM vol. 1, 7.3.9), with and without REP.
///
/// A repeated instruction is done in runs: as many elements as lie on one page of RAM, at source and at destination. A
/// run is a loop over host memory and cannot fail. Between runs, and for whatever is not such a page (an element across a
/// boundary, a device, a page that is watched or holds code, one that faults), there are single elements through the
/// ordinary accessors.
///
/// Registers are brought up to date after each run or element, so a fault in the next one finds them as the manual
/// wants them. The instruction interrupts itself, by branching to itself through the outer loop, when somebody asks for
/// attention, under TF, and after an element that a device took part in: answers from outside then belong to one
/// element.
enum StringInstructions {
  // These mnemonics are also those of SSE2's MOVSD and CMPSD, which the native unit takes before rows are looked at.
  static let rows: [InstructionRow] = [
    InstructionRow(ZYDIS_MNEMONIC_MOVSB, move),
    InstructionRow(ZYDIS_MNEMONIC_MOVSW, move),
    InstructionRow(ZYDIS_MNEMONIC_MOVSD, move),
    InstructionRow(ZYDIS_MNEMONIC_MOVSQ, move),
    InstructionRow(ZYDIS_MNEMONIC_CMPSB, compare),
    InstructionRow(ZYDIS_MNEMONIC_CMPSW, compare),
    InstructionRow(ZYDIS_MNEMONIC_CMPSD, compare),
    InstructionRow(ZYDIS_MNEMONIC_CMPSQ, compare),
    InstructionRow(ZYDIS_MNEMONIC_SCASB, scan),
    InstructionRow(ZYDIS_MNEMONIC_SCASW, scan),
    InstructionRow(ZYDIS_MNEMONIC_SCASD, scan),
    InstructionRow(ZYDIS_MNEMONIC_SCASQ, scan),
    InstructionRow(ZYDIS_MNEMONIC_LODSB, loadAccumulator),
    InstructionRow(ZYDIS_MNEMONIC_LODSW, loadAccumulator),
    InstructionRow(ZYDIS_MNEMONIC_LODSD, loadAccumulator),
    InstructionRow(ZYDIS_MNEMONIC_LODSQ, loadAccumulator),
    InstructionRow(ZYDIS_MNEMONIC_STOSB, storeAccumulator),
    InstructionRow(ZYDIS_MNEMONIC_STOSW, storeAccumulator),
    InstructionRow(ZYDIS_MNEMONIC_STOSD, storeAccumulator),
    InstructionRow(ZYDIS_MNEMONIC_STOSQ, storeAccumulator),
  ]

  private static let counter = 1
  private static let sourceIndex = 6
  private static let destinationIndex = 7

  static func move(_ processor: SoftwareProcessor, _ op: Op) throws(GuestFault) -> Flow {
    switch op.pointee.size {
    case 1: try execute(StringMove<UInt8>(), processor, op)
    case 2: try execute(StringMove<UInt16>(), processor, op)
    case 4: try execute(StringMove<UInt32>(), processor, op)
    default: try execute(StringMove<UInt64>(), processor, op)
    }
  }

  static func storeAccumulator(_ processor: SoftwareProcessor, _ op: Op) throws(GuestFault) -> Flow {
    let value = processor.gpr(0)
    return switch op.pointee.size {
    case 1: try execute(StringStore(value: UInt8(truncatingIfNeeded: value)), processor, op)
    case 2: try execute(StringStore(value: UInt16(truncatingIfNeeded: value)), processor, op)
    case 4: try execute(StringStore(value: UInt32(truncatingIfNeeded: value)), processor, op)
    default: try execute(StringStore(value: value), processor, op)
    }
  }

  static func loadAccumulator(_ processor: SoftwareProcessor, _ op: Op) throws(GuestFault) -> Flow {
    switch op.pointee.size {
    case 1: try execute(StringLoad<UInt8>(), processor, op)
    case 2: try execute(StringLoad<UInt16>(), processor, op)
    case 4: try execute(StringLoad<UInt32>(), processor, op)
    default: try execute(StringLoad<UInt64>(), processor, op)
    }
  }

  static func compare(_ processor: SoftwareProcessor, _ op: Op) throws(GuestFault) -> Flow {
    let endsWhenEqual = endsWhenEqual(op)
    return switch op.pointee.size {
    case 1: try execute(StringCompare<UInt8>(endsWhenEqual: endsWhenEqual), processor, op)
    case 2: try execute(StringCompare<UInt16>(endsWhenEqual: endsWhenEqual), processor, op)
    case 4: try execute(StringCompare<UInt32>(endsWhenEqual: endsWhenEqual), processor, op)
    default: try execute(StringCompare<UInt64>(endsWhenEqual: endsWhenEqual), processor, op)
    }
  }

  static func scan(_ processor: SoftwareProcessor, _ op: Op) throws(GuestFault) -> Flow {
    let value = processor.gpr(0)
    let ends = endsWhenEqual(op)
    return switch op.pointee.size {
    case 1: try execute(StringScan(value: UInt8(truncatingIfNeeded: value), endsWhenEqual: ends), processor, op)
    case 2: try execute(StringScan(value: UInt16(truncatingIfNeeded: value), endsWhenEqual: ends), processor, op)
    case 4: try execute(StringScan(value: UInt32(truncatingIfNeeded: value), endsWhenEqual: ends), processor, op)
    default: try execute(StringScan(value: value, endsWhenEqual: ends), processor, op)
    }
  }

  private static func endsWhenEqual(_ op: Op) -> Bool { op.pointee.flags & OperationFlags.repNE.rawValue != 0 }

  // MARK: Repetition

  /// Under a prefix that means nothing to the instruction (REPNE MOVS) processors repeat as under REP.
  private static func execute<O: StringOperation>(
    _ operation: O, _ processor: SoftwareProcessor, _ op: Op
  ) throws(GuestFault) -> Flow {
    var operation = operation
    let cpu = processor.cpu
    guard op.pointee.flags & (OperationFlags.rep.rawValue | OperationFlags.repNE.rawValue) != 0 else {
      _ = try step(&operation, processor, op)
      operation.finish(processor)
      advance(O.self, by: 1, processor, op)
      return .next
    }
    var count = processor.gpr(counter) & op.pointee.addressMask
    if count == 0 { return .next }
    let isStepping = cpu.pointee.rflags & RFLAGS.tf != 0
    while true {
      var (done, isEnd) = isStepping ? (0, false) : run(&operation, processor, op, limit: count)
      if done == 0 {
        isEnd = try step(&operation, processor, op)
        done = 1
      }
      count &-= UInt64(truncatingIfNeeded: done)
      operation.finish(processor)
      advance(O.self, by: done, processor, op)
      setAddressRegister(counter, count, processor, op)
      if count == 0 || isEnd { return .next }
      if isStepping || cpu.pointee.engine.stopReason != 0 || !processor.replay.isEmpty || wantsAttention(cpu) {
        cpu.pointee.rip = processor.truncateToCode(processor.address(of: op))
        return .branchAndSerialize
      }
    }
  }

  private static func wantsAttention(_ cpu: CPU) -> Bool {
    guard let attention = cpu.pointee.engine.attention else { return false }
    return attentionLoad(attention) != 0
  }

  private static func step<O: StringOperation>(
    _ operation: inout O, _ processor: SoftwareProcessor, _ op: Op
  ) throws(GuestFault) -> Bool {
    try operation.step(processor) { () throws(GuestFault) in
      try processor.linearAddress(
        segment: Int(op.pointee.segmentRegister), offset: processor.gpr(sourceIndex) & op.pointee.addressMask,
        count: O.size, for: .read)
    } destination: { () throws(GuestFault) in
      try processor.linearAddress(
        segment: SegmentRegister.es.rawValue, offset: processor.gpr(destinationIndex) & op.pointee.addressMask,
        count: O.size, for: O.destinationAccess ?? .read)
    }
  }

  /// As many elements as are in reach of host memory at once; none if the next one is not.
  private static func run<O: StringOperation>(
    _ operation: inout O, _ processor: SoftwareProcessor, _ op: Op, limit: UInt64
  ) -> (done: Int, isEnd: Bool) {
    let isDescending = processor.flag(RFLAGS.df)
    var count = Int(truncatingIfNeeded: min(limit, 4096))
    var source: UInt64 = 0
    var destination: UInt64 = 0
    if O.hasSource {
      let place = reach(
        O.self, processor, op, segment: Int(op.pointee.segmentRegister), index: sourceIndex, for: .read,
        isDescending: isDescending, limit: count)
      (source, count) = (place.address, place.count)
    }
    if let access = O.destinationAccess {
      let place = reach(
        O.self, processor, op, segment: SegmentRegister.es.rawValue, index: destinationIndex, for: access,
        isDescending: isDescending, limit: count)
      (destination, count) = (place.address, place.count)
    }
    guard count > 0 else { return (0, false) }
    let bytes = count &* O.size
    let toLowest = UInt64(truncatingIfNeeded: isDescending ? bytes &- O.size : 0)
    var (sourceHost, destinationHost) = (nowhere, nowhere)
    if O.hasSource { sourceHost = hold(processor, source &- toLowest, bytes, for: .read) }
    guard let sourceHost else { return (0, false) }
    if let access = O.destinationAccess {
      destinationHost = hold(processor, destination &- toLowest, bytes, for: access)
    }
    guard let destinationHost else { return (0, false) }
    let toFirst = Int(truncatingIfNeeded: toLowest)
    return operation.run(
      source: sourceHost + toFirst, destination: destinationHost + toFirst, count: count, isDescending: isDescending)
  }

  /// Host address of a stretch of one page, whose translation is made if need be: it stays good when the other operand's
  /// takes its place in the TLB. Nil where each access is to take the slow path. So is a fault left to the single
  /// element, which raises it in its turn.
  private static func hold(
    _ processor: SoftwareProcessor, _ address: UInt64, _ count: Int, for access: AccessKind
  ) -> UnsafeMutableRawPointer? {
    func find() -> UnsafeMutableRawPointer? {
      access == .write ? processor.writeHit(address, count) : processor.readHit(address, count)
    }
    if let host = find() { return host }
    guard (try? processor.translate(address, for: access, rights: .current)) != nil else { return nil }
    return find()
  }

  /// Stands for an operand that there is none of.
  private static var nowhere: UnsafeMutableRawPointer? { UnsafeMutableRawPointer(bitPattern: 4096) }

  /// Linear address of the next element at one pointer, and how many elements from it on, at most `limit`, lie on its
  /// page, within its segment and before the pointer wraps.
  private static func reach<O: StringOperation>(
    _: O.Type, _ processor: SoftwareProcessor, _ op: Op, segment: Int, index: Int, for access: AccessKind,
    isDescending: Bool, limit: Int
  ) -> (address: UInt64, count: Int) {
    let mask = op.pointee.addressMask
    let offset = processor.gpr(index) & mask
    let base = processor.isLongMode64 && segment < SegmentRegister.fs.rawValue ? 0 : processor.segment(segment).base
    let address = processor.linear(base &+ offset)
    let inPage = address & 0xfff
    let size = UInt64(O.size)
    // A TLB hit is proof enough for the first element except for limits and types of segments.
    let room: UInt64
    if isDescending {
      guard inPage &+ size <= 4096, mask &- offset >= size &- 1 else { return (address, 0) }
      room = min(inPage, offset) / size &+ 1
    } else {
      room = (min(4095 &- inPage, mask &- offset) &+ 1) / size
    }
    let count = min(limit, Int(truncatingIfNeeded: room))
    guard count > 0 else { return (address, 0) }
    if !processor.isLongMode64 {
      let bytes = count &* O.size
      let lowest = isDescending ? offset &- UInt64(truncatingIfNeeded: bytes) &+ size : offset
      do {
        _ = try processor.linearAddress(segment: segment, offset: lowest, count: bytes, for: access)
      } catch {
        return (address, 0)
      }
    }
    return (address, count)
  }

  // MARK: Registers

  private static func advance<O: StringOperation>(_: O.Type, by count: Int, _ processor: SoftwareProcessor, _ op: Op) {
    let distance = UInt64(truncatingIfNeeded: count &* O.stride(processor.flag(RFLAGS.df)))
    if O.hasSource {
      setAddressRegister(sourceIndex, processor.gpr(sourceIndex) &+ distance, processor, op)
    }
    if O.destinationAccess != nil {
      setAddressRegister(destinationIndex, processor.gpr(destinationIndex) &+ distance, processor, op)
    }
  }

  /// Writes a register with the width of addresses: 32 bits clear the upper half, 16 leave the rest.
  private static func setAddressRegister(_ number: Int, _ value: UInt64, _ processor: SoftwareProcessor, _ op: Op) {
    let mask = op.pointee.addressMask
    let kept = mask == 0xffff ? processor.gpr(number) & ~mask : 0
    processor.setGPR(number, kept | value & mask)
  }
}
