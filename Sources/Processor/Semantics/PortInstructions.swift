import CHost
import CZydis
import X86

/// IN, OUT, INS and OUTS, with IOPL and the I/O permission bit map (SDM vol. 1, 18.5).
///
/// A repeated INS or OUTS does one element at a time and branches to itself for the next: each is an instruction of its
/// own to the engine, with exact registers between them and interrupts taken there. INS is sure that it can write before
/// it reads the port.
enum PortInstructions {
  static let rows: [InstructionRow] = [
    InstructionRow(ZYDIS_MNEMONIC_IN, input),
    InstructionRow(ZYDIS_MNEMONIC_OUT, output),
    InstructionRow(ZYDIS_MNEMONIC_INSB) { (processor, op) throws(GuestFault) in
      try inputString(processor, op, as: UInt8.self)
    },
    InstructionRow(ZYDIS_MNEMONIC_INSW) { (processor, op) throws(GuestFault) in
      try inputString(processor, op, as: UInt16.self)
    },
    InstructionRow(ZYDIS_MNEMONIC_INSD) { (processor, op) throws(GuestFault) in
      try inputString(processor, op, as: UInt32.self)
    },
    InstructionRow(ZYDIS_MNEMONIC_OUTSB) { (processor, op) throws(GuestFault) in
      try outputString(processor, op, as: UInt8.self)
    },
    InstructionRow(ZYDIS_MNEMONIC_OUTSW) { (processor, op) throws(GuestFault) in
      try outputString(processor, op, as: UInt16.self)
    },
    InstructionRow(ZYDIS_MNEMONIC_OUTSD) { (processor, op) throws(GuestFault) in
      try outputString(processor, op, as: UInt32.self)
    },
  ]

  private static func dx(_ processor: SoftwareProcessor) -> UInt16 { processor.register(16, as: UInt16.self) }

  static func input(_ processor: SoftwareProcessor, _ op: Op) throws(GuestFault) -> Flow {
    let isImmediate = op.pointee.flags & OperationFlags.immediateSource.rawValue != 0
    let port = isImmediate ? UInt16(truncatingIfNeeded: op.pointee.immediate & 0xff) : dx(processor)
    let size = Int(op.pointee.size)
    try processor.checkPort(port, size: size)
    let value = try processor.portRead(port, size: size)
    switch size {
    case 1: processor.setRegister(0, UInt8(truncatingIfNeeded: value))
    case 2: processor.setRegister(0, UInt16(truncatingIfNeeded: value))
    default: processor.setRegister(0, value)
    }
    return .next
  }

  static func output(_ processor: SoftwareProcessor, _ op: Op) throws(GuestFault) -> Flow {
    let isImmediate = op.pointee.flags & OperationFlags.immediateFirst.rawValue != 0
    let port = isImmediate ? UInt16(truncatingIfNeeded: op.pointee.immediate & 0xff) : dx(processor)
    let size = Int(op.pointee.sourceSize)
    try processor.checkPort(port, size: size)
    let mask: UInt32 = size == 1 ? 0xff : size == 2 ? 0xffff : ~0
    processor.portWrite(port, size: size, value: processor.register(0, as: UInt32.self) & mask)
    return .next
  }

  // MARK: Strings

  /// Whether the repetition has come to its end before an element: rCX is zero.
  private static func isFinished(_ processor: SoftwareProcessor, _ op: Op) -> Bool {
    op.pointee.flags & (OperationFlags.rep.rawValue | OperationFlags.repNE.rawValue) != 0
      && processor.gpr(1) & op.pointee.addressMask == 0
  }

  /// Moves a pointer register by one element, as wide as the address size.
  private static func advance(_ processor: SoftwareProcessor, _ op: Op, register number: Int, by size: Int) {
    let step = UInt64(truncatingIfNeeded: processor.flag(RFLAGS.df) ? -size : size)
    set(processor, op, number, processor.gpr(number) &+ step)
  }

  private static func set(_ processor: SoftwareProcessor, _ op: Op, _ number: Int, _ value: UInt64) {
    let mask = op.pointee.addressMask
    processor.setGPR(number, mask == 0xffff ? processor.gpr(number) & ~mask | value & mask : value & mask)
  }

  /// Counts the element that was done; goes on at the same instruction if there are more.
  private static func finish(_ processor: SoftwareProcessor, _ op: Op) -> Flow {
    guard op.pointee.flags & (OperationFlags.rep.rawValue | OperationFlags.repNE.rawValue) != 0 else { return .next }
    set(processor, op, 1, processor.gpr(1) &- 1)
    guard processor.gpr(1) & op.pointee.addressMask != 0 else { return .next }
    processor.cpu.pointee.rip = processor.truncateToCode(processor.address(of: op))
    return .branchAndSerialize
  }

  private static func inputString<T: Word>(_ processor: SoftwareProcessor, _ op: Op, as type: T.Type)
    throws(GuestFault) -> Flow
  {
    let port = dx(processor)
    let size = MemoryLayout<T>.size
    // Also where the count is zero.
    try processor.checkPort(port, size: size)
    if isFinished(processor, op) { return .next }
    let address = try processor.linearAddress(
      segment: SegmentRegister.es.rawValue, offset: processor.gpr(7) & op.pointee.addressMask, count: size, for: .write)
    try processor.checkWritable(address, count: size)
    let value = try processor.portRead(port, size: size)
    try processor.store(T(truncatingIfNeeded: value), at: address)
    advance(processor, op, register: 7, by: size)
    return finish(processor, op)
  }

  private static func outputString<T: Word>(_ processor: SoftwareProcessor, _ op: Op, as type: T.Type)
    throws(GuestFault) -> Flow
  {
    let port = dx(processor)
    let size = MemoryLayout<T>.size
    // Also where the count is zero.
    try processor.checkPort(port, size: size)
    if isFinished(processor, op) { return .next }
    let address = try processor.linearAddress(
      segment: Int(op.pointee.segmentRegister), offset: processor.gpr(6) & op.pointee.addressMask, count: size,
      for: .read)
    let value = try processor.load(address, as: T.self)
    processor.portWrite(port, size: size, value: UInt32(truncatingIfNeeded: value))
    advance(processor, op, register: 6, by: size)
    return finish(processor, op)
  }
}

extension SoftwareProcessor {
  /// #GP(0) unless CPL is at most IOPL outside virtual-8086 mode, or the 32-bit TSS's bit map has clear bits for all
  /// ports of the access. Notes port breakpoints.
  func checkPort(_ port: UInt16, size: Int) throws(GuestFault) {
    notePortAccess(port, count: size)
    let isFree = UInt64(cpu.pointee.cpl) <= cpu.pointee.rflags >> 12 & 3 && !isVirtual8086
    guard isProtectedMode, !isFree else { return }
    let task = cpu.pointee.tr
    guard task.attributes & SegmentAttributes.present != 0, task.attributes & 8 != 0, task.limit >= 0x67 else {
      throw .generalProtection()
    }
    let map = UInt64(try loadSystem(systemAddress(task.base, 0x66), as: UInt16.self))
    let offset = map &+ UInt64(port >> 3)
    // Two bytes are read, always: the ports may lie in both.
    guard offset &+ 1 <= UInt64(task.limit) else { throw .generalProtection() }
    let bits = try loadSystem(systemAddress(task.base, offset), as: UInt16.self)
    let mask = ((1 as UInt16) << UInt16(size)) - 1
    guard bits >> (port & 7) & mask == 0 else { throw .generalProtection() }
  }
}
