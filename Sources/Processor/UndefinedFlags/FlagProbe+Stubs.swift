import X86

extension FlagProbe {
  /// One instruction with register operands: RAX is the first, RDX the second, RCX the count or divisor.
  struct Stub {
    /// Which operands are possible.
    enum Operands: Sendable {
      case any, oftenZero, unsignedDivision, signedDivision
      /// A count that turns an operand and CF around as often as not.
      case oftenWholeTurn
      /// A field of all bits as often as not.
      case oftenWholeField
    }

    let code: [UInt8]
    /// Operand size in bytes.
    let width: Int
    let operandKind: Operands
    /// What the host must have, if not every processor has the instruction.
    let feature: NativeFeatures?
    /// What it does to flags by the formulas of `FlagEffect`, and whose rule says the rest. Nil where that is not of interest.
    let effect: (Registers) -> (FlagFamily, FlagEffect)?

    var isAvailable: Bool { feature.map(NativeFeatures.host.contains) ?? true }

    /// Operands and flags of a trial.
    func operands(_ trial: Int, _ seed: inout UInt64) -> Registers {
      func next() -> UInt64 {
        seed ^= seed << 13
        seed ^= seed >> 7
        seed ^= seed << 17
        return seed
      }
      func operand() -> UInt64 {
        let value = next()
        return switch next() % 4 {
        case 0: value
        case 1: value >> (value & 63)
        case 2: ~0 << (value & 63)
        default: 1 << (value & 63)
        }
      }
      var registers = Registers(
        rax: operand(), rcx: operand(), rdx: operand(), rflags: RFLAGS.fixed | RFLAGS.if | next() & RFLAGS.arithmetic)
      let bits = UInt64(width * 8)
      let mask: UInt64 = bits == 64 ? ~0 : 1 << bits - 1
      switch operandKind {
      case .any: break
      case .oftenZero: if trial & 1 == 0 { registers.rdx = 0 }
      case .oftenWholeTurn: if trial & 1 == 0 { registers.rcx = bits + 1 }
      case .oftenWholeField: if trial & 1 == 0 { registers.rcx = bits << 8 }
      case .unsignedDivision:
        // The upper half is less than the divisor.
        registers.rcx |= 1
        setUpper((registers.rdx & mask) % (registers.rcx & mask), &registers, mask)
      case .signedDivision:
        // The dividend is as wide as the divisor, which is neither 0 nor -1.
        registers.rcx = registers.rcx & ~3 | 1 << (trial & 1 == 0 ? 1 : 3)
        let isNegative = registers.rax >> (width == 1 ? 7 : bits - 1) & 1 != 0
        setUpper(isNegative ? mask : 0, &registers, mask)
      }
      return registers
    }

    /// Sets AH or RDX.
    private func setUpper(_ value: UInt64, _ registers: inout Registers, _ mask: UInt64) {
      if width == 1 {
        registers.rax = registers.rax & ~0xff00 | value << 8
      } else {
        registers.rdx = registers.rdx & ~mask | value
      }
    }
  }
}

extension FlagProbe.Stub {
  /// Read only.
  nonisolated(unsafe) static let all: [FlagProbe.Stub] =
    shifts + doubleShifts + products + quotients + scans + tests + fields + logic

  /// Opcodes of 8-bit forms are one less. `opcode` has the escape byte, if any.
  private static func encode(_ width: Int, _ opcode: [UInt8], _ modRM: UInt8, prefix: UInt8? = nil) -> [UInt8] {
    var bytes: [UInt8] = []
    if width == 2 { bytes.append(0x66) }
    if let prefix { bytes.append(prefix) }
    if width == 8 { bytes.append(0x48) }
    bytes += opcode
    if width == 1 { bytes[bytes.count - 1] -= 1 }
    return bytes + [modRM]
  }

  private init(
    _ code: [UInt8], _ width: Int, _ operands: Operands = .any, _ feature: NativeFeatures? = nil,
    _ effect: @escaping (FlagProbe.Registers) -> (FlagFamily, FlagEffect)?
  ) {
    self.code = code
    self.width = width
    operandKind = operands
    self.feature = feature
    self.effect = effect
  }

  // MARK: Shifts and rotates by CL: D3 /n

  private static var shifts: [FlagProbe.Stub] {
    shift(Shifts.RotateLeft.self, 0, .rol) + shift(Shifts.RotateRight.self, 1, .ror)
      + shift(Shifts.RotateLeftThroughCarry.self, 2, .rcl, .rclWholeTurn)
      + shift(Shifts.RotateRightThroughCarry.self, 3, .rcr, .rcrWholeTurn)
      + shift(Shifts.Left.self, 4, .shl) + shift(Shifts.Right.self, 5, .shr)
      + shift(Shifts.ArithmeticRight.self, 7, .sar)
  }

