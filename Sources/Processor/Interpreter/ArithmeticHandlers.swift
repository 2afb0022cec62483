import CHost
import X86

/// Chain handlers of the two-operand arithmetic family by operand shape and size. LOCKed forms go through
/// semantic functions.
enum ArithmeticHandlers {
  @inline(__always)
  private static func registerRegister<O: ArithmeticOperation, T: Lane>(
    _: O.Type, _: T.Type, _ cpu: CPU, _ op: Op, _ a: UInt64, _ b: UInt64, _ result: UInt64, _ kind: UInt64
  ) {
    let y = Chain.register(cpu, op.pointee.source, as: T.self)
    return finish(O.self, T.self, y, cpu, op, a, b, result, kind)
  }

  @inline(__always)
  private static func registerImmediate<O: ArithmeticOperation, T: Lane>(
    _: O.Type, _: T.Type, _ cpu: CPU, _ op: Op, _ a: UInt64, _ b: UInt64, _ result: UInt64, _ kind: UInt64
  ) {
    let y = T(truncatingIfNeeded: op.pointee.immediate)
    return finish(O.self, T.self, y, cpu, op, a, b, result, kind)
  }

  @inline(__always)
  private static func registerMemory<O: ArithmeticOperation, T: Lane>(
    _: O.Type, _: T.Type, _ cpu: CPU, _ op: Op, _ a: UInt64, _ b: UInt64, _ result: UInt64, _ kind: UInt64
  ) {
    let found = Chain.readable(cpu, Chain.address(cpu, op), MemoryLayout<T>.size)
    guard found.isHit else {
      return Chain.semantic(cpu, op, a, b, result, kind)
    }
    return finish(O.self, T.self, found.host.loadUnaligned(as: T.self), cpu, op, a, b, result, kind)
  }

  /// The destination is a register.
  @inline(__always)
  private static func finish<O: ArithmeticOperation, T: Lane>(
    _: O.Type, _: T.Type, _ y: T, _ cpu: CPU, _ op: Op, _ a: UInt64, _ b: UInt64, _ result: UInt64, _ kind: UInt64
  ) {
    let x = Chain.register(cpu, op.pointee.destination, as: T.self)
    let carry: T = O.usesCarry && LazyFlags.carry(a, b, result, kind) ? 1 : 0
    let value = O.compute(x, y, carry)
    if O.writesResult { Chain.setRegister(cpu, op.pointee.destination, value) }
    return Chain.next(cpu, op, Chain.extend(x), Chain.extend(y), Chain.extend(value), O.kind)
  }

  @inline(__always)
  private static func memoryRegister<O: ArithmeticOperation, T: Lane>(
    _: O.Type, _: T.Type, _ cpu: CPU, _ op: Op, _ a: UInt64, _ b: UInt64, _ result: UInt64, _ kind: UInt64
  ) {
    let y = Chain.register(cpu, op.pointee.source, as: T.self)
    return finishMemory(O.self, T.self, y, cpu, op, a, b, result, kind)
  }

  @inline(__always)
  private static func memoryImmediate<O: ArithmeticOperation, T: Lane>(
    _: O.Type, _: T.Type, _ cpu: CPU, _ op: Op, _ a: UInt64, _ b: UInt64, _ result: UInt64, _ kind: UInt64
  ) {
    let y = T(truncatingIfNeeded: op.pointee.immediate)
    return finishMemory(O.self, T.self, y, cpu, op, a, b, result, kind)
  }

  /// The destination is memory.
  @inline(__always)
  private static func finishMemory<O: ArithmeticOperation, T: Lane>(
    _: O.Type, _: T.Type, _ y: T, _ cpu: CPU, _ op: Op, _ a: UInt64, _ b: UInt64, _ result: UInt64, _ kind: UInt64
  ) {
    let address = Chain.address(cpu, op)
    let found =
      O.writesResult
      ? Chain.writable(cpu, address, MemoryLayout<T>.size) : Chain.readable(cpu, address, MemoryLayout<T>.size)
    guard found.isHit else { return Chain.semantic(cpu, op, a, b, result, kind) }
    let x = found.host.loadUnaligned(as: T.self)
    let carry: T = O.usesCarry && LazyFlags.carry(a, b, result, kind) ? 1 : 0
    let value = O.compute(x, y, carry)
    if O.writesResult { found.host.storeBytes(of: value, as: T.self) }
    return Chain.next(cpu, op, Chain.extend(x), Chain.extend(y), Chain.extend(value), O.kind)
  }

