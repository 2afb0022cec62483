import CHost
import X86

/// An operand as semantic functions compute with it.
typealias Word = BitwiseCopyable & FixedWidthInteger & UnsignedInteger

/// Values of OF, SF, ZF, AF, PF and CF after an operation, at their places in RFLAGS.
enum ArithmeticFlags {
  /// SF, ZF and PF of a result.
  @inline(__always)
  static func result<T: FixedWidthInteger>(_ value: T) -> UInt64 {
    var flags = parity(value)
    if value == 0 { flags |= RFLAGS.zf }
    if value.leadingZeroBitCount == 0 { flags |= RFLAGS.sf }
    return flags
  }

  /// PF: the low byte has an even number of ones.
  @inline(__always)
  static func parity<T: FixedWidthInteger>(_ value: T) -> UInt64 {
    UInt8(truncatingIfNeeded: value).nonzeroBitCount & 1 == 0 ? RFLAGS.pf : 0
  }

  /// All six after `a + b`.
  @inline(__always)
  static func sum<T: Word>(_ a: T, _ b: T) -> UInt64 {
    let (value, carry) = a.addingReportingOverflow(b)
    var flags = result(value) | adjust(a, b, value)
    if carry { flags |= RFLAGS.cf }
    if ((a ^ value) & (b ^ value)).leadingZeroBitCount == 0 { flags |= RFLAGS.of }
    return flags
  }

  /// All six after `a - b`.
  @inline(__always)
  static func difference<T: Word>(_ a: T, _ b: T) -> UInt64 {
    let (value, borrow) = a.subtractingReportingOverflow(b)
    var flags = result(value) | adjust(a, b, value)
    if borrow { flags |= RFLAGS.cf }
    if ((a ^ b) & (a ^ value)).leadingZeroBitCount == 0 { flags |= RFLAGS.of }
    return flags
  }

  /// AF: a carry between bits 3 and 4.
  @inline(__always)
  private static func adjust<T: Word>(_ a: T, _ b: T, _ value: T) -> UInt64 {
    UInt64(truncatingIfNeeded: a ^ b ^ value) & RFLAGS.af
  }
}

extension SoftwareProcessor {
  /// Replaces the flags of `mask` with those of `values`, which has no others.
  @inline(__always)
  func setFlags(_ mask: UInt64, _ values: UInt64) { cpu.pointee.rflags = cpu.pointee.rflags & ~mask | values }

  @inline(__always) func flag(_ mask: UInt64) -> Bool { cpu.pointee.rflags & mask != 0 }

  /// Third operand: register, or memory where the decoder found one there.
  @inline(__always)
  func thirdOperand<T: Word>(_ op: Op, as type: T.Type) throws(GuestFault) -> T {
    guard op.pointee.flags & OperationFlags.memorySource.rawValue != 0 else {
      return register(op.pointee.third, as: T.self)
    }
    return try load(operandAddress(op, count: MemoryLayout<T>.size, for: .read), as: T.self)
  }
}