  private static func shift<O: ShiftOperation>(
    _ operation: O.Type, _ field: UInt8, _ family: FlagFamily, _ wholeTurn: FlagFamily? = nil
  ) -> [FlagProbe.Stub] {
    func make<T: Lane>(_: T.Type) -> FlagProbe.Stub {
      let width = MemoryLayout<T>.size
      let operands: Operands = wholeTurn == nil || width > 2 ? .any : .oftenWholeTurn
      return FlagProbe.Stub(encode(width, [0xd3], 0xc0 | field << 3), width, operands) { registers in
        let count = Int(registers.rcx & (width == 8 ? 63 : 31))
        guard count != 0 else { return nil }
        let x = T(truncatingIfNeeded: registers.rax)
        let carry = registers.rflags & RFLAGS.cf != 0
        let outcome = O.compute(x, count, carry)
        if O.isRotate {
          return (outcome.changesFlags ? family : wholeTurn ?? family, .rotate(O.self, x, count, carry, outcome))
        }
        return (family, .shift(O.self, x, count, outcome))
      }
    }
    return [make(Int8.self), make(Int16.self), make(Int32.self), make(Int64.self)]
  }

  /// SHLD and SHRD with EDX by CL.
  private static var doubleShifts: [FlagProbe.Stub] {
    func make<T: Word>(_: T.Type, _ opcode: UInt8, _ family: FlagFamily, isLeft: Bool) -> FlagProbe.Stub {
      let width = MemoryLayout<T>.size
      return FlagProbe.Stub(encode(width, [0x0f, opcode], 0xd0), width) { registers in
        let count = Int(registers.rcx & (width == 8 ? 63 : 31))
        guard count != 0 else { return nil }
        let value = T(truncatingIfNeeded: registers.rax)
        let source = T(truncatingIfNeeded: registers.rdx)
        return (family, DoubleShifts.effect(value, source, count, isLeft: isLeft))
      }
    }
    return [
      make(UInt32.self, 0xa5, .shld, isLeft: true), make(UInt64.self, 0xa5, .shld, isLeft: true),
      make(UInt32.self, 0xad, .shrd, isLeft: false), make(UInt64.self, 0xad, .shrd, isLeft: false),
    ]
  }

  // MARK: Products and quotients: F7 /n, 0F AF

  private static var products: [FlagProbe.Stub] {
    func make<T: Word, S: FixedWidthInteger & SignedInteger>(_: T.Type, _: S.Type) -> [FlagProbe.Stub] {
      let width = MemoryLayout<T>.size
      let unsigned = FlagProbe.Stub(encode(width, [0xf7], 0xe2), width) { registers in
        let (high, low) = T(truncatingIfNeeded: registers.rax).multipliedFullWidth(
          by: T(truncatingIfNeeded: registers.rdx))
        return (.mul, .product(low: T(truncatingIfNeeded: low), high: high, overflows: high != 0))
      }
      func signed(_ opcode: [UInt8], _ modRM: UInt8, _ family: FlagFamily) -> FlagProbe.Stub {
        FlagProbe.Stub(encode(width, opcode, modRM), width) { registers in
          let (high, low) = S(truncatingIfNeeded: registers.rax).multipliedFullWidth(
            by: S(truncatingIfNeeded: registers.rdx))
          let lower = S(truncatingIfNeeded: low)
          return (family, .product(low: lower, high: high, overflows: high != lower >> (S.bitWidth - 1)))
        }
      }
      let wide = [unsigned, signed([0xf7], 0xea, .imul)]
      return width > 1 ? wide + [signed([0x0f, 0xaf], 0xc2, .imulTruncating)] : wide
    }
    return make(UInt8.self, Int8.self) + make(UInt16.self, Int16.self) + make(UInt32.self, Int32.self)
      + make(UInt64.self, Int64.self)
  }

  private static var quotients: [FlagProbe.Stub] {
    func make<T: Word, S: FixedWidthInteger & SignedInteger>(_: T.Type, _: S.Type) -> [FlagProbe.Stub] {
      let width = MemoryLayout<T>.size
      return [
        FlagProbe.Stub(encode(width, [0xf7], 0xf1), width, .unsignedDivision) { registers in
          let high = T(truncatingIfNeeded: width == 1 ? registers.rax >> 8 : registers.rdx)
          let low = T(truncatingIfNeeded: registers.rax)
          let result = T(truncatingIfNeeded: registers.rcx).dividingFullWidth(
            (high, T.Magnitude(truncatingIfNeeded: low)))
          return (.div, .quotient(result.quotient, remainder: result.remainder))
        },
        FlagProbe.Stub(encode(width, [0xf7], 0xf9), width, .signedDivision) { registers in
          let result = S(truncatingIfNeeded: registers.rax).quotientAndRemainder(
            dividingBy: S(truncatingIfNeeded: registers.rcx))
          return (.idiv, .quotient(result.quotient, remainder: result.remainder))
        },
      ]
    }
    return make(UInt8.self, Int8.self) + make(UInt16.self, Int16.self) + make(UInt32.self, Int32.self)
      + make(UInt64.self, Int64.self)
  }

  // MARK: Bits

