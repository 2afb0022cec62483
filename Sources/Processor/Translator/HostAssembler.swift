import CHost
import CZydis
import Host

/// Numbers of the host's general registers, as instructions encode them.
enum HostRegister {
  static let rax = 0
  static let rcx = 1
  static let rdx = 2
  static let rbx = 3
  static let rsp = 4
  static let rbp = 5
  static let rsi = 6
  static let rdi = 7
  static let r8 = 8
  static let r9 = 9
  static let r10 = 10
  static let r11 = 11
  static let r12 = 12
  static let r13 = 13
  static let r14 = 14
  static let r15 = 15
}

/// What a ModRM byte can name.
enum HostOperand {
  case register(Int)
  /// [base + (index << scale) + displacement]; no index: nil.
  case memory(base: Int, index: Int?, scale: Int, displacement: Int32)
  /// A field of the `TranslationFrame`, by its offset; addressed relative to RIP.
  case frame(Int)
}

/// Condition codes that the translator's own jumps use.
enum HostCondition {
  static let aboveOrEqual: UInt8 = 3
  static let zero: UInt8 = 4
  static let notZero: UInt8 = 5
  static let below: UInt8 = 2
  static let belowOrEqual: UInt8 = 6
  static let above: UInt8 = 7
  static let sign: UInt8 = 8
  static let notSign: UInt8 = 9
  static let less: UInt8 = 12
  static let greater: UInt8 = 15
}

/// Opcode maps by the bytes that come before the opcode.
enum OpcodeMap: Int {
  case primary, escape0f, escape0f38, escape0f3a

  /// Nil for a map that is not used here.
  init?(_ map: ZydisOpcodeMap) {
    switch map {
    case ZYDIS_OPCODE_MAP_DEFAULT: self = .primary
    case ZYDIS_OPCODE_MAP_0F: self = .escape0f
    case ZYDIS_OPCODE_MAP_0F38: self = .escape0f38
    case ZYDIS_OPCODE_MAP_0F3A: self = .escape0f3a
    default: return nil
    }
  }
}

/// Writes host instructions into code memory, in order.
///
/// Positions are offsets into the code memory. Whoever uses it has made sure that there is room.
struct HostAssembler {
  private let writable: UnsafeMutablePointer<UInt8>
  /// Offset of the frame from the beginning of the executable mapping.
  private let frame: Int
  var position: Int

  init(_ memory: CodeMemory, at position: Int) {
    writable = memory.writable.assumingMemoryBound(to: UInt8.self)
    frame = UnsafeRawPointer(memory.data) - memory.executable
    self.position = position
  }

  // MARK: Bytes

  mutating func byte(_ value: UInt8) {
    writable[position] = value
    position += 1
  }

  mutating func bytes(_ values: UInt8...) { for value in values { byte(value) } }

  mutating func word32(_ value: Int32) {
    UnsafeMutableRawPointer(writable + position).storeBytes(of: value, as: Int32.self)
    position += 4
  }

  mutating func word64(_ value: UInt64) {
    UnsafeMutableRawPointer(writable + position).storeBytes(of: value, as: UInt64.self)
    position += 8
  }

  mutating func align(to count: Int) {
    while position % count != 0 { byte(0xcc) }
  }

  // MARK: Instructions with a ModRM byte

