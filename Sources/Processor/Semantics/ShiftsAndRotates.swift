import CHost
import CZydis
import X86

/// SHL SHR SAR ROL ROR RCL RCR. Counts are taken modulo 32, or 64 for 64-bit operands; a count of zero changes no flag.
///
/// OF is defined for counts of 1 only, and AF never: see `FlagEffect`.
enum ShiftsAndRotates {
  static let rows: [InstructionRow] = [
    InstructionRow(ZYDIS_MNEMONIC_SHL, function(Shifts.Left.self, .shl)),
    InstructionRow(ZYDIS_MNEMONIC_SHR, function(Shifts.Right.self, .shr)),
    InstructionRow(ZYDIS_MNEMONIC_SAR, function(Shifts.ArithmeticRight.self, .sar)),
    InstructionRow(ZYDIS_MNEMONIC_ROL, function(Shifts.RotateLeft.self, .rol)),
    InstructionRow(ZYDIS_MNEMONIC_ROR, function(Shifts.RotateRight.self, .ror)),
    InstructionRow(ZYDIS_MNEMONIC_RCL, function(Shifts.RotateLeftThroughCarry.self, .rcl, .rclWholeTurn)),
    InstructionRow(ZYDIS_MNEMONIC_RCR, function(Shifts.RotateRightThroughCarry.self, .rcr, .rcrWholeTurn)),
  ]

  private static func function<O: ShiftOperation>(
    _ operation: O.Type, _ family: FlagFamily, _ wholeTurn: FlagFamily? = nil
  ) -> SemanticFunction {
    let shift = Shift<O>(family: family, wholeTurn: wholeTurn ?? family)
    return { (processor, op) throws(GuestFault) in try processor.bySize(op, shift) }
  }

  private struct Shift<O: ShiftOperation>: SizedFunction {
    let family: FlagFamily
    let wholeTurn: FlagFamily

    func run<T: Lane>(_ processor: SoftwareProcessor, _ op: Op, as type: T.Type) throws(GuestFault) -> Flow {
      let raw =
        op.pointee.flags & OperationFlags.immediateSource.rawValue != 0
        ? UInt8(truncatingIfNeeded: op.pointee.immediate) : processor.register(op.pointee.source, as: UInt8.self)
      let count = Int(raw) & (T.bitWidth == 64 ? 63 : 31)
      let carry = processor.cpu.pointee.rflags & RFLAGS.cf != 0
      let old: T = try processor.updateFirstOperand(op) { O.compute($0, count, carry).value }
      let outcome = O.compute(old, count, carry)
      guard count != 0 else { return .next }
      if O.isRotate {
        processor.setFlags(
          outcome.changesFlags ? family : wholeTurn, .rotate(O.self, old, count, carry, outcome))
      } else {
        processor.setFlags(family, .shift(O.self, old, count, outcome))
      }
      return .next
    }
  }
}

/// A shifted value and the flags that the shift makes.
struct ShiftOutcome<T: Lane> {
  var value: T
  var carry: Bool
  var overflow: Bool
  /// False for a rotate whose count is a multiple of the period of a through-carry rotate.
  var changesFlags = true
}

protocol ShiftOperation: SendableMetatype {
  /// `count` is already masked to 5 or 6 bits; it may exceed the width of narrow operands.
  static func compute<T: Lane>(_ x: T, _ count: Int, _ carry: Bool) -> ShiftOutcome<T>
  /// Only CF and OF change.
  static var isRotate: Bool { get }
  /// CF is defined for counts beyond the width too.
  static var isArithmetic: Bool { get }
}

extension ShiftOperation {
  @inline(__always) static var isArithmetic: Bool { false }
}

enum Shifts {
  enum Left: ShiftOperation {
    @inline(__always) static var isRotate: Bool { false }
    @inline(__always)
    static func compute<T: Lane>(_ x: T, _ count: Int, _ carry: Bool) -> ShiftOutcome<T> {
      let value = x << count
      let out = count <= T.bitWidth && count > 0 && (x >> (T.bitWidth - count)) & 1 != 0
      return ShiftOutcome(value: value, carry: out, overflow: (value < 0) != out)
    }
  }

