import CHost
import X86

/// Pushes and pops of semantic functions. RSP moves only when the access has succeeded.
extension SoftwareProcessor {
  /// RSP, ESP or SP as the stack segment's size has it.
  var stackPointer: UInt64 {
    get { truncateToStack(cpu.pointee.gpr.4) }
    set {
      switch stackSize {
      case 8: cpu.pointee.gpr.4 = newValue
      case 4: cpu.pointee.gpr.4 = newValue & 0xffff_ffff
      default: cpu.pointee.gpr.4 = cpu.pointee.gpr.4 & ~0xffff | newValue & 0xffff
      }
    }
  }

  func truncateToStack(_ value: UInt64) -> UInt64 {
    switch stackSize {
    case 8: value
    case 4: value & 0xffff_ffff
    default: value & 0xffff
    }
  }

  /// Pushes `size` bytes (2, 4 or 8).
  func push(_ value: UInt64, size: Int) throws(GuestFault) {
    let pointer = truncateToStack(stackPointer &- UInt64(size))
    try storeStack(value, offset: pointer, size: size)
    stackPointer = pointer
  }

  /// Faults as a push of `size` bytes would, without pushing.
  func checkPush(size: Int) throws(GuestFault) {
    let pointer = truncateToStack(stackPointer &- UInt64(size))
    try checkWritable(linearAddress(segment: 2, offset: pointer, count: size, for: .write), count: size)
  }

  /// Pops `size` bytes (2, 4 or 8).
  func pop(size: Int) throws(GuestFault) -> UInt64 {
    let value = try peekStack(0, size: size)
    stackPointer = stackPointer &+ UInt64(size)
    return value
  }

  /// Reads `size` bytes at `displacement` above the stack pointer.
  func peekStack(_ displacement: Int, size: Int) throws(GuestFault) -> UInt64 {
    let offset = truncateToStack(stackPointer &+ UInt64(truncatingIfNeeded: displacement))
    let address = try linearAddress(segment: 2, offset: offset, count: size, for: .read)
    switch size {
    case 2: return UInt64(try load(address, as: UInt16.self))
    case 4: return UInt64(try load(address, as: UInt32.self))
    default: return try load(address, as: UInt64.self)
    }
  }

  /// Writes `size` bytes at an offset of the stack segment.
  func storeStack(_ value: UInt64, offset: UInt64, size: Int) throws(GuestFault) {
    let address = try linearAddress(segment: 2, offset: offset, count: size, for: .write)
    switch size {
    case 2: try store(UInt16(truncatingIfNeeded: value), at: address)
    case 4: try store(UInt32(truncatingIfNeeded: value), at: address)
    default: try store(value, at: address)
    }
  }
}
