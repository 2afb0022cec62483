import CHost
import CZydis
import X86

/// BT, BTS, BTR and BTC.
enum BitTests {
  static let rows: [InstructionRow] = [
    InstructionRow(ZYDIS_MNEMONIC_BT, test),
    InstructionRow(ZYDIS_MNEMONIC_BTS, set),
    InstructionRow(ZYDIS_MNEMONIC_BTR, reset),
    InstructionRow(ZYDIS_MNEMONIC_BTC, complement),
  ]

  private enum Change { case none, set, reset, complement }

  static func test(_ processor: SoftwareProcessor, _ op: Op) throws(GuestFault) -> Flow {
    try execute(processor, op, .none)
  }

  static func set(_ processor: SoftwareProcessor, _ op: Op) throws(GuestFault) -> Flow {
    try execute(processor, op, .set)
  }

  static func reset(_ processor: SoftwareProcessor, _ op: Op) throws(GuestFault) -> Flow {
    try execute(processor, op, .reset)
  }

  static func complement(_ processor: SoftwareProcessor, _ op: Op) throws(GuestFault) -> Flow {
    try execute(processor, op, .complement)
  }

  @inline(__always)
  private static func execute(_ processor: SoftwareProcessor, _ op: Op, _ change: Change) throws(GuestFault) -> Flow {
    switch op.pointee.size {
    case 2: try execute(processor, op, change, UInt16.self)
    case 4: try execute(processor, op, change, UInt32.self)
    default: try execute(processor, op, change, UInt64.self)
    }
  }

  @inline(__always)
  private static func execute<T: Word>(
    _ processor: SoftwareProcessor, _ op: Op, _ change: Change, _ type: T.Type
  ) throws(GuestFault) -> Flow {
    let isImmediate = op.pointee.flags & OperationFlags.immediateSource.rawValue != 0
    let offset =
      isImmediate
      ? T(truncatingIfNeeded: op.pointee.immediate) : processor.register(op.pointee.source, as: T.self)
    let bit = (1 as T) &<< offset
    let old: T
    if op.pointee.flags & OperationFlags.memoryFirst.rawValue == 0 {
      old = processor.register(op.pointee.destination, as: T.self)
      if change != .none { processor.setRegister(op.pointee.destination, changed(old, bit, change)) }
    } else {
      let address = try processor.linearAddress(
        segment: Int(op.pointee.segmentRegister),
        offset: isImmediate ? processor.effectiveAddress(op) : stringAddress(processor, op, offset),
        count: MemoryLayout<T>.size, for: change == .none ? .read : .write)
      if change == .none {
        old = try processor.load(address, as: T.self)
      } else {
        let isLocked = op.pointee.flags & OperationFlags.lock.rawValue != 0
        old = try processor.update(address, isLocked: isLocked) { changed($0, bit, change) }
      }
    }
    processor.setFlags(.bitTest, .bitTest(old, bit: offset & T(truncatingIfNeeded: T.bitWidth &- 1)))
    return .next
  }

  /// A register is a signed offset into a bit string, which its operand-sized part is taken from.
  private static func stringAddress<T: Word>(_ processor: SoftwareProcessor, _ op: Op, _ offset: T) -> UInt64 {
    let unused = Int64(64 - T.bitWidth)
    let signed = (Int64(truncatingIfNeeded: offset) &<< unused) &>> unused
    let bytes = (signed &>> Int64(T.bitWidth.trailingZeroBitCount)) &* Int64(MemoryLayout<T>.size)
    return (processor.effectiveAddress(op) &+ UInt64(bitPattern: bytes)) & op.pointee.addressMask
  }

  @inline(__always)
  private static func changed<T: Word>(_ value: T, _ bit: T, _ change: Change) -> T {
    switch change {
    case .none: value
    case .set: value | bit
    case .reset: value & ~bit
    case .complement: value ^ bit
    }
  }
}
