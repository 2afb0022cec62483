import CHost
import X86

/// Chain handlers of moves, extensions, address calculation, conditional moves and sets, and unary arithmetic.
enum MoveHandlers {
  // MARK: MOV

  @inline(__always)
  private static func copy<T: Lane>(
    _: T.Type, _ cpu: CPU, _ op: Op, _ a: UInt64, _ b: UInt64, _ result: UInt64, _ kind: UInt64
  ) {
    Chain.setRegister(cpu, op.pointee.destination, Chain.register(cpu, op.pointee.source, as: T.self))
    return Chain.next(cpu, op, a, b, result, kind)
  }

  @inline(__always)
  private static func set<T: Lane>(
    _: T.Type, _ cpu: CPU, _ op: Op, _ a: UInt64, _ b: UInt64, _ result: UInt64, _ kind: UInt64
  ) {
    Chain.setRegister(cpu, op.pointee.destination, T(truncatingIfNeeded: op.pointee.immediate))
    return Chain.next(cpu, op, a, b, result, kind)
  }

  @inline(__always)
  private static func load<T: Lane>(
    _: T.Type, _ cpu: CPU, _ op: Op, _ a: UInt64, _ b: UInt64, _ result: UInt64, _ kind: UInt64
  ) {
    let found = Chain.readable(cpu, Chain.address(cpu, op), MemoryLayout<T>.size)
    guard found.isHit else {
      return Chain.semantic(cpu, op, a, b, result, kind)
    }
    Chain.setRegister(cpu, op.pointee.destination, found.host.loadUnaligned(as: T.self))
    return Chain.next(cpu, op, a, b, result, kind)
  }

  @inline(__always)
  private static func store<T: Lane>(
    _ value: T, _ cpu: CPU, _ op: Op, _ a: UInt64, _ b: UInt64, _ result: UInt64, _ kind: UInt64
  ) {
    let found = Chain.writable(cpu, Chain.address(cpu, op), MemoryLayout<T>.size)
    guard found.isHit else {
      return Chain.semantic(cpu, op, a, b, result, kind)
    }
    found.host.storeBytes(of: value, as: T.self)
    return Chain.next(cpu, op, a, b, result, kind)
  }

