import CHost
import X86

/// Chain handlers of near branches where code is flat, with 32 or 64 bits, and so is the stack where it takes part. Direct
/// jumps are good for all code: their targets were looked at when they were decoded.
///
/// Those that depend on the width are pairs: 32 bits, 64 bits. Flat code of 32 bits reaches every 32-bit target, so only
/// 64-bit targets can be wrong.
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

  @inline(__always)
  private static func jump<Width: StackWidth>(
    to target: Width, _ cpu: CPU, _ op: Op, _ a: UInt64, _ b: UInt64, _ result: UInt64, _ kind: UInt64
  ) {
    guard target.isCodeAddress else { return Chain.semantic(cpu, op, a, b, result, kind) }
    return Chain.branch(cpu, op, UInt64(target), a, b, result, kind)
  }

  static let jumpRegister: [OperationHandler] = [
    { cpu, op, a, b, result, kind in
      return jump(to: Chain.register(cpu, op.pointee.destination, as: UInt32.self), cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return jump(to: Chain.register(cpu, op.pointee.destination, as: UInt64.self), cpu, op, a, b, result, kind)
    },
  ]

  @inline(__always)
  private static func jumpByMemory<Width: StackWidth>(
    _: Width.Type, _ cpu: CPU, _ op: Op, _ a: UInt64, _ b: UInt64, _ result: UInt64, _ kind: UInt64
  ) {
    let found = Chain.readable(cpu, Chain.address(cpu, op), Width.size)
    guard found.isHit else { return Chain.semantic(cpu, op, a, b, result, kind) }
    return jump(to: found.host.loadUnaligned(as: Width.self), cpu, op, a, b, result, kind)
  }

  static let jumpMemory: [OperationHandler] = [
    { cpu, op, a, b, result, kind in
      return jumpByMemory(UInt32.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return jumpByMemory(UInt64.self, cpu, op, a, b, result, kind)
    },
  ]

  // MARK: CALL

  @inline(__always)
  private static func call<Width: StackWidth>(
    _ target: Width, _ cpu: CPU, _ op: Op, _ a: UInt64, _ b: UInt64, _ result: UInt64, _ kind: UInt64
  ) {
    let pointer = Width.stackPointer(cpu) &- Width(Width.size)
    let found = Chain.writable(cpu, UInt64(pointer), Width.size)
    guard found.isHit, target.isCodeAddress else { return Chain.semantic(cpu, op, a, b, result, kind) }
    found.host.storeBytes(of: returnAddress(cpu, op), as: Width.self)
    cpu.pointee.gpr.4 = UInt64(pointer)
    return Chain.branch(cpu, op, UInt64(target), a, b, result, kind)
  }

  @inline(__always)
  private static func returnAddress<Width: StackWidth>(_ cpu: CPU, _ op: Op) -> Width {
    Width(truncatingIfNeeded: cpu.pointee.rip &+ UInt64(op.pointee.offset) &+ UInt64(op.pointee.length))
  }

  @inline(__always)
  private static func callByDisplacement<Width: StackWidth>(
    _: Width.Type, _ cpu: CPU, _ op: Op, _ a: UInt64, _ b: UInt64, _ result: UInt64, _ kind: UInt64
  ) {
    let pointer = Width.stackPointer(cpu) &- Width(Width.size)
    let found = Chain.writable(cpu, UInt64(pointer), Width.size)
    guard found.isHit else { return Chain.semantic(cpu, op, a, b, result, kind) }
    found.host.storeBytes(of: returnAddress(cpu, op), as: Width.self)
    cpu.pointee.gpr.4 = UInt64(pointer)
    return Chain.take(cpu, op, a, b, result, kind)
  }

  static let callDirect: [OperationHandler] = [
    { cpu, op, a, b, result, kind in
      return callByDisplacement(UInt32.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return callByDisplacement(UInt64.self, cpu, op, a, b, result, kind)
    },
  ]

  static let callRegister: [OperationHandler] = [
    { cpu, op, a, b, result, kind in
      return call(Chain.register(cpu, op.pointee.destination, as: UInt32.self), cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return call(Chain.register(cpu, op.pointee.destination, as: UInt64.self), cpu, op, a, b, result, kind)
    },
  ]

  @inline(__always)
  private static func callByMemory<Width: StackWidth>(
    _: Width.Type, _ cpu: CPU, _ op: Op, _ a: UInt64, _ b: UInt64, _ result: UInt64, _ kind: UInt64
  ) {
    let found = Chain.readable(cpu, Chain.address(cpu, op), Width.size)
    guard found.isHit else { return Chain.semantic(cpu, op, a, b, result, kind) }
    return call(found.host.loadUnaligned(as: Width.self), cpu, op, a, b, result, kind)
  }

  static let callMemory: [OperationHandler] = [
    { cpu, op, a, b, result, kind in
      return callByMemory(UInt32.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return callByMemory(UInt64.self, cpu, op, a, b, result, kind)
    },
  ]

  // MARK: RET

  /// - Parameter release: bytes of arguments to take off the stack as well.
  @inline(__always)
  private static func goBack<Width: StackWidth>(
    releasing release: Width, _ cpu: CPU, _ op: Op, _ a: UInt64, _ b: UInt64, _ result: UInt64, _ kind: UInt64
  ) {
    let pointer = Width.stackPointer(cpu)
    let found = Chain.readable(cpu, UInt64(pointer), Width.size)
    guard found.isHit else { return Chain.semantic(cpu, op, a, b, result, kind) }
    let target = found.host.loadUnaligned(as: Width.self)
    guard target.isCodeAddress else { return Chain.semantic(cpu, op, a, b, result, kind) }
    cpu.pointee.gpr.4 = UInt64(pointer &+ Width(Width.size) &+ release)
    return Chain.branch(cpu, op, UInt64(target), a, b, result, kind)
  }

  static let `return`: [OperationHandler] = [
    { cpu, op, a, b, result, kind in
      return goBack(releasing: 0 as UInt32, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return goBack(releasing: 0 as UInt64, cpu, op, a, b, result, kind)
    },
  ]

  /// RET with an immediate.
  static let returnReleasing: [OperationHandler] = [
    { cpu, op, a, b, result, kind in
      return goBack(releasing: UInt32(op.pointee.immediate & 0xffff), cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return goBack(releasing: op.pointee.immediate & 0xffff, cpu, op, a, b, result, kind)
    },
  ]
}
