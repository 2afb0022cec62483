import CHost
import CZydis
import X86

/// XCHG, CMPXCHG, CMPXCHG8B, CMPXCHG16B and XADD.
///
/// With a memory operand their faults are always those of a write, also where the comparison fails: the old value is
/// then written back.
enum Atomics {
  static let rows: [InstructionRow] = [
    InstructionRow(ZYDIS_MNEMONIC_XCHG, exchange),
    InstructionRow(ZYDIS_MNEMONIC_CMPXCHG, compareExchange),
    InstructionRow(ZYDIS_MNEMONIC_CMPXCHG8B, compareExchange8),
    InstructionRow(ZYDIS_MNEMONIC_CMPXCHG16B, compareExchange16),
    InstructionRow(ZYDIS_MNEMONIC_XADD, exchangeAdd),
  ]

  private static func isLocked(_ op: Op) -> Bool { op.pointee.flags & OperationFlags.lock.rawValue != 0 }

  // MARK: XCHG

  static func exchange(_ processor: SoftwareProcessor, _ op: Op) throws(GuestFault) -> Flow {
    switch op.pointee.size {
    case 1: try exchange(processor, op, UInt8.self)
    case 2: try exchange(processor, op, UInt16.self)
    case 4: try exchange(processor, op, UInt32.self)
    default: try exchange(processor, op, UInt64.self)
    }
  }

  /// Locked with memory, whether or not there is a prefix.
  private static func exchange<T: Word>(
    _ processor: SoftwareProcessor, _ op: Op, _: T.Type
  ) throws(GuestFault) -> Flow {
    let isMemoryFirst = op.pointee.flags & OperationFlags.memoryFirst.rawValue != 0
    if isMemoryFirst || op.pointee.flags & OperationFlags.memorySource.rawValue != 0 {
      let register = isMemoryFirst ? op.pointee.source : op.pointee.destination
      let value = processor.register(register, as: T.self)
      let address = try processor.operandAddress(op, count: MemoryLayout<T>.size, for: .write)
      processor.setRegister(register, try processor.update(address, isLocked: true) { (_: T) in value })
    } else {
      let first = processor.register(op.pointee.destination, as: T.self)
      processor.setRegister(op.pointee.destination, processor.register(op.pointee.source, as: T.self))
      processor.setRegister(op.pointee.source, first)
    }
    return .next
  }

  // MARK: XADD

  static func exchangeAdd(_ processor: SoftwareProcessor, _ op: Op) throws(GuestFault) -> Flow {
    switch op.pointee.size {
    case 1: try exchangeAdd(processor, op, UInt8.self)
    case 2: try exchangeAdd(processor, op, UInt16.self)
    case 4: try exchangeAdd(processor, op, UInt32.self)
    default: try exchangeAdd(processor, op, UInt64.self)
    }
  }

  /// The destination is written last: the sum wins where both operands are one register.
  private static func exchangeAdd<T: Word>(
    _ processor: SoftwareProcessor, _ op: Op, _: T.Type
  ) throws(GuestFault) -> Flow {
    let addend = processor.register(op.pointee.source, as: T.self)
    let old: T
    if op.pointee.flags & OperationFlags.memoryFirst.rawValue != 0 {
      old = try processor.updateFirstOperand(op) { $0 &+ addend }
      processor.setRegister(op.pointee.source, old)
    } else {
      old = processor.register(op.pointee.destination, as: T.self)
      processor.setRegister(op.pointee.source, old)
      processor.setRegister(op.pointee.destination, old &+ addend)
    }
    processor.setFlags(RFLAGS.arithmetic, ArithmeticFlags.sum(old, addend))
    return .next
  }

  // MARK: CMPXCHG

  static func compareExchange(_ processor: SoftwareProcessor, _ op: Op) throws(GuestFault) -> Flow {
    switch op.pointee.size {
    case 1: try compareExchange(processor, op, UInt8.self)
    case 2: try compareExchange(processor, op, UInt16.self)
    case 4: try compareExchange(processor, op, UInt32.self)
    default: try compareExchange(processor, op, UInt64.self)
    }
  }