  /// BSF, BSR, TZCNT and LZCNT of RDX.
  private static var scans: [FlagProbe.Stub] {
    func make<T: Word>(_: T.Type) -> [FlagProbe.Stub] {
      let width = MemoryLayout<T>.size
      func scan(_ opcode: UInt8, _ family: FlagFamily, _ zero: FlagFamily, _ index: @escaping (T) -> Int)
        -> FlagProbe.Stub
      {
        FlagProbe.Stub(encode(width, [0x0f, opcode], 0xc2), width, .oftenZero) { registers in
          let source = T(truncatingIfNeeded: registers.rdx)
          return (
            source == 0 ? zero : family,
            .scan(source == 0 ? 0 : T(truncatingIfNeeded: index(source)), source: source)
          )
        }
      }
      func count(
        _ opcode: UInt8, _ family: FlagFamily, _ feature: NativeFeatures, _ zeros: @escaping (T) -> Int
      ) -> FlagProbe.Stub {
        FlagProbe.Stub(encode(width, [0x0f, opcode], 0xc2, prefix: 0xf3), width, .oftenZero, feature) { registers in
          let source = T(truncatingIfNeeded: registers.rdx)
          return (family, .count(T(truncatingIfNeeded: zeros(source)), source: source))
        }
      }
      return [
        scan(0xbc, .bsf, .bsfZero) { $0.trailingZeroBitCount },
        scan(0xbd, .bsr, .bsrZero) { T.bitWidth - 1 - $0.leadingZeroBitCount },
        count(0xbc, .tzcnt, .bmi1) { $0.trailingZeroBitCount },
        count(0xbd, .lzcnt, .lzcnt) { $0.leadingZeroBitCount },
      ]
    }
    return make(UInt16.self) + make(UInt32.self) + make(UInt64.self)
  }

  /// BT, BTS, BTR and BTC of RAX by RDX.
  private static var tests: [FlagProbe.Stub] {
    func make<T: Word>(_: T.Type) -> [FlagProbe.Stub] {
      let width = MemoryLayout<T>.size
      return [0xa3, 0xab, 0xb3, 0xbb].map { opcode in
        FlagProbe.Stub(encode(width, [0x0f, opcode], 0xd0), width) { registers in
          (
            .bitTest,
            .bitTest(
              T(truncatingIfNeeded: registers.rax), bit: T(truncatingIfNeeded: registers.rdx & UInt64(T.bitWidth - 1)))
          )
        }
      }
    }
    return make(UInt16.self) + make(UInt32.self) + make(UInt64.self)
  }

  /// BEXTR, BLSR, BLSMSK, BLSI, BZHI and ANDN: RAX of RDX, by RCX. In VEX.vvvv registers are complemented.
  private static var fields: [FlagProbe.Stub] {
    func make<T: Word>(_: T.Type) -> [FlagProbe.Stub] {
      let width = MemoryLayout<T>.size
      let wide: UInt8 = width == 8 ? 0x80 : 0
      func stub(
        _ opcode: UInt8, _ modRM: UInt8, register: UInt8, _ family: FlagFamily, _ feature: NativeFeatures = .bmi1,
        _ compute: @escaping (T, UInt64) -> (T, Bool)
      ) -> FlagProbe.Stub {
        FlagProbe.Stub(
          [0xc4, 0xe2, wide | (~register & 15) << 3, opcode, modRM], width, family == .bextr ? .oftenWholeField : .any,
          feature
        ) { registers in
          let source = T(truncatingIfNeeded: registers.rdx)
          let (result, carry) = compute(source, registers.rcx)
          return (family, .bits(family, result, source: source, carry: carry))
        }
      }
      return [
        stub(0xf7, 0xc2, register: 1, .bextr) { (BitManipulation.field($0, $1), false) },
        stub(0xf3, 0xca, register: 0, .blsr) { source, _ in (source & (source &- 1), source == 0) },
        stub(0xf3, 0xd2, register: 0, .blsmsk) { source, _ in (source ^ (source &- 1), source == 0) },
        stub(0xf3, 0xda, register: 0, .blsi) { source, _ in (source & (0 &- source), source != 0) },
        stub(0xf5, 0xc2, register: 1, .bzhi, .bmi2) { BitManipulation.lower($0, $1) },
        stub(0xf2, 0xc2, register: 1, .andn) { source, other in (~T(truncatingIfNeeded: other) & source, false) },
      ]
    }
    return make(UInt32.self) + make(UInt64.self)
  }

  private static var logic: [FlagProbe.Stub] {
    func make<T: Word>(_: T.Type) -> [FlagProbe.Stub] {
      let width = MemoryLayout<T>.size
      func stub(_ opcode: UInt8, _ compute: @escaping (T, T) -> T) -> FlagProbe.Stub {
        FlagProbe.Stub(encode(width, [opcode], 0xd0), width) { registers in
          let (x, y) = (T(truncatingIfNeeded: registers.rax), T(truncatingIfNeeded: registers.rdx))
          return (.logic, .bits(.logic, compute(x, y), source: x, carry: false))
        }
      }
      return [
        stub(0x21) { $0 & $1 }, stub(0x09) { $0 | $1 }, stub(0x31) { $0 ^ $1 }, stub(0x85) { $0 & $1 },
      ]
    }
    return make(UInt8.self) + make(UInt16.self) + make(UInt32.self) + make(UInt64.self)
  }
}