  /// By shape (`OperandShape`), then 8, 16, 32, 64 bits.
  static let add: [OperationHandler] = [
    { cpu, op, a, b, result, kind in
      return registerRegister(Arithmetic.Add.self, Int8.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return registerRegister(Arithmetic.Add.self, Int16.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return registerRegister(Arithmetic.Add.self, Int32.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return registerRegister(Arithmetic.Add.self, Int64.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return registerImmediate(Arithmetic.Add.self, Int8.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return registerImmediate(Arithmetic.Add.self, Int16.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return registerImmediate(Arithmetic.Add.self, Int32.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return registerImmediate(Arithmetic.Add.self, Int64.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return registerMemory(Arithmetic.Add.self, Int8.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return registerMemory(Arithmetic.Add.self, Int16.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return registerMemory(Arithmetic.Add.self, Int32.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return registerMemory(Arithmetic.Add.self, Int64.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return memoryRegister(Arithmetic.Add.self, Int8.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return memoryRegister(Arithmetic.Add.self, Int16.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return memoryRegister(Arithmetic.Add.self, Int32.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return memoryRegister(Arithmetic.Add.self, Int64.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return memoryImmediate(Arithmetic.Add.self, Int8.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return memoryImmediate(Arithmetic.Add.self, Int16.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return memoryImmediate(Arithmetic.Add.self, Int32.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return memoryImmediate(Arithmetic.Add.self, Int64.self, cpu, op, a, b, result, kind)
    },
  ]

  static let or: [OperationHandler] = [
    { cpu, op, a, b, result, kind in
      return registerRegister(Arithmetic.Or.self, Int8.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return registerRegister(Arithmetic.Or.self, Int16.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return registerRegister(Arithmetic.Or.self, Int32.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return registerRegister(Arithmetic.Or.self, Int64.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return registerImmediate(Arithmetic.Or.self, Int8.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return registerImmediate(Arithmetic.Or.self, Int16.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return registerImmediate(Arithmetic.Or.self, Int32.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return registerImmediate(Arithmetic.Or.self, Int64.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return registerMemory(Arithmetic.Or.self, Int8.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return registerMemory(Arithmetic.Or.self, Int16.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return registerMemory(Arithmetic.Or.self, Int32.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return registerMemory(Arithmetic.Or.self, Int64.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return memoryRegister(Arithmetic.Or.self, Int8.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return memoryRegister(Arithmetic.Or.self, Int16.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return memoryRegister(Arithmetic.Or.self, Int32.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return memoryRegister(Arithmetic.Or.self, Int64.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return memoryImmediate(Arithmetic.Or.self, Int8.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return memoryImmediate(Arithmetic.Or.self, Int16.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return memoryImmediate(Arithmetic.Or.self, Int32.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return memoryImmediate(Arithmetic.Or.self, Int64.self, cpu, op, a, b, result, kind)
    },
  ]

  static let adc: [OperationHandler] = [
    { cpu, op, a, b, result, kind in
      return registerRegister(Arithmetic.Adc.self, Int8.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return registerRegister(Arithmetic.Adc.self, Int16.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return registerRegister(Arithmetic.Adc.self, Int32.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return registerRegister(Arithmetic.Adc.self, Int64.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return registerImmediate(Arithmetic.Adc.self, Int8.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return registerImmediate(Arithmetic.Adc.self, Int16.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return registerImmediate(Arithmetic.Adc.self, Int32.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return registerImmediate(Arithmetic.Adc.self, Int64.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return registerMemory(Arithmetic.Adc.self, Int8.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return registerMemory(Arithmetic.Adc.self, Int16.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return registerMemory(Arithmetic.Adc.self, Int32.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return registerMemory(Arithmetic.Adc.self, Int64.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return memoryRegister(Arithmetic.Adc.self, Int8.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return memoryRegister(Arithmetic.Adc.self, Int16.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return memoryRegister(Arithmetic.Adc.self, Int32.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return memoryRegister(Arithmetic.Adc.self, Int64.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return memoryImmediate(Arithmetic.Adc.self, Int8.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return memoryImmediate(Arithmetic.Adc.self, Int16.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return memoryImmediate(Arithmetic.Adc.self, Int32.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return memoryImmediate(Arithmetic.Adc.self, Int64.self, cpu, op, a, b, result, kind)
    },
  ]

  static let sbb: [OperationHandler] = [
    { cpu, op, a, b, result, kind in
      return registerRegister(Arithmetic.Sbb.self, Int8.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return registerRegister(Arithmetic.Sbb.self, Int16.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return registerRegister(Arithmetic.Sbb.self, Int32.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return registerRegister(Arithmetic.Sbb.self, Int64.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return registerImmediate(Arithmetic.Sbb.self, Int8.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return registerImmediate(Arithmetic.Sbb.self, Int16.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return registerImmediate(Arithmetic.Sbb.self, Int32.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return registerImmediate(Arithmetic.Sbb.self, Int64.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return registerMemory(Arithmetic.Sbb.self, Int8.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return registerMemory(Arithmetic.Sbb.self, Int16.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return registerMemory(Arithmetic.Sbb.self, Int32.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return registerMemory(Arithmetic.Sbb.self, Int64.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return memoryRegister(Arithmetic.Sbb.self, Int8.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return memoryRegister(Arithmetic.Sbb.self, Int16.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return memoryRegister(Arithmetic.Sbb.self, Int32.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return memoryRegister(Arithmetic.Sbb.self, Int64.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return memoryImmediate(Arithmetic.Sbb.self, Int8.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return memoryImmediate(Arithmetic.Sbb.self, Int16.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return memoryImmediate(Arithmetic.Sbb.self, Int32.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return memoryImmediate(Arithmetic.Sbb.self, Int64.self, cpu, op, a, b, result, kind)
    },
  ]

  static let and: [OperationHandler] = [
    { cpu, op, a, b, result, kind in
      return registerRegister(Arithmetic.And.self, Int8.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return registerRegister(Arithmetic.And.self, Int16.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return registerRegister(Arithmetic.And.self, Int32.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return registerRegister(Arithmetic.And.self, Int64.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return registerImmediate(Arithmetic.And.self, Int8.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return registerImmediate(Arithmetic.And.self, Int16.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return registerImmediate(Arithmetic.And.self, Int32.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return registerImmediate(Arithmetic.And.self, Int64.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return registerMemory(Arithmetic.And.self, Int8.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return registerMemory(Arithmetic.And.self, Int16.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return registerMemory(Arithmetic.And.self, Int32.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return registerMemory(Arithmetic.And.self, Int64.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return memoryRegister(Arithmetic.And.self, Int8.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return memoryRegister(Arithmetic.And.self, Int16.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return memoryRegister(Arithmetic.And.self, Int32.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return memoryRegister(Arithmetic.And.self, Int64.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return memoryImmediate(Arithmetic.And.self, Int8.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return memoryImmediate(Arithmetic.And.self, Int16.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return memoryImmediate(Arithmetic.And.self, Int32.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return memoryImmediate(Arithmetic.And.self, Int64.self, cpu, op, a, b, result, kind)
    },
  ]

  static let sub: [OperationHandler] = [
    { cpu, op, a, b, result, kind in
      return registerRegister(Arithmetic.Sub.self, Int8.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return registerRegister(Arithmetic.Sub.self, Int16.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return registerRegister(Arithmetic.Sub.self, Int32.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return registerRegister(Arithmetic.Sub.self, Int64.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return registerImmediate(Arithmetic.Sub.self, Int8.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return registerImmediate(Arithmetic.Sub.self, Int16.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return registerImmediate(Arithmetic.Sub.self, Int32.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return registerImmediate(Arithmetic.Sub.self, Int64.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return registerMemory(Arithmetic.Sub.self, Int8.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return registerMemory(Arithmetic.Sub.self, Int16.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return registerMemory(Arithmetic.Sub.self, Int32.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return registerMemory(Arithmetic.Sub.self, Int64.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return memoryRegister(Arithmetic.Sub.self, Int8.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return memoryRegister(Arithmetic.Sub.self, Int16.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return memoryRegister(Arithmetic.Sub.self, Int32.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return memoryRegister(Arithmetic.Sub.self, Int64.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return memoryImmediate(Arithmetic.Sub.self, Int8.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return memoryImmediate(Arithmetic.Sub.self, Int16.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return memoryImmediate(Arithmetic.Sub.self, Int32.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return memoryImmediate(Arithmetic.Sub.self, Int64.self, cpu, op, a, b, result, kind)
    },
  ]

  static let xor: [OperationHandler] = [
    { cpu, op, a, b, result, kind in
      return registerRegister(Arithmetic.Xor.self, Int8.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return registerRegister(Arithmetic.Xor.self, Int16.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return registerRegister(Arithmetic.Xor.self, Int32.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return registerRegister(Arithmetic.Xor.self, Int64.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return registerImmediate(Arithmetic.Xor.self, Int8.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return registerImmediate(Arithmetic.Xor.self, Int16.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return registerImmediate(Arithmetic.Xor.self, Int32.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return registerImmediate(Arithmetic.Xor.self, Int64.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return registerMemory(Arithmetic.Xor.self, Int8.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return registerMemory(Arithmetic.Xor.self, Int16.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return registerMemory(Arithmetic.Xor.self, Int32.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return registerMemory(Arithmetic.Xor.self, Int64.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return memoryRegister(Arithmetic.Xor.self, Int8.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return memoryRegister(Arithmetic.Xor.self, Int16.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return memoryRegister(Arithmetic.Xor.self, Int32.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return memoryRegister(Arithmetic.Xor.self, Int64.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return memoryImmediate(Arithmetic.Xor.self, Int8.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return memoryImmediate(Arithmetic.Xor.self, Int16.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return memoryImmediate(Arithmetic.Xor.self, Int32.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return memoryImmediate(Arithmetic.Xor.self, Int64.self, cpu, op, a, b, result, kind)
    },
  ]

  static let cmp: [OperationHandler] = [
    { cpu, op, a, b, result, kind in
      return registerRegister(Arithmetic.Cmp.self, Int8.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return registerRegister(Arithmetic.Cmp.self, Int16.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return registerRegister(Arithmetic.Cmp.self, Int32.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return registerRegister(Arithmetic.Cmp.self, Int64.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return registerImmediate(Arithmetic.Cmp.self, Int8.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return registerImmediate(Arithmetic.Cmp.self, Int16.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return registerImmediate(Arithmetic.Cmp.self, Int32.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return registerImmediate(Arithmetic.Cmp.self, Int64.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return registerMemory(Arithmetic.Cmp.self, Int8.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return registerMemory(Arithmetic.Cmp.self, Int16.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return registerMemory(Arithmetic.Cmp.self, Int32.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return registerMemory(Arithmetic.Cmp.self, Int64.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return memoryRegister(Arithmetic.Cmp.self, Int8.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return memoryRegister(Arithmetic.Cmp.self, Int16.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return memoryRegister(Arithmetic.Cmp.self, Int32.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return memoryRegister(Arithmetic.Cmp.self, Int64.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return memoryImmediate(Arithmetic.Cmp.self, Int8.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return memoryImmediate(Arithmetic.Cmp.self, Int16.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return memoryImmediate(Arithmetic.Cmp.self, Int32.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return memoryImmediate(Arithmetic.Cmp.self, Int64.self, cpu, op, a, b, result, kind)
    },
  ]

  static let test: [OperationHandler] = [
    { cpu, op, a, b, result, kind in
      return registerRegister(Arithmetic.Test.self, Int8.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return registerRegister(Arithmetic.Test.self, Int16.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return registerRegister(Arithmetic.Test.self, Int32.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return registerRegister(Arithmetic.Test.self, Int64.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return registerImmediate(Arithmetic.Test.self, Int8.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return registerImmediate(Arithmetic.Test.self, Int16.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return registerImmediate(Arithmetic.Test.self, Int32.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return registerImmediate(Arithmetic.Test.self, Int64.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return registerMemory(Arithmetic.Test.self, Int8.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return registerMemory(Arithmetic.Test.self, Int16.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return registerMemory(Arithmetic.Test.self, Int32.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return registerMemory(Arithmetic.Test.self, Int64.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return memoryRegister(Arithmetic.Test.self, Int8.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return memoryRegister(Arithmetic.Test.self, Int16.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return memoryRegister(Arithmetic.Test.self, Int32.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return memoryRegister(Arithmetic.Test.self, Int64.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return memoryImmediate(Arithmetic.Test.self, Int8.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return memoryImmediate(Arithmetic.Test.self, Int16.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return memoryImmediate(Arithmetic.Test.self, Int32.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return memoryImmediate(Arithmetic.Test.self, Int64.self, cpu, op, a, b, result, kind)
    },
  ]
}