  enum Right: ShiftOperation {
    @inline(__always) static var isRotate: Bool { false }
    @inline(__always)
    static func compute<T: Lane>(_ x: T, _ count: Int, _ carry: Bool) -> ShiftOutcome<T> {
      let unsigned = T.Magnitude(truncatingIfNeeded: x)
      let out = count > 0 && (unsigned >> (count - 1)) & 1 != 0
      let value = T(truncatingIfNeeded: unsigned >> count)
      // For a count of one that is the operand's sign.
      return ShiftOutcome(value: value, carry: out, overflow: value << 1 < 0)
    }
  }

  enum ArithmeticRight: ShiftOperation {
    @inline(__always) static var isRotate: Bool { false }
    @inline(__always) static var isArithmetic: Bool { true }
    @inline(__always)
    static func compute<T: Lane>(_ x: T, _ count: Int, _ carry: Bool) -> ShiftOutcome<T> {
      let out = count > 0 && (x >> (count - 1)) & 1 != 0
      return ShiftOutcome(value: x >> count, carry: out, overflow: false)
    }
  }

  enum RotateLeft: ShiftOperation {
    @inline(__always) static var isRotate: Bool { true }
    @inline(__always)
    static func compute<T: Lane>(_ x: T, _ count: Int, _ carry: Bool) -> ShiftOutcome<T> {
      let turn = count & (T.bitWidth - 1)
      let unsigned = T.Magnitude(truncatingIfNeeded: x)
      let value = T(truncatingIfNeeded: turn == 0 ? unsigned : unsigned << turn | unsigned >> (T.bitWidth - turn))
      let out = value & 1 != 0
      return ShiftOutcome(value: value, carry: out, overflow: (value < 0) != out)
    }
  }

  enum RotateRight: ShiftOperation {
    @inline(__always) static var isRotate: Bool { true }
    @inline(__always)
    static func compute<T: Lane>(_ x: T, _ count: Int, _ carry: Bool) -> ShiftOutcome<T> {
      let turn = count & (T.bitWidth - 1)
      let unsigned = T.Magnitude(truncatingIfNeeded: x)
      let value = T(truncatingIfNeeded: turn == 0 ? unsigned : unsigned >> turn | unsigned << (T.bitWidth - turn))
      return ShiftOutcome(value: value, carry: value < 0, overflow: (value < 0) != (value << 1 < 0))
    }
  }

  enum RotateLeftThroughCarry: ShiftOperation {
    @inline(__always) static var isRotate: Bool { true }
    static func compute<T: Lane>(_ x: T, _ count: Int, _ carry: Bool) -> ShiftOutcome<T> {
      let turn = count % (T.bitWidth + 1)
      var value = x
      var bit = carry
      for _ in 0..<turn {
        let out = value < 0
        value = value << 1 | (bit ? 1 : 0)
        bit = out
      }
      return ShiftOutcome(value: value, carry: bit, overflow: (value < 0) != bit, changesFlags: turn != 0)
    }
  }

  enum RotateRightThroughCarry: ShiftOperation {
    @inline(__always) static var isRotate: Bool { true }
    static func compute<T: Lane>(_ x: T, _ count: Int, _ carry: Bool) -> ShiftOutcome<T> {
      let turn = count % (T.bitWidth + 1)
      var value = T.Magnitude(truncatingIfNeeded: x)
      var bit = carry
      for _ in 0..<turn {
        let out = value & 1 != 0
        value = value >> 1 | (bit ? T.Magnitude(truncatingIfNeeded: T.min) : 0)
        bit = out
      }
      let result = T(truncatingIfNeeded: value)
      return ShiftOutcome(
        value: result, carry: bit, overflow: (result < 0) != (result << 1 < 0), changesFlags: turn != 0)
    }
  }
}
