import CHost
import X86

/// Chain handlers of near branches, PUSH and POP where code and stack are flat and of one width.
enum BranchHandlers {
  @inline(__always)
  private static func jump(
    _ isTaken: Bool, _ cpu: CPU, _ op: Op, _ a: UInt64, _ b: UInt64, _ result: UInt64, _ kind: UInt64
  ) {
    guard isTaken else { return Chain.next(cpu, op, a, b, result, kind) }
    return Chain.take(cpu, op, a, b, result, kind)
  }

  /// Jcc by condition code.
  static let jumpIf: [OperationHandler] = [
    { cpu, op, a, b, result, kind in
      return jump(LazyFlags.overflow(a, b, result, kind), cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return jump(!LazyFlags.overflow(a, b, result, kind), cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return jump(LazyFlags.carry(a, b, result, kind), cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return jump(!LazyFlags.carry(a, b, result, kind), cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return jump(LazyFlags.zero(a, b, result, kind), cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return jump(!LazyFlags.zero(a, b, result, kind), cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return jump(LazyFlags.belowOrEqual(a, b, result, kind), cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return jump(!LazyFlags.belowOrEqual(a, b, result, kind), cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return jump(LazyFlags.sign(a, b, result, kind), cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return jump(!LazyFlags.sign(a, b, result, kind), cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return jump(LazyFlags.parity(a, b, result, kind), cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return jump(!LazyFlags.parity(a, b, result, kind), cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return jump(LazyFlags.less(a, b, result, kind), cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return jump(!LazyFlags.less(a, b, result, kind), cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return jump(LazyFlags.lessOrEqual(a, b, result, kind), cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return jump(!LazyFlags.lessOrEqual(a, b, result, kind), cpu, op, a, b, result, kind)
    },
  ]

  /// JMP to a direct target; also the end of a block that does not branch, where `op` is no instruction, only the link to
  /// what follows.
  static let jumpDirect: OperationHandler = { cpu, op, a, b, result, kind in
    return Chain.take(cpu, op, a, b, result, kind)
  }

  static let jumpRegister: OperationHandler = { cpu, op, a, b, result, kind in
    let target = Chain.register(cpu, op.pointee.destination, as: UInt64.self)
    guard Chain.isUserOrKernelHalf(target) else { return Chain.semantic(cpu, op, a, b, result, kind) }
    return Chain.branch(cpu, op, target, a, b, result, kind)
  }

  static let jumpMemory: OperationHandler = { cpu, op, a, b, result, kind in
    let found = Chain.readable(cpu, Chain.address(cpu, op), 8)
    guard found.isHit else {
      return Chain.semantic(cpu, op, a, b, result, kind)
    }
    let target = found.host.loadUnaligned(as: UInt64.self)
    guard Chain.isUserOrKernelHalf(target) else { return Chain.semantic(cpu, op, a, b, result, kind) }
    return Chain.branch(cpu, op, target, a, b, result, kind)
  }

  @inline(__always)
  private static func call(
    _ target: UInt64, _ cpu: CPU, _ op: Op, _ a: UInt64, _ b: UInt64, _ result: UInt64, _ kind: UInt64
  ) {
    let pointer = cpu.pointee.gpr.4 &- 8
    let found = Chain.writable(cpu, pointer, 8)
    guard found.isHit, Chain.isUserOrKernelHalf(target) else {
      return Chain.semantic(cpu, op, a, b, result, kind)
    }
    found.host.storeBytes(
      of: cpu.pointee.rip &+ UInt64(op.pointee.offset) &+ UInt64(op.pointee.length), as: UInt64.self)
    cpu.pointee.gpr.4 = pointer
    return Chain.branch(cpu, op, target, a, b, result, kind)
  }

  /// CALL to a direct target, 64-bit code.
  static let callDirect: OperationHandler = { cpu, op, a, b, result, kind in
    let pointer = cpu.pointee.gpr.4 &- 8
    let found = Chain.writable(cpu, pointer, 8)
    guard found.isHit else { return Chain.semantic(cpu, op, a, b, result, kind) }
    found.host.storeBytes(
      of: cpu.pointee.rip &+ UInt64(op.pointee.offset) &+ UInt64(op.pointee.length), as: UInt64.self)
    cpu.pointee.gpr.4 = pointer
    return Chain.take(cpu, op, a, b, result, kind)
  }

  static let callRegister: OperationHandler = { cpu, op, a, b, result, kind in
    return call(Chain.register(cpu, op.pointee.destination, as: UInt64.self), cpu, op, a, b, result, kind)
  }

  static let callMemory: OperationHandler = { cpu, op, a, b, result, kind in
    let found = Chain.readable(cpu, Chain.address(cpu, op), 8)
    guard found.isHit else {
      return Chain.semantic(cpu, op, a, b, result, kind)
    }
    return call(found.host.loadUnaligned(as: UInt64.self), cpu, op, a, b, result, kind)
  }

  /// RET without an immediate, 64-bit code.
  static let `return`: OperationHandler = { cpu, op, a, b, result, kind in
    let pointer = cpu.pointee.gpr.4
    let found = Chain.readable(cpu, pointer, 8)
    guard found.isHit else { return Chain.semantic(cpu, op, a, b, result, kind) }
    let target = found.host.loadUnaligned(as: UInt64.self)
    guard Chain.isUserOrKernelHalf(target) else { return Chain.semantic(cpu, op, a, b, result, kind) }
    cpu.pointee.gpr.4 = pointer &+ 8
    return Chain.branch(cpu, op, target, a, b, result, kind)
  }

  // MARK: PUSH and POP, 64 bits

  @inline(__always)
  private static func push(
    _ value: UInt64, _ cpu: CPU, _ op: Op, _ a: UInt64, _ b: UInt64, _ result: UInt64, _ kind: UInt64
  ) {
    let pointer = cpu.pointee.gpr.4 &- 8
    let found = Chain.writable(cpu, pointer, 8)
    guard found.isHit else { return Chain.semantic(cpu, op, a, b, result, kind) }
    found.host.storeBytes(of: value, as: UInt64.self)
    cpu.pointee.gpr.4 = pointer
    return Chain.next(cpu, op, a, b, result, kind)
  }

  static let pushRegister: OperationHandler = { cpu, op, a, b, result, kind in
    return push(Chain.register(cpu, op.pointee.destination, as: UInt64.self), cpu, op, a, b, result, kind)
  }

  static let pushImmediate: OperationHandler = { cpu, op, a, b, result, kind in
    return push(op.pointee.immediate, cpu, op, a, b, result, kind)
  }

  static let popRegister: OperationHandler = { cpu, op, a, b, result, kind in
    let pointer = cpu.pointee.gpr.4
    let found = Chain.readable(cpu, pointer, 8)
    guard found.isHit else { return Chain.semantic(cpu, op, a, b, result, kind) }
    let value = found.host.loadUnaligned(as: UInt64.self)
    cpu.pointee.gpr.4 = pointer &+ 8
    Chain.setRegister(cpu, op.pointee.destination, value)
    return Chain.next(cpu, op, a, b, result, kind)
  }
}
