import CHost
import X86

/// Operands of the running instruction, by its `Operation`.
///
/// Sizes are the type's: `UInt8` to `UInt64`. Register writes of 32 bits clear the upper half, narrower ones leave it.
extension SoftwareProcessor {
  /// Linear address (RIP plus CS base is the caller's affair) of an instruction, as RIP has it.
  @inline(__always) func address(of op: Op) -> UInt64 { cpu.pointee.rip &+ UInt64(op.pointee.offset) }

  /// RIP of the instruction after `op`, before truncation to the code mode's width.
  @inline(__always) func nextAddress(after op: Op) -> UInt64 {
    cpu.pointee.rip &+ UInt64(op.pointee.offset) &+ UInt64(op.pointee.length)
  }

  /// A general register by its byte offset in `CPUState` (`Operation.destination`, `source`, `third`).
  @inline(__always) func register<T: FixedWidthInteger & BitwiseCopyable>(_ offset: UInt8, as type: T.Type) -> T {
    UnsafeRawPointer(cpu).loadUnaligned(fromByteOffset: Int(offset), as: T.self)
  }

  @inline(__always) func setRegister<T: FixedWidthInteger & BitwiseCopyable>(_ offset: UInt8, _ value: T) {
    let base = UnsafeMutableRawPointer(cpu)
    if T.bitWidth == 32 {
      base.storeBytes(
        of: UInt64(UInt32(truncatingIfNeeded: value)), toByteOffset: Int(offset), as: UInt64.self)
    } else {
      base.storeBytes(of: value, toByteOffset: Int(offset), as: T.self)
    }
  }

  /// General register by its architectural number, 0 to 15, all 64 bits.
  @inline(__always) func gpr(_ number: Int) -> UInt64 {
    register(UInt8(truncatingIfNeeded: number &* 8), as: UInt64.self)
  }
  @inline(__always) func setGPR(_ number: Int, _ value: UInt64) {
    setRegister(UInt8(truncatingIfNeeded: number &* 8), value)
  }

  /// Offset of the memory operand within its segment, wrapped to the address size.
  @inline(__always) func effectiveAddress(_ op: Op) -> UInt64 {
    if op.pointee.flags & OperationFlags.absoluteAddress.rawValue != 0 { return op.pointee.immediate }
    return
      (register(op.pointee.base, as: UInt64.self)
      &+ (register(op.pointee.index, as: UInt64.self) &<< UInt64(op.pointee.scale))
      &+ UInt64(truncatingIfNeeded: op.pointee.displacement)) & op.pointee.addressMask
  }

  /// Linear address of the memory operand, after segment checks for `count` bytes (limit and type outside 64-bit mode,
  /// canonical form in it): #GP(0), or #SS(0) through SS.
  func operandAddress(_ op: Op, count: Int, for access: AccessKind) throws(GuestFault) -> UInt64 {
    try linearAddress(
      segment: Int(op.pointee.segmentRegister), offset: effectiveAddress(op), count: count, for: access)
  }

  /// #GP(0) unless the memory operand is aligned to `alignment` bytes, a power of two. Vector instructions look at
  /// this before the segment's limit, so it is #GP through SS too.
  func checkAlignment(_ op: Op, to alignment: Int) throws(GuestFault) {
    let number = Int(op.pointee.segmentRegister)
    let base = isLongMode64 && number < SegmentRegister.fs.rawValue ? 0 : segment(number).base
    guard (base &+ effectiveAddress(op)) & UInt64(alignment - 1) == 0 else { throw .generalProtection() }
  }

  /// First operand, register or memory, read only.
  func firstOperand<T: FixedWidthInteger & BitwiseCopyable>(_ op: Op, as type: T.Type) throws(GuestFault) -> T {
    guard op.pointee.flags & OperationFlags.memoryFirst.rawValue != 0 else {
      return register(op.pointee.destination, as: T.self)
    }
    return try load(operandAddress(op, count: MemoryLayout<T>.size, for: .read), as: T.self)
  }

  /// Second operand: register, memory or immediate.
  func secondOperand<T: FixedWidthInteger & BitwiseCopyable>(_ op: Op, as type: T.Type) throws(GuestFault) -> T {
    if op.pointee.flags & OperationFlags.memorySource.rawValue != 0 {
      return try load(operandAddress(op, count: MemoryLayout<T>.size, for: .read), as: T.self)
    }
    if op.pointee.flags & OperationFlags.immediateSource.rawValue != 0 {
      return T(truncatingIfNeeded: op.pointee.immediate)
    }
    return register(op.pointee.source, as: T.self)
  }

  /// Far pointer in memory: an offset of the operand's size, then the selector. On AMD's processors the offset has 32 bits
  /// with REX.W, too (APM vol. 3, JMP (Far) and LSS).
  func farPointerOperand(_ op: Op) throws(GuestFault) -> (selector: UInt16, offset: UInt64) {
    let size = min(Int(op.pointee.size), model.vendor == .amd ? 4 : 8)
    let pointer = try GuestArea(self, op, .pair(size), count: size + 2, for: .read)
    let offset =
      switch size {
      case 2: UInt64(try pointer.load(0, as: UInt16.self))
      case 4: UInt64(try pointer.load(0, as: UInt32.self))
      default: try pointer.load(0, as: UInt64.self)
      }
    return (try pointer.load(size), offset)
  }

  /// Writes the first operand, register or memory.
  func setFirstOperand<T: FixedWidthInteger & BitwiseCopyable>(_ op: Op, _ value: T) throws(GuestFault) {
    guard op.pointee.flags & OperationFlags.memoryFirst.rawValue != 0 else {
      return setRegister(op.pointee.destination, value)
    }
    try store(value, at: operandAddress(op, count: MemoryLayout<T>.size, for: .write))
  }

  /// Reads, changes and writes the first operand. Memory is checked for writing first, so that faults are those of a
  /// write, and is changed atomically under LOCK. Returns the old value. `change` may run several times.
  @discardableResult
  func updateFirstOperand<T: FixedWidthInteger & BitwiseCopyable>(_ op: Op, _ change: (T) -> T) throws(GuestFault) -> T
  {
    guard op.pointee.flags & OperationFlags.memoryFirst.rawValue != 0 else {
      let old = register(op.pointee.destination, as: T.self)
      setRegister(op.pointee.destination, change(old))
      return old
    }
    let address = try operandAddress(op, count: MemoryLayout<T>.size, for: .write)
    return try update(
      address, isLocked: op.pointee.flags & OperationFlags.lock.rawValue != 0, change)
  }
}
