import CHost
import X86

/// Width of a flat stack and of what handlers put there: 32 or 64 bits.
protocol StackWidth: FixedWidthInteger & UnsignedInteger & BitwiseCopyable {
  /// In bytes.
  static var size: Int { get }
  /// Whether a branch may go there: true is certain, false is for the semantic function to decide.
  var isCodeAddress: Bool { get }
}

extension StackWidth {
  @inline(__always) static var size: Int { bitWidth / 8 }

  /// ESP or RSP. What is above ESP has no meaning, and is cleared when ESP is written.
  @inline(__always)
  static func stackPointer(_ cpu: CPU) -> Self { Self(truncatingIfNeeded: cpu.pointee.gpr.4) }
}

extension UInt32: StackWidth {
  @inline(__always) var isCodeAddress: Bool { true }
}

extension UInt64: StackWidth {
  @inline(__always) var isCodeAddress: Bool { Chain.isUserOrKernelHalf(self) }
}

/// Chain handlers of PUSH, POP and LEAVE where stacks are flat, with 32 or 64 bits.
///
/// All are pairs: 32 bits, 64 bits. A flat stack has no limit to look at, and a datum that would wrap around at 4 GiB
/// crosses a page, which the TLB does not find.
enum StackHandlers {
  @inline(__always)
  private static func push<Width: StackWidth>(
    _ value: Width, _ cpu: CPU, _ op: Op, _ a: UInt64, _ b: UInt64, _ result: UInt64, _ kind: UInt64
  ) {
    let pointer = Width.stackPointer(cpu) &- Width(Width.size)
    let found = Chain.writable(cpu, UInt64(pointer), Width.size)
    guard found.isHit else { return Chain.semantic(cpu, op, a, b, result, kind) }
    found.host.storeBytes(of: value, as: Width.self)
    cpu.pointee.gpr.4 = UInt64(pointer)
    return Chain.next(cpu, op, a, b, result, kind)
  }

  static let pushRegister: [OperationHandler] = [
    { cpu, op, a, b, result, kind in
      return push(Chain.register(cpu, op.pointee.destination, as: UInt32.self), cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return push(Chain.register(cpu, op.pointee.destination, as: UInt64.self), cpu, op, a, b, result, kind)
    },
  ]

  static let pushImmediate: [OperationHandler] = [
    { cpu, op, a, b, result, kind in
      return push(UInt32(truncatingIfNeeded: op.pointee.immediate), cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return push(op.pointee.immediate, cpu, op, a, b, result, kind)
    },
  ]

  @inline(__always)
  private static func pushFromMemory<Width: StackWidth>(
    _: Width.Type, _ cpu: CPU, _ op: Op, _ a: UInt64, _ b: UInt64, _ result: UInt64, _ kind: UInt64
  ) {
    let found = Chain.readable(cpu, Chain.address(cpu, op), Width.size)
    guard found.isHit else { return Chain.semantic(cpu, op, a, b, result, kind) }
    return push(found.host.loadUnaligned(as: Width.self), cpu, op, a, b, result, kind)
  }

  static let pushMemory: [OperationHandler] = [
    { cpu, op, a, b, result, kind in
      return pushFromMemory(UInt32.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return pushFromMemory(UInt64.self, cpu, op, a, b, result, kind)
    },
  ]

  @inline(__always)
  private static func pop<Width: StackWidth>(
    _: Width.Type, _ cpu: CPU, _ op: Op, _ a: UInt64, _ b: UInt64, _ result: UInt64, _ kind: UInt64
  ) {
    let pointer = Width.stackPointer(cpu)
    let found = Chain.readable(cpu, UInt64(pointer), Width.size)
    guard found.isHit else { return Chain.semantic(cpu, op, a, b, result, kind) }
    let value = found.host.loadUnaligned(as: Width.self)
    cpu.pointee.gpr.4 = UInt64(pointer &+ Width(Width.size))
    Chain.setRegister(cpu, op.pointee.destination, value)
    return Chain.next(cpu, op, a, b, result, kind)
  }

  static let popRegister: [OperationHandler] = [
    { cpu, op, a, b, result, kind in
      return pop(UInt32.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return pop(UInt64.self, cpu, op, a, b, result, kind)
    },
  ]

  @inline(__always)
  private static func leave<Width: StackWidth>(
    _: Width.Type, _ cpu: CPU, _ op: Op, _ a: UInt64, _ b: UInt64, _ result: UInt64, _ kind: UInt64
  ) {
    let pointer = Width(truncatingIfNeeded: cpu.pointee.gpr.5)
    let found = Chain.readable(cpu, UInt64(pointer), Width.size)
    guard found.isHit else { return Chain.semantic(cpu, op, a, b, result, kind) }
    cpu.pointee.gpr.5 = UInt64(found.host.loadUnaligned(as: Width.self))
    cpu.pointee.gpr.4 = UInt64(pointer &+ Width(Width.size))
    return Chain.next(cpu, op, a, b, result, kind)
  }

  static let leave: [OperationHandler] = [
    { cpu, op, a, b, result, kind in
      return leave(UInt32.self, cpu, op, a, b, result, kind)
    },
    { cpu, op, a, b, result, kind in
      return leave(UInt64.self, cpu, op, a, b, result, kind)
    },
  ]
}
