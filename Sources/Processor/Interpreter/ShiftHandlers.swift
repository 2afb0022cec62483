import CHost
import X86

/// Chain handlers of shifts and rotates with 32 and 64 bits: of registers, and shifts of memory by immediates.
///
/// They are there for hosts whose flags they can make (`FlagRules.shiftsHaveHandlers`, `rotatesHaveHandlers`).
enum ShiftHandlers {
  /// `b` of a shift for `LazyFlags.separate`: OF, and AF, which is the same after each.
  @inline(__always)
  private static func overflowAndAdjust(_ cpu: CPU, _ overflow: Bool) -> UInt64 {
    cpu.pointee.engine.shiftAdjust | (overflow ? 1 : 0)
  }

  /// A shift: all flags change unless the count is zero.
  @inline(__always)
  private static func shift<O: ShiftOperation, T: Lane>(
    _: O.Type, _: T.Type, _ count: UInt8, _ cpu: CPU, _ op: Op, _ a: UInt64, _ b: UInt64, _ result: UInt64,
    _ kind: UInt64
  ) {
    let masked = Int(count) & (T.bitWidth - 1)
    let old = Chain.register(cpu, op.pointee.destination, as: T.self)
    guard masked != 0 else {
      // A 32-bit destination is zero-extended all the same.
      Chain.setRegister(cpu, op.pointee.destination, old)
      return Chain.next(cpu, op, a, b, result, kind)
    }
    let outcome = O.compute(old, masked, false)
    Chain.setRegister(cpu, op.pointee.destination, outcome.value)
    return Chain.next(
      cpu, op, outcome.carry ? 1 : 0, overflowAndAdjust(cpu, outcome.overflow), Chain.extend(outcome.value),
      LazyFlags.separate)
  }

  /// A rotate: CF and OF change, the others stay.
  @inline(__always)
  private static func rotate<O: ShiftOperation, T: Lane>(
    _: O.Type, _: T.Type, _ count: UInt8, _ cpu: CPU, _ op: Op, _ a: UInt64, _ b: UInt64, _ result: UInt64,
    _ kind: UInt64
  ) {
    let masked = Int(count) & (T.bitWidth - 1)
    let old = Chain.register(cpu, op.pointee.destination, as: T.self)
    guard masked != 0 else {
      Chain.setRegister(cpu, op.pointee.destination, old)
      return Chain.next(cpu, op, a, b, result, kind)
    }
    let outcome = O.compute(old, masked, false)
    Chain.setRegister(cpu, op.pointee.destination, outcome.value)
    let carry: UInt64 = outcome.carry ? 1 : 0
    let overflow: UInt64 = outcome.overflow ? 1 : 0
    let flags = LazyFlags.replacing(carry: carry, overflow: overflow, a, b, result, kind)
    return Chain.next(cpu, op, flags.a, flags.b, flags.result, flags.kind)
  }

  // By an immediate in 32, 64 bits, then by CL.

