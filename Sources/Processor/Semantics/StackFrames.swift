import CHost
import CZydis
import X86

/// ENTER, LEAVE, PUSHA and POPA. Registers change when the last access has succeeded.
enum StackFrames {
  static let rows: [InstructionRow] = [
    InstructionRow(ZYDIS_MNEMONIC_ENTER, enter),
    InstructionRow(ZYDIS_MNEMONIC_LEAVE, leave),
    InstructionRow(ZYDIS_MNEMONIC_PUSHA, pushAll),
    InstructionRow(ZYDIS_MNEMONIC_PUSHAD, pushAll),
    InstructionRow(ZYDIS_MNEMONIC_POPA, popAll),
    InstructionRow(ZYDIS_MNEMONIC_POPAD, popAll),
  ]

  private static let stack = 4
  private static let frame = 5

  /// `op.size` is the operand size (not that of the immediate).
  static func enter(_ processor: SoftwareProcessor, _ op: Op) throws(GuestFault) -> Flow {
    let size = Int(op.pointee.size)
    let step = UInt64(op.pointee.size)
    let level = op.pointee.detail & 31
    var pointer = processor.truncateToStack(processor.stackPointer &- step)
    try processor.storeStack(processor.gpr(frame), offset: pointer, size: size)
    // All of ESP, also where the stack has 16 bits.
    let newFrame = processor.stackSize == 2 ? processor.gpr(stack) & 0xffff_0000 | pointer : pointer
    if level > 0 {
      var outer = processor.truncateToStack(processor.gpr(frame))
      for _ in 1..<level {
        outer = processor.truncateToStack(outer &- step)
        pointer = processor.truncateToStack(pointer &- step)
        try processor.storeStack(loadStack(processor, offset: outer, size: size), offset: pointer, size: size)
      }
      pointer = processor.truncateToStack(pointer &- step)
      try processor.storeStack(newFrame, offset: pointer, size: size)
    }
    pointer = processor.truncateToStack(pointer &- (op.pointee.immediate & 0xffff))
    // A write at the final stack pointer must be possible.
    let end = try processor.linearAddress(
      segment: SegmentRegister.ss.rawValue, offset: pointer, count: size, for: .write)
    try processor.checkWritable(end, count: size)
    setRegister(processor, frame, newFrame, size: size)
    processor.stackPointer = pointer
    return .next
  }

  static func leave(_ processor: SoftwareProcessor, _ op: Op) throws(GuestFault) -> Flow {
    let size = Int(op.pointee.size)
    let offset = processor.truncateToStack(processor.gpr(frame))
    let value = try loadStack(processor, offset: offset, size: size)
    processor.stackPointer = processor.truncateToStack(offset &+ UInt64(op.pointee.size))
    setRegister(processor, frame, value, size: size)
    return .next
  }

  static func pushAll(_ processor: SoftwareProcessor, _ op: Op) throws(GuestFault) -> Flow {
    var pointer = processor.stackPointer
    for number in 0..<8 {
      pointer = processor.truncateToStack(pointer &- UInt64(op.pointee.size))
      try processor.storeStack(processor.gpr(number), offset: pointer, size: Int(op.pointee.size))
    }
    processor.stackPointer = pointer
    return .next
  }

  static func popAll(_ processor: SoftwareProcessor, _ op: Op) throws(GuestFault) -> Flow {
    let size = Int(op.pointee.size)
    var values: (UInt64, UInt64, UInt64, UInt64, UInt64, UInt64, UInt64)
    values.0 = try processor.peekStack(0, size: size)
    values.1 = try processor.peekStack(size, size: size)
    values.2 = try processor.peekStack(2 * size, size: size)
    values.3 = try processor.peekStack(4 * size, size: size)
    values.4 = try processor.peekStack(5 * size, size: size)
    values.5 = try processor.peekStack(6 * size, size: size)
    values.6 = try processor.peekStack(7 * size, size: size)
    processor.stackPointer = processor.truncateToStack(processor.stackPointer &+ UInt64(8 * size))
    setRegister(processor, 7, values.0, size: size)
    setRegister(processor, 6, values.1, size: size)
    setRegister(processor, frame, values.2, size: size)
    setRegister(processor, 3, values.3, size: size)
    setRegister(processor, 2, values.4, size: size)
    setRegister(processor, 1, values.5, size: size)
    setRegister(processor, 0, values.6, size: size)
    return .next
  }

  private static func loadStack(
    _ processor: SoftwareProcessor, offset: UInt64, size: Int
  ) throws(GuestFault) -> UInt64 {
    let address = try processor.linearAddress(
      segment: SegmentRegister.ss.rawValue, offset: offset, count: size, for: .read)
    return switch size {
    case 2: UInt64(try processor.load(address, as: UInt16.self))
    case 4: UInt64(try processor.load(address, as: UInt32.self))
    default: try processor.load(address, as: UInt64.self)
    }
  }

  private static func setRegister(_ processor: SoftwareProcessor, _ number: Int, _ value: UInt64, size: Int) {
    let offset = UInt8(truncatingIfNeeded: number &* 8)
    switch size {
    case 2: processor.setRegister(offset, UInt16(truncatingIfNeeded: value))
    case 4: processor.setRegister(offset, UInt32(truncatingIfNeeded: value))
    default: processor.setRegister(offset, value)
    }
  }
}
