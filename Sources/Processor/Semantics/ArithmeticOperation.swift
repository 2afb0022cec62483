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
