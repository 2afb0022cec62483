import CHost
import X86

/// Chain handlers of near branches, PUSH and POP in 32-bit code with flat segments and a 32-bit stack. Direct jumps are
/// those of `BranchHandlers`: a flat segment has no limit to check, and addresses wrap by the operation's mask.
enum BranchHandlers32 {
  @inline(__always)
  private static func pointer(_ cpu: CPU, _ distance: UInt64) -> UInt64 {
    (cpu.pointee.gpr.4 &+ distance) & 0xffff_ffff
  }

  /// Where the instruction behind `op` is.
  @inline(__always)
  private static func next(_ cpu: CPU, _ op: Op) -> UInt32 {
    UInt32(truncatingIfNeeded: cpu.pointee.rip &+ UInt64(op.pointee.offset) &+ UInt64(op.pointee.length))
  }

  static let jumpRegister: OperationHandler = { cpu, op, a, b, result, kind in
    let target = UInt64(Chain.register(cpu, op.pointee.destination, as: UInt32.self))
    return Chain.branch(cpu, op, target, a, b, result, kind)
  }

  static let jumpMemory: OperationHandler = { cpu, op, a, b, result, kind in
    let found = Chain.readable(cpu, Chain.address(cpu, op), 4)
    guard found.isHit else { return Chain.semantic(cpu, op, a, b, result, kind) }
    return Chain.branch(cpu, op, UInt64(found.host.loadUnaligned(as: UInt32.self)), a, b, result, kind)
  }

  static let callDirect: OperationHandler = { cpu, op, a, b, result, kind in
    let pointer = pointer(cpu, ~3)
    let found = Chain.writable(cpu, pointer, 4)
    guard found.isHit else { return Chain.semantic(cpu, op, a, b, result, kind) }
    found.host.storeBytes(of: next(cpu, op), as: UInt32.self)
    cpu.pointee.gpr.4 = pointer
    return Chain.take(cpu, op, a, b, result, kind)
  }

  @inline(__always)
  private static func call(
    _ target: UInt32, _ cpu: CPU, _ op: Op, _ a: UInt64, _ b: UInt64, _ result: UInt64, _ kind: UInt64
  ) {
    let pointer = pointer(cpu, ~3)
    let found = Chain.writable(cpu, pointer, 4)
    guard found.isHit else { return Chain.semantic(cpu, op, a, b, result, kind) }
    found.host.storeBytes(of: next(cpu, op), as: UInt32.self)
    cpu.pointee.gpr.4 = pointer
    return Chain.branch(cpu, op, UInt64(target), a, b, result, kind)
  }

  static let callRegister: OperationHandler = { cpu, op, a, b, result, kind in
    return call(Chain.register(cpu, op.pointee.destination, as: UInt32.self), cpu, op, a, b, result, kind)
  }

  static let callMemory: OperationHandler = { cpu, op, a, b, result, kind in
    let found = Chain.readable(cpu, Chain.address(cpu, op), 4)
    guard found.isHit else { return Chain.semantic(cpu, op, a, b, result, kind) }
    return call(found.host.loadUnaligned(as: UInt32.self), cpu, op, a, b, result, kind)
  }

  /// RET without an immediate.
  static let `return`: OperationHandler = { cpu, op, a, b, result, kind in
    let found = Chain.readable(cpu, pointer(cpu, 0), 4)
    guard found.isHit else { return Chain.semantic(cpu, op, a, b, result, kind) }
    let target = UInt64(found.host.loadUnaligned(as: UInt32.self))
    cpu.pointee.gpr.4 = pointer(cpu, 4)
    return Chain.branch(cpu, op, target, a, b, result, kind)
  }

  @inline(__always)
  private static func push(
    _ value: UInt32, _ cpu: CPU, _ op: Op, _ a: UInt64, _ b: UInt64, _ result: UInt64, _ kind: UInt64
  ) {
    let pointer = pointer(cpu, ~3)
    let found = Chain.writable(cpu, pointer, 4)
    guard found.isHit else { return Chain.semantic(cpu, op, a, b, result, kind) }
    found.host.storeBytes(of: value, as: UInt32.self)
    cpu.pointee.gpr.4 = pointer
    return Chain.next(cpu, op, a, b, result, kind)
  }

  static let pushRegister: OperationHandler = { cpu, op, a, b, result, kind in
    return push(Chain.register(cpu, op.pointee.destination, as: UInt32.self), cpu, op, a, b, result, kind)
  }

  static let pushImmediate: OperationHandler = { cpu, op, a, b, result, kind in
    return push(UInt32(truncatingIfNeeded: op.pointee.immediate), cpu, op, a, b, result, kind)
  }

  static let popRegister: OperationHandler = { cpu, op, a, b, result, kind in
    let found = Chain.readable(cpu, pointer(cpu, 0), 4)
    guard found.isHit else { return Chain.semantic(cpu, op, a, b, result, kind) }
    let value = found.host.loadUnaligned(as: UInt32.self)
    cpu.pointee.gpr.4 = pointer(cpu, 4)
    Chain.setRegister(cpu, op.pointee.destination, value)
    return Chain.next(cpu, op, a, b, result, kind)
  }
}
