import CHost

/// What the slow path has to know of an instruction that runs natively; it travels in `Operation.detail`.
struct NativeTraits: OptionSet {
  var rawValue: UInt16

  /// The memory operand is written; otherwise it is read.
  static let writesMemory = NativeTraits(rawValue: 1 << 6)
  /// #GP(0) unless the memory operand is aligned to its size.
  static let isAligned = NativeTraits(rawValue: 1 << 7)
  /// The instruction uses the x87 unit (x87 and MMX).
  static let usesX87 = NativeTraits(rawValue: 1 << 8)
  /// A pending x87 exception is delivered first.
  static let waits = NativeTraits(rawValue: 1 << 9)
  /// The x87 instruction and data pointers follow it. `Operation.immediate` is the x87 opcode.
  static let movesPointers = NativeTraits(rawValue: 1 << 10)
  static let writesFlags = NativeTraits(rawValue: 1 << 11)

  /// Bytes of the memory operand; 0 where there is none.
  var memorySize: Int {
    get { Int(rawValue & 63) }
    set { rawValue = rawValue & ~63 | UInt16(newValue & 63) }
  }

  init(rawValue: UInt16) { self.rawValue = rawValue }

  /// Those of an operation that the native unit prepared.
  init(_ op: Op) { self.init(rawValue: op.pointee.detail) }
}