  /// By shape (`OperandShape`), then 8, 16, 32, 64 bits.
  static let mov: [OperationHandler] = [
    { cpu, op, a, b, result, kind in
      return copy(Int8.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return copy(Int16.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return copy(Int32.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return copy(Int64.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return set(Int8.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return set(Int16.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return set(Int32.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return set(Int64.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return load(Int8.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return load(Int16.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return load(Int32.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return load(Int64.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return store(Chain.register(cpu, op.pointee.source, as: Int8.self), cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return store(Chain.register(cpu, op.pointee.source, as: Int16.self), cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return store(Chain.register(cpu, op.pointee.source, as: Int32.self), cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return store(Chain.register(cpu, op.pointee.source, as: Int64.self), cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return store(Int8(truncatingIfNeeded: op.pointee.immediate), cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return store(Int16(truncatingIfNeeded: op.pointee.immediate), cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return store(Int32(truncatingIfNeeded: op.pointee.immediate), cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return store(Int64(truncatingIfNeeded: op.pointee.immediate), cpu, op, a, b, result, kind)
    },
  ]

  // MARK: MOVZX, MOVSX, MOVSXD

  /// Extends a register of type `S` to `T`.
  @inline(__always)
  private static func extendRegister<S: FixedWidthInteger & BitwiseCopyable, T: FixedWidthInteger & BitwiseCopyable>(
    _: S.Type, _: T.Type, _ cpu: CPU, _ op: Op, _ a: UInt64, _ b: UInt64, _ result: UInt64, _ kind: UInt64
  ) {
    Chain.setRegister(
      cpu, op.pointee.destination, T(truncatingIfNeeded: Chain.register(cpu, op.pointee.source, as: S.self)))
    return Chain.next(cpu, op, a, b, result, kind)
  }

  @inline(__always)
  private static func extendMemory<S: FixedWidthInteger & BitwiseCopyable, T: FixedWidthInteger & BitwiseCopyable>(
    _: S.Type, _: T.Type, _ cpu: CPU, _ op: Op, _ a: UInt64, _ b: UInt64, _ result: UInt64, _ kind: UInt64
  ) {
    let found = Chain.readable(cpu, Chain.address(cpu, op), MemoryLayout<S>.size)
    guard found.isHit else {
      return Chain.semantic(cpu, op, a, b, result, kind)
    }
    Chain.setRegister(cpu, op.pointee.destination, T(truncatingIfNeeded: found.host.loadUnaligned(as: S.self)))
    return Chain.next(cpu, op, a, b, result, kind)
  }

  /// Register, then memory source; 8, 16 bits to 32 (64 is the same).
  static let movzx: [OperationHandler] = [
    { cpu, op, a, b, result, kind in
      return extendRegister(UInt8.self, UInt32.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return extendRegister(UInt16.self, UInt32.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return extendMemory(UInt8.self, UInt32.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return extendMemory(UInt16.self, UInt32.self, cpu, op, a, b, result, kind)
    },
  ]

  /// Register, then memory source; 8 and 16 bits to 32 and to 64 each, 32 to 64. (Two handlers with the same code would
  /// be made one by the optimiser, reached by a call.)
  static let movsx: [OperationHandler] = [
    { cpu, op, a, b, result, kind in
      return extendRegister(Int8.self, Int32.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return extendRegister(Int8.self, Int64.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return extendRegister(Int16.self, Int32.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return extendRegister(Int16.self, Int64.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return extendRegister(Int32.self, Int64.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return extendMemory(Int8.self, Int32.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return extendMemory(Int8.self, Int64.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return extendMemory(Int16.self, Int32.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return extendMemory(Int16.self, Int64.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return extendMemory(Int32.self, Int64.self, cpu, op, a, b, result, kind)
    },
  ]

  // MARK: LEA

  static let lea32: OperationHandler = { cpu, op, a, b, result, kind in
    Chain.setRegister(cpu, op.pointee.destination, UInt32(truncatingIfNeeded: Chain.offset(cpu, op)))
    return Chain.next(cpu, op, a, b, result, kind)
  }

  static let lea64: OperationHandler = { cpu, op, a, b, result, kind in
    Chain.setRegister(cpu, op.pointee.destination, Chain.offset(cpu, op))
    return Chain.next(cpu, op, a, b, result, kind)
  }

  static let nop: OperationHandler = { cpu, op, a, b, result, kind in
    return Chain.next(cpu, op, a, b, result, kind)
  }

  // MARK: CMOVcc, SETcc

  @inline(__always)
  private static func moveIf<T: Lane>(
    _: T.Type, _ cpu: CPU, _ op: Op, _ a: UInt64, _ b: UInt64, _ result: UInt64, _ kind: UInt64
  ) {
    let old = Chain.register(cpu, op.pointee.destination, as: T.self)
    let value = Chain.register(cpu, op.pointee.source, as: T.self)
    let holds = LazyFlags.condition(op.pointee.detail, a, b, result, kind)
    Chain.setRegister(cpu, op.pointee.destination, holds ? value : old)
    return Chain.next(cpu, op, a, b, result, kind)
  }

  /// Memory is read, and may fault, whether or not the condition holds.
  @inline(__always)
  private static func loadIf<T: Lane>(
    _: T.Type, _ cpu: CPU, _ op: Op, _ a: UInt64, _ b: UInt64, _ result: UInt64, _ kind: UInt64
  ) {
    let found = Chain.readable(cpu, Chain.address(cpu, op), MemoryLayout<T>.size)
    guard found.isHit else { return Chain.semantic(cpu, op, a, b, result, kind) }
    let old = Chain.register(cpu, op.pointee.destination, as: T.self)
    let value = found.host.loadUnaligned(as: T.self)
    let holds = LazyFlags.condition(op.pointee.detail, a, b, result, kind)
    Chain.setRegister(cpu, op.pointee.destination, holds ? value : old)
    return Chain.next(cpu, op, a, b, result, kind)
  }

  /// CMOVcc from a register with 32, 64 bits, then from memory.
  static let moveIf: [OperationHandler] = [
    { cpu, op, a, b, result, kind in
      return moveIf(Int32.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return moveIf(Int64.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return loadIf(Int32.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return loadIf(Int64.self, cpu, op, a, b, result, kind)
    },
  ]

  static let setIf: OperationHandler = { cpu, op, a, b, result, kind in
    let holds = LazyFlags.condition(op.pointee.detail, a, b, result, kind)
    Chain.setRegister(cpu, op.pointee.destination, holds ? 1 : 0 as UInt8)
    return Chain.next(cpu, op, a, b, result, kind)
  }

  // MARK: CDQE and kin

  static let cdqe: OperationHandler = { cpu, op, a, b, result, kind in
    Chain.setRegister(cpu, 0, Int64(Chain.register(cpu, 0, as: Int32.self)))
    return Chain.next(cpu, op, a, b, result, kind)
  }

  static let cdq: OperationHandler = { cpu, op, a, b, result, kind in
    Chain.setRegister(cpu, 16, Chain.register(cpu, 0, as: Int32.self) >> 31)
    return Chain.next(cpu, op, a, b, result, kind)
  }

  static let cqo: OperationHandler = { cpu, op, a, b, result, kind in
    Chain.setRegister(cpu, 16, Chain.register(cpu, 0, as: Int64.self) >> 63)
    return Chain.next(cpu, op, a, b, result, kind)
  }

  // MARK: INC, DEC, NEG, NOT

  @inline(__always)
  private static func changeRegister<O: UnaryOperation, T: Lane>(
    _: O.Type, _: T.Type, _ cpu: CPU, _ op: Op, _ a: UInt64, _ b: UInt64, _ result: UInt64, _ kind: UInt64
  ) {
    let old = Chain.register(cpu, op.pointee.destination, as: T.self)
    let value = O.compute(old)
    Chain.setRegister(cpu, op.pointee.destination, value)
    return finish(O.self, old, value, cpu, op, a, b, result, kind)
  }

  @inline(__always)
  private static func changeMemory<O: UnaryOperation, T: Lane>(
    _: O.Type, _: T.Type, _ cpu: CPU, _ op: Op, _ a: UInt64, _ b: UInt64, _ result: UInt64, _ kind: UInt64
  ) {
    let found = Chain.writable(cpu, Chain.address(cpu, op), MemoryLayout<T>.size)
    guard found.isHit else { return Chain.semantic(cpu, op, a, b, result, kind) }
    let old = found.host.loadUnaligned(as: T.self)
    let value = O.compute(old)
    found.host.storeBytes(of: value, as: T.self)
    return finish(O.self, old, value, cpu, op, a, b, result, kind)
  }

  @inline(__always)
  private static func finish<O: UnaryOperation, T: Lane>(
    _: O.Type, _ old: T, _ value: T, _ cpu: CPU, _ op: Op, _ a: UInt64, _ b: UInt64, _ result: UInt64, _ kind: UInt64
  ) {
    guard let newKind = O.kind else { return Chain.next(cpu, op, a, b, result, kind) }
    let first: UInt64 = O.keepsCarry && LazyFlags.carry(a, b, result, kind) ? 1 : 0
    return Chain.next(cpu, op, first, Chain.extend(old), Chain.extend(value), newKind)
  }

  /// Register, then memory; 8, 16, 32, 64 bits.
  static let inc: [OperationHandler] = [
    { cpu, op, a, b, result, kind in
      return changeRegister(Unary.Increment.self, Int8.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return changeRegister(Unary.Increment.self, Int16.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return changeRegister(Unary.Increment.self, Int32.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return changeRegister(Unary.Increment.self, Int64.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return changeMemory(Unary.Increment.self, Int8.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return changeMemory(Unary.Increment.self, Int16.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return changeMemory(Unary.Increment.self, Int32.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return changeMemory(Unary.Increment.self, Int64.self, cpu, op, a, b, result, kind)
    },
  ]

  static let dec: [OperationHandler] = [
    { cpu, op, a, b, result, kind in
      return changeRegister(Unary.Decrement.self, Int8.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return changeRegister(Unary.Decrement.self, Int16.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return changeRegister(Unary.Decrement.self, Int32.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return changeRegister(Unary.Decrement.self, Int64.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return changeMemory(Unary.Decrement.self, Int8.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return changeMemory(Unary.Decrement.self, Int16.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return changeMemory(Unary.Decrement.self, Int32.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return changeMemory(Unary.Decrement.self, Int64.self, cpu, op, a, b, result, kind)
    },
  ]

  static let neg: [OperationHandler] = [
    { cpu, op, a, b, result, kind in
      return changeRegister(Unary.Negate.self, Int8.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return changeRegister(Unary.Negate.self, Int16.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return changeRegister(Unary.Negate.self, Int32.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return changeRegister(Unary.Negate.self, Int64.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return changeMemory(Unary.Negate.self, Int8.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return changeMemory(Unary.Negate.self, Int16.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return changeMemory(Unary.Negate.self, Int32.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return changeMemory(Unary.Negate.self, Int64.self, cpu, op, a, b, result, kind)
    },
  ]

  static let not: [OperationHandler] = [
    { cpu, op, a, b, result, kind in
      return changeRegister(Unary.Invert.self, Int8.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return changeRegister(Unary.Invert.self, Int16.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return changeRegister(Unary.Invert.self, Int32.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return changeRegister(Unary.Invert.self, Int64.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return changeMemory(Unary.Invert.self, Int8.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return changeMemory(Unary.Invert.self, Int16.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return changeMemory(Unary.Invert.self, Int32.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return changeMemory(Unary.Invert.self, Int64.self, cpu, op, a, b, result, kind)
    },
  ]

  // MARK: BSWAP

  static let bswap32: OperationHandler = { cpu, op, a, b, result, kind in
    Chain.setRegister(
      cpu, op.pointee.destination, Chain.register(cpu, op.pointee.destination, as: UInt32.self).byteSwapped)
    return Chain.next(cpu, op, a, b, result, kind)
  }

  static let bswap64: OperationHandler = { cpu, op, a, b, result, kind in
    Chain.setRegister(
      cpu, op.pointee.destination, Chain.register(cpu, op.pointee.destination, as: UInt64.self).byteSwapped)
    return Chain.next(cpu, op, a, b, result, kind)
  }

  // MARK: IMUL

  /// The flags that the manuals leave undefined, all but CF and OF, are the host's (`FlagRules.productFlags`).
  @inline(__always)
  private static func multiply<T: Lane>(
    _ x: T, _ y: T, _ cpu: CPU, _ op: Op, _ a: UInt64, _ b: UInt64, _ result: UInt64, _ kind: UInt64
  ) {
    let (value, hasOverflowed) = x.multipliedReportingOverflow(by: y)
    Chain.setRegister(cpu, op.pointee.destination, value)
    let flag: UInt64 = hasOverflowed ? 1 : 0
    let rule = cpu.pointee.engine.productFlags
    if rule != FlagRules.ProductFlags.kept.rawValue {
      // Bit 8 is in neither SF nor PF.
      let isHidden = value == 0 && rule == FlagRules.ProductFlags.ofResultWithoutZero.rawValue
      return Chain.next(cpu, op, flag, flag, isHidden ? 0x100 : Chain.extend(value), LazyFlags.separate)
    }
    let flags = LazyFlags.replacing(carry: flag, overflow: flag, a, b, result, kind)
    return Chain.next(cpu, op, flags.a, flags.b, flags.result, flags.kind)
  }

  static let imul32: OperationHandler = { cpu, op, a, b, result, kind in
    return multiply(
      Chain.register(cpu, op.pointee.destination, as: Int32.self),
      Chain.register(cpu, op.pointee.source, as: Int32.self), cpu, op, a, b, result, kind)
  }

  static let imulImmediate32: OperationHandler = { cpu, op, a, b, result, kind in
    return multiply(
      Chain.register(cpu, op.pointee.source, as: Int32.self), Int32(truncatingIfNeeded: op.pointee.immediate), cpu, op,
      a, b, result, kind)
  }

  static let imulMemory32: OperationHandler = { cpu, op, a, b, result, kind in
    let found = Chain.readable(cpu, Chain.address(cpu, op), Int32.bitWidth / 8)
    guard found.isHit else {
      return Chain.semantic(cpu, op, a, b, result, kind)
    }
    return multiply(
      Chain.register(cpu, op.pointee.destination, as: Int32.self), found.host.loadUnaligned(as: Int32.self), cpu, op, a,
      b, result, kind)
  }

  static let imul64: OperationHandler = { cpu, op, a, b, result, kind in
    return multiply(
      Chain.register(cpu, op.pointee.destination, as: Int64.self),
      Chain.register(cpu, op.pointee.source, as: Int64.self), cpu, op, a, b, result, kind)
  }

  static let imulImmediate64: OperationHandler = { cpu, op, a, b, result, kind in
    return multiply(
      Chain.register(cpu, op.pointee.source, as: Int64.self), Int64(truncatingIfNeeded: op.pointee.immediate), cpu, op,
      a, b, result, kind)
  }

  static let imulMemory64: OperationHandler = { cpu, op, a, b, result, kind in
    let found = Chain.readable(cpu, Chain.address(cpu, op), Int64.bitWidth / 8)
    guard found.isHit else {
      return Chain.semantic(cpu, op, a, b, result, kind)
    }
    return multiply(
      Chain.register(cpu, op.pointee.destination, as: Int64.self), found.host.loadUnaligned(as: Int64.self), cpu, op, a,
      b, result, kind)
  }
}