  /// One instruction.
  ///
  /// - Parameters:
  ///   - size: operand size in bytes; 2 brings prefix 66, 8 REX.W.
  ///   - prefix: a mandatory prefix, or 0.
  ///   - hasByteRegister: a register operand is 8 bits wide, so SPL to DIL need a REX prefix.
  ///   - immediate: what follows, and in how many bytes.
  mutating func instruction(
    _ map: OpcodeMap, _ opcode: UInt8, reg: Int, _ rm: HostOperand, size: Int, prefix: UInt8 = 0,
    hasByteRegister: Bool = false, isLocked: Bool = false, immediate: Int64 = 0, immediateSize: Int = 0
  ) {
    if isLocked { byte(0xf0) }
    if size == 2 { byte(0x66) }
    if prefix != 0 { byte(prefix) }
    var rex: UInt8 = size == 8 ? 8 : 0
    if reg & 8 != 0 { rex |= 4 }
    var needsREX = hasByteRegister && reg >= 4
    switch rm {
    case .register(let number):
      if number & 8 != 0 { rex |= 1 }
      if hasByteRegister, number >= 4 { needsREX = true }
    case .memory(let base, let index, _, _):
      if base & 8 != 0 { rex |= 1 }
      if let index, index & 8 != 0 { rex |= 2 }
    case .frame: break
    }
    if rex != 0 || needsREX { byte(0x40 | rex) }
    switch map {
    case .primary: break
    case .escape0f: byte(0x0f)
    case .escape0f38: bytes(0x0f, 0x38)
    case .escape0f3a: bytes(0x0f, 0x3a)
    }
    byte(opcode)
    modRM(reg, rm, trailing: immediateSize)
    appendImmediate(immediate, immediateSize)
  }

  /// One instruction with a three-byte VEX prefix. `second` is the register in `vvvv`, 0 where there is none.
  mutating func instruction(
    _ map: OpcodeMap, _ opcode: UInt8, reg: Int, _ second: Int, _ rm: HostOperand, isW: Bool, isL: Bool, prefix: UInt8,
    immediate: Int64 = 0, immediateSize: Int = 0
  ) {
    var high: UInt8 = 0xe0
    if reg & 8 != 0 { high &= ~0x80 }
    switch rm {
    case .register(let number): if number & 8 != 0 { high &= ~0x20 }
    case .memory(let base, let index, _, _):
      if base & 8 != 0 { high &= ~0x20 }
      if let index, index & 8 != 0 { high &= ~0x40 }
    case .frame: break
    }
    bytes(
      0xc4, high | UInt8(truncatingIfNeeded: map.rawValue),
      (isW ? 0x80 : 0) | UInt8(truncatingIfNeeded: ~second & 15) << 3 | (isL ? 4 : 0) | prefix, opcode)
    modRM(reg, rm, trailing: immediateSize)
    appendImmediate(immediate, immediateSize)
  }

  mutating func appendImmediate(_ value: Int64, _ count: Int) {
    for index in 0..<count { byte(UInt8(truncatingIfNeeded: value >> Int64(8 * index))) }
  }

  /// ModRM, SIB and displacement. `trailing`: how many bytes of the instruction follow.
  mutating func modRM(_ reg: Int, _ rm: HostOperand, trailing: Int) {
    let field = UInt8(truncatingIfNeeded: reg & 7) << 3
    switch rm {
    case .register(let number): byte(0xc0 | field | UInt8(truncatingIfNeeded: number & 7))
    case .frame(let offset):
      byte(field | 5)
      word32(Int32(truncatingIfNeeded: frame + offset - (position + 4 + trailing)))
    case .memory(let base, let index, let scale, let displacement):
      let low = UInt8(truncatingIfNeeded: base & 7)
      let mod: UInt8 =
        displacement == 0 && low != 5 ? 0 : Int32(Int8(truncatingIfNeeded: displacement)) == displacement ? 0x40 : 0x80
      if let index {
        byte(mod | field | 4)
        byte(UInt8(truncatingIfNeeded: scale) << 6 | UInt8(truncatingIfNeeded: index & 7) << 3 | low)
      } else if low == 4 {
        bytes(mod | field | 4, 0x24)
      } else {
        byte(mod | field | low)
      }
      if mod == 0x40 { byte(UInt8(truncatingIfNeeded: displacement)) }
      if mod == 0x80 { word32(displacement) }
    }
  }

  // MARK: The instructions that the translator adds

  mutating func load(_ register: Int, _ source: HostOperand, size: Int = 8) {
    instruction(.primary, 0x8b, reg: register, source, size: size)
  }

  mutating func store(_ register: Int, _ destination: HostOperand, size: Int = 8) {
    instruction(.primary, size == 1 ? 0x88 : 0x89, reg: register, destination, size: size, hasByteRegister: size == 1)
  }

