import X86

/// A signed integer of an operand's size.
protocol Lane: FixedWidthInteger, SignedInteger, BitwiseCopyable where Magnitude: BitwiseCopyable {}
extension Int8: Lane {}
extension Int16: Lane {}
extension Int32: Lane {}
extension Int64: Lane {}

/// One of the two-operand arithmetic instructions: what it computes and which form its lazy flags have.
protocol ArithmeticOperation: SendableMetatype {
  static func compute<T: Lane>(_ x: T, _ y: T, _ carry: T) -> T
  static var kind: UInt64 { get }
  static var writesResult: Bool { get }
  static var usesCarry: Bool { get }
}

extension ArithmeticOperation {
  @inline(__always) static var writesResult: Bool { true }
  @inline(__always) static var usesCarry: Bool { false }
}

enum Arithmetic {
  enum Add: ArithmeticOperation {
    @inline(__always) static func compute<T: Lane>(_ x: T, _ y: T, _ carry: T) -> T { x &+ y }
    @inline(__always) static var kind: UInt64 { LazyFlags.add }
  }

  enum Adc: ArithmeticOperation {
    @inline(__always) static func compute<T: Lane>(_ x: T, _ y: T, _ carry: T) -> T { x &+ y &+ carry }
    @inline(__always) static var kind: UInt64 { LazyFlags.add }
    @inline(__always) static var usesCarry: Bool { true }
  }

  enum Sub: ArithmeticOperation {
    @inline(__always) static func compute<T: Lane>(_ x: T, _ y: T, _ carry: T) -> T { x &- y }
    @inline(__always) static var kind: UInt64 { LazyFlags.subtract }
  }

  enum Sbb: ArithmeticOperation {
    @inline(__always) static func compute<T: Lane>(_ x: T, _ y: T, _ carry: T) -> T { x &- y &- carry }
    @inline(__always) static var kind: UInt64 { LazyFlags.subtractWithBorrow }
    @inline(__always) static var usesCarry: Bool { true }
  }

  enum Cmp: ArithmeticOperation {
    @inline(__always) static func compute<T: Lane>(_ x: T, _ y: T, _ carry: T) -> T { x &- y }
    @inline(__always) static var kind: UInt64 { LazyFlags.subtract }
    @inline(__always) static var writesResult: Bool { false }
  }

  enum And: ArithmeticOperation {
    @inline(__always) static func compute<T: Lane>(_ x: T, _ y: T, _ carry: T) -> T { x & y }
    @inline(__always) static var kind: UInt64 { LazyFlags.logic }
  }

  enum Or: ArithmeticOperation {
    @inline(__always) static func compute<T: Lane>(_ x: T, _ y: T, _ carry: T) -> T { x | y }
    @inline(__always) static var kind: UInt64 { LazyFlags.logic }
  }

  enum Xor: ArithmeticOperation {
    @inline(__always) static func compute<T: Lane>(_ x: T, _ y: T, _ carry: T) -> T { x ^ y }
    @inline(__always) static var kind: UInt64 { LazyFlags.logic }
  }

  enum Test: ArithmeticOperation {
    @inline(__always) static func compute<T: Lane>(_ x: T, _ y: T, _ carry: T) -> T { x & y }
    @inline(__always) static var kind: UInt64 { LazyFlags.logic }
    @inline(__always) static var writesResult: Bool { false }
  }
}

/// An instruction that changes its one operand.
protocol UnaryOperation: SendableMetatype {
  static func compute<T: Lane>(_ x: T) -> T
  /// Form of the lazy flags; nil: no flag changes. `b` is the operand.
  static var kind: UInt64? { get }
  /// The lazy flags' `a` is the carry flag as it was; otherwise 0.
  static var keepsCarry: Bool { get }
}

enum Unary {
  enum Increment: UnaryOperation {
    @inline(__always) static func compute<T: Lane>(_ x: T) -> T { x &+ 1 }
    @inline(__always) static var kind: UInt64? { LazyFlags.increment }
    @inline(__always) static var keepsCarry: Bool { true }
  }

  enum Decrement: UnaryOperation {
    @inline(__always) static func compute<T: Lane>(_ x: T) -> T { x &- 1 }
    @inline(__always) static var kind: UInt64? { LazyFlags.decrement }
    @inline(__always) static var keepsCarry: Bool { true }
  }

  enum Negate: UnaryOperation {
    @inline(__always) static func compute<T: Lane>(_ x: T) -> T { 0 &- x }
    @inline(__always) static var kind: UInt64? { LazyFlags.subtract }
    @inline(__always) static var keepsCarry: Bool { false }
  }

  enum Invert: UnaryOperation {
    @inline(__always) static func compute<T: Lane>(_ x: T) -> T { ~x }
    @inline(__always) static var kind: UInt64? { nil }
    @inline(__always) static var keepsCarry: Bool { false }
  }
}
