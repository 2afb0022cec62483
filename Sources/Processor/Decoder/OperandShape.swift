import CHost

/// Where the operands of a two-operand integer instruction are.
enum OperandShape: Int {
  case registerRegister, registerImmediate, registerMemory, memoryRegister, memoryImmediate

  /// Nil for other shapes, and where memory is locked or addressed absolutely.
  init?(_ op: Operation) {
    let flags = op.flags
    guard flags & (OperationFlags.lock.rawValue | OperationFlags.absoluteAddress.rawValue) == 0 else { return nil }
    let isImmediate = flags & OperationFlags.immediateSource.rawValue != 0
    if flags & OperationFlags.memoryFirst.rawValue != 0 {
      self = isImmediate ? .memoryImmediate : .memoryRegister
    } else if flags & OperationFlags.memorySource.rawValue != 0 {
      self = .registerMemory
    } else {
      self = isImmediate ? .registerImmediate : .registerRegister
    }
  }

  var hasMemory: Bool { rawValue >= OperandShape.registerMemory.rawValue }
}