  mutating func move(_ destination: Int, _ source: Int) { load(destination, .register(source)) }

  mutating func exchange(_ one: Int, _ other: Int) {
    instruction(.primary, 0x87, reg: one, .register(other), size: 8)
  }

  mutating func loadAddress(_ register: Int, _ source: HostOperand, size: Int = 8) {
    instruction(.primary, 0x8d, reg: register, source, size: size)
  }

  /// ADD, OR, ADC, SBB, AND, SUB, XOR or CMP (0 to 7) of register and operand.
  mutating func arithmetic(_ operation: UInt8, _ register: Int, _ source: HostOperand, size: Int = 8) {
    instruction(.primary, operation << 3 | 3, reg: register, source, size: size)
  }

  mutating func arithmetic(_ operation: Int, _ destination: HostOperand, immediate: Int32, size: Int = 8) {
    let isShort = Int32(Int8(truncatingIfNeeded: immediate)) == immediate
    instruction(
      .primary, isShort ? 0x83 : 0x81, reg: operation, destination, size: size, immediate: Int64(immediate),
      immediateSize: isShort ? 1 : 4)
  }

  /// As `arithmetic` with a constant, which always takes four bytes.
  mutating func arithmeticWide(_ operation: Int, _ destination: HostOperand, immediate: Int32) {
    instruction(
      .primary, 0x81, reg: operation, destination, size: 8, immediate: Int64(immediate), immediateSize: 4)
  }

  mutating func loadConstant(_ register: Int, _ value: UInt64) {
    byte(register & 8 != 0 ? 0x49 : 0x48)
    byte(0xb8 | UInt8(truncatingIfNeeded: register & 7))
    word64(value)
  }

  mutating func push(_ register: Int) {
    if register & 8 != 0 { byte(0x41) }
    byte(0x50 | UInt8(truncatingIfNeeded: register & 7))
  }

  mutating func pop(_ register: Int) {
    if register & 8 != 0 { byte(0x41) }
    byte(0x58 | UInt8(truncatingIfNeeded: register & 7))
  }

  mutating func jump(_ operand: HostOperand) { instruction(.primary, 0xff, reg: 4, operand, size: 4) }

  // MARK: Jumps within the code memory

  /// A place that is not known yet: where its displacement stands.
  typealias Fixup = Int

  mutating func jump() -> Fixup {
    byte(0xe9)
    word32(0)
    return position - 4
  }

  mutating func jump(to target: Int) {
    byte(0xe9)
    word32(Int32(truncatingIfNeeded: target - position - 4))
  }

  mutating func call() -> Fixup {
    byte(0xe8)
    word32(0)
    return position - 4
  }

  mutating func call(to target: Int) {
    byte(0xe8)
    word32(Int32(truncatingIfNeeded: target - position - 4))
  }

  /// By condition code, 0 to 15.
  mutating func jump(if condition: UInt8) -> Fixup {
    bytes(0x0f, 0x80 | condition)
    word32(0)
    return position - 4
  }

  mutating func jump(if condition: UInt8, to target: Int) {
    bytes(0x0f, 0x80 | condition)
    word32(Int32(truncatingIfNeeded: target - position - 4))
  }

  /// Data in the code memory.
  func data(at place: Int) -> HostOperand { .frame(place - frame) }

  /// LEA register, [RIP + …] of a place in the code memory.
  mutating func loadPlace(_ register: Int) -> Fixup {
    bytes(register & 8 != 0 ? 0x4c : 0x48, 0x8d, UInt8(truncatingIfNeeded: register & 7) << 3 | 5)
    word32(0)
    return position - 4
  }

  /// Lets the jump or LEA lead to here.
  mutating func resolve(_ fixup: Fixup) { resolve(fixup, to: position) }

  mutating func resolve(_ fixup: Fixup, to target: Int) {
    UnsafeMutableRawPointer(writable + fixup).storeBytes(
      of: Int32(truncatingIfNeeded: target - fixup - 4), as: Int32.self)
  }
}