  /// Exactly one of accumulator and register destination is written, so only that one's upper half is cleared.
  private static func compareExchange<T: Word>(
    _ processor: SoftwareProcessor, _ op: Op, _: T.Type
  ) throws(GuestFault) -> Flow {
    let accumulator = processor.register(0, as: T.self)
    let desired = processor.register(op.pointee.source, as: T.self)
    let old: T
    if op.pointee.flags & OperationFlags.memoryFirst.rawValue != 0 {
      old = try processor.updateFirstOperand(op) { $0 == accumulator ? desired : $0 }
    } else {
      old = processor.register(op.pointee.destination, as: T.self)
      if old == accumulator { processor.setRegister(op.pointee.destination, desired) }
    }
    if old != accumulator { processor.setRegister(0, old) }
    processor.setFlags(RFLAGS.arithmetic, ArithmeticFlags.difference(accumulator, old))
    return .next
  }

  static func compareExchange8(_ processor: SoftwareProcessor, _ op: Op) throws(GuestFault) -> Flow {
    let expected = pair(processor, high: 2, low: 0)
    let desired = pair(processor, high: 1, low: 3)
    let address = try processor.operandAddress(op, count: 8, for: .write)
    let old = try processor.update(address, isLocked: isLocked(op)) { (value: UInt64) in
      value == expected ? desired : value
    }
    if old != expected {
      processor.setGPR(0, old & 0xffff_ffff)
      processor.setGPR(2, old >> 32)
    }
    processor.setFlags(RFLAGS.zf, old == expected ? RFLAGS.zf : 0)
    return .next
  }

  private static func pair(_ processor: SoftwareProcessor, high: Int, low: Int) -> UInt64 {
    processor.gpr(high) << 32 | processor.gpr(low) & 0xffff_ffff
  }

  // MARK: CMPXCHG16B

  static func compareExchange16(_ processor: SoftwareProcessor, _ op: Op) throws(GuestFault) -> Flow {
    let expected = Wide(low: processor.gpr(0), high: processor.gpr(2))
    let desired = Wide(low: processor.gpr(3), high: processor.gpr(1))
    try processor.checkAlignment(op, to: 16)
    let address = try processor.operandAddress(op, count: 16, for: .write)
    let old = try exchange(processor, address, expected, desired)
    if old != expected {
      processor.setGPR(0, old.low)
      processor.setGPR(2, old.high)
    }
    processor.setFlags(RFLAGS.zf, old == expected ? RFLAGS.zf : 0)
    return .next
  }

  private struct Wide: Equatable {
    var low: UInt64
    var high: UInt64
  }

  /// Atomic in RAM with or without LOCK. Returns the old value.
  private static func exchange(
    _ processor: SoftwareProcessor, _ address: UInt64, _ expected: Wide, _ desired: Wide
  ) throws(GuestFault) -> Wide {
    try processor.checkWritable(address, count: 16)
    if let host = processor.writeHit(address, 16) { return exchange(host, expected, desired) }
    let physical = try processor.translate(address, for: .write, rights: .current)
    if let page = processor.memory.plainHostPage(of: physical) {
      let old = exchange(page + Int(physical.rawValue & 0xfff), expected, desired)
      processor.noteWrite(physical, count: 16)
      return old
    }
    let old = Wide(low: try processor.load(address), high: try processor.load(address &+ 8))
    let new = old == expected ? desired : old
    try processor.store(new.low, at: address)
    try processor.store(new.high, at: address &+ 8)
    return old
  }

  private static func exchange(_ host: UnsafeMutableRawPointer, _ expected: Wide, _ desired: Wide) -> Wide {
    var words = [expected.low, expected.high]
    _ = hostCompareExchange16(host, &words, desired.low, desired.high)
    return Wide(low: words[0], high: words[1])
  }
}