  static let shl: [OperationHandler] = [
    { cpu, op, a, b, result, kind in
      return shift(
        Shifts.Left.self, Int32.self, UInt8(truncatingIfNeeded: op.pointee.immediate), cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return shift(
        Shifts.Left.self, Int64.self, UInt8(truncatingIfNeeded: op.pointee.immediate), cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return shift(
        Shifts.Left.self, Int32.self, Chain.register(cpu, 8, as: UInt8.self), cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return shift(
        Shifts.Left.self, Int64.self, Chain.register(cpu, 8, as: UInt8.self), cpu, op, a, b, result, kind)
    },
  ]

  static let shr: [OperationHandler] = [
    { cpu, op, a, b, result, kind in
      return shift(
        Shifts.Right.self, Int32.self, UInt8(truncatingIfNeeded: op.pointee.immediate), cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return shift(
        Shifts.Right.self, Int64.self, UInt8(truncatingIfNeeded: op.pointee.immediate), cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return shift(
        Shifts.Right.self, Int32.self, Chain.register(cpu, 8, as: UInt8.self), cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return shift(
        Shifts.Right.self, Int64.self, Chain.register(cpu, 8, as: UInt8.self), cpu, op, a, b, result, kind)
    },
  ]

  static let sar: [OperationHandler] = [
    { cpu, op, a, b, result, kind in
      return shift(
        Shifts.ArithmeticRight.self, Int32.self, UInt8(truncatingIfNeeded: op.pointee.immediate), cpu, op, a, b, result,
        kind)
    },
    { cpu, op, a, b, result, kind in
      return shift(
        Shifts.ArithmeticRight.self, Int64.self, UInt8(truncatingIfNeeded: op.pointee.immediate), cpu, op, a, b, result,
        kind)
    },
    { cpu, op, a, b, result, kind in
      return shift(
        Shifts.ArithmeticRight.self, Int32.self, Chain.register(cpu, 8, as: UInt8.self), cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return shift(
        Shifts.ArithmeticRight.self, Int64.self, Chain.register(cpu, 8, as: UInt8.self), cpu, op, a, b, result, kind)
    },
  ]

  static let rol: [OperationHandler] = [
    { cpu, op, a, b, result, kind in
      return rotate(
        Shifts.RotateLeft.self, Int32.self, UInt8(truncatingIfNeeded: op.pointee.immediate), cpu, op, a, b, result, kind
      )
    },
    { cpu, op, a, b, result, kind in
      return rotate(
        Shifts.RotateLeft.self, Int64.self, UInt8(truncatingIfNeeded: op.pointee.immediate), cpu, op, a, b, result, kind
      )
    },
    { cpu, op, a, b, result, kind in
      return rotate(
        Shifts.RotateLeft.self, Int32.self, Chain.register(cpu, 8, as: UInt8.self), cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return rotate(
        Shifts.RotateLeft.self, Int64.self, Chain.register(cpu, 8, as: UInt8.self), cpu, op, a, b, result, kind)
    },
  ]

  static let ror: [OperationHandler] = [
    { cpu, op, a, b, result, kind in
      return rotate(
        Shifts.RotateRight.self, Int32.self, UInt8(truncatingIfNeeded: op.pointee.immediate), cpu, op, a, b, result,
        kind)
    },
    { cpu, op, a, b, result, kind in
      return rotate(
        Shifts.RotateRight.self, Int64.self, UInt8(truncatingIfNeeded: op.pointee.immediate), cpu, op, a, b, result,
        kind)
    },
    { cpu, op, a, b, result, kind in
      return rotate(
        Shifts.RotateRight.self, Int32.self, Chain.register(cpu, 8, as: UInt8.self), cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return rotate(
        Shifts.RotateRight.self, Int64.self, Chain.register(cpu, 8, as: UInt8.self), cpu, op, a, b, result, kind)
    },
  ]

  // MARK: Memory

  /// A count of zero is left to the semantic function.
  @inline(__always)
  private static func shiftMemory<O: ShiftOperation, T: Lane>(
    _: O.Type, _: T.Type, _ cpu: CPU, _ op: Op, _ a: UInt64, _ b: UInt64, _ result: UInt64, _ kind: UInt64
  ) {
    let masked = Int(op.pointee.immediate & UInt64(T.bitWidth - 1))
    let found = Chain.writable(cpu, Chain.address(cpu, op), MemoryLayout<T>.size)
    guard found.isHit, masked != 0 else { return Chain.semantic(cpu, op, a, b, result, kind) }
    let outcome = O.compute(found.host.loadUnaligned(as: T.self), masked, false)
    found.host.storeBytes(of: outcome.value, as: T.self)
    return Chain.next(
      cpu, op, outcome.carry ? 1 : 0, overflowAndAdjust(cpu, outcome.overflow), Chain.extend(outcome.value),
      LazyFlags.separate)
  }

  // By an immediate in 32, 64 bits.

  static let shlMemory: [OperationHandler] = [
    { cpu, op, a, b, result, kind in
      return shiftMemory(Shifts.Left.self, Int32.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return shiftMemory(Shifts.Left.self, Int64.self, cpu, op, a, b, result, kind)
    },
  ]

  static let shrMemory: [OperationHandler] = [
    { cpu, op, a, b, result, kind in
      return shiftMemory(Shifts.Right.self, Int32.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return shiftMemory(Shifts.Right.self, Int64.self, cpu, op, a, b, result, kind)
    },
  ]

  static let sarMemory: [OperationHandler] = [
    { cpu, op, a, b, result, kind in
      return shiftMemory(Shifts.ArithmeticRight.self, Int32.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return shiftMemory(Shifts.ArithmeticRight.self, Int64.self, cpu, op, a, b, result, kind)
    },
  ]
}
