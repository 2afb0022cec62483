import TestSupport

/// Random instructions: general and vector ones, most of them on memory off a few base registers that keep their values
/// or move by constants. None leaves a flag undefined.
struct RandomProgram {
  var random: SeededRandom
  /// Of the code: 16, 32 or 64.
  let bits: Int
  /// Whether memory operands name any segment.
  let isSegmented: Bool
  private(set) var bytes: [UInt8] = []
  /// Where each instruction begins.
  private(set) var starts: [Int] = []

  /// Registers that hold pointers, and others.
  static let bases64 = [3, 5, 6, 8, 10, 12, 13, 14]
  static let bases32 = [3, 5, 6]
  static let others64 = [0, 1, 2, 7, 9, 11, 15]
  static let others32 = [0, 1, 2, 7]

  private var is64: Bool { bits == 64 }
  var bases: [Int] { is64 ? Self.bases64 : Self.bases32 }

  init(seed: UInt64, bits: Int, count: Int, isWild: Bool = false, isSegmented: Bool = false) {
    random = SeededRandom(seed: seed)
    self.bits = bits
    self.isSegmented = isSegmented
    for _ in 0..<count {
      starts.append(bytes.count)
      instruction(isWild: isWild)
    }
    bytes.append(0xf4)
  }

  private enum Operand {
    case register(Int)
    /// With `isNarrow`, 32-bit addresses in 64-bit code.
    case memory(base: Int?, index: Int?, scale: Int, displacement: Int32, isNarrow: Bool, segment: UInt8?)
    /// A 16-bit address by ModRM's `rm` field; with a displacement of 16 bits alone where `isAbsolute`.
    case short(rm: Int, displacement: Int16, isAbsolute: Bool, segment: UInt8?)
  }

  private static let segments: [UInt8] = [0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65]

  private mutating func below(_ bound: Int) -> Int { Int(random.next() % UInt64(bound)) }
  private mutating func chance(_ percent: Int) -> Bool { below(100) < percent }
  private mutating func pick<T>(_ list: [T]) -> T { list[below(list.count)] }

  private mutating func other() -> Int {
    chance(8) ? pick(bases) : pick(is64 ? Self.others64 : Self.others32)
  }

  private mutating func segment(_ percent: Int) -> UInt8? {
    guard chance(isSegmented ? 35 : percent) else { return nil }
    return pick(isSegmented ? Self.segments : [0x64, 0x65])
  }

  private mutating func memory(isWild: Bool) -> Operand {
    // Addresses of the code's own size, and in segments sometimes of the other.
    if bits == 16 ? chance(80) : isSegmented && chance(15) { return short(isWild: isWild) }
    var displacement: Int32
    switch below(8) {
    case 0: displacement = Int32(pick([0x1000, -0x1000, 0x2000, 0x3000, 0x1008, -0x2000, 0x9000]))
    case 1: displacement = Int32(pick([0x7f8, 0x800, -0x800, -0x801, 0x808]))
    default: displacement = Int32(below(48)) - 24
    }
    if isWild, chance(20) { displacement = Int32(truncatingIfNeeded: random.next()) }
    let index = chance(15) ? pick([0, 1, is64 ? 11 : 2, is64 ? 15 : 7]) : nil
    let base = index != nil && chance(10) ? nil : chance(8) ? 4 : pick(bases)
    return .memory(
      base: base, index: index, scale: below(4), displacement: displacement, isNarrow: is64 && chance(8),
      segment: segment(isWild ? 12 : 4))
  }

  private mutating func short(isWild: Bool) -> Operand {
    let displacement = isWild && chance(25) ? Int16(truncatingIfNeeded: random.next()) : Int16(below(48) - 24)
    return .short(rm: below(8), displacement: displacement, isAbsolute: chance(10), segment: segment(0))
  }

  // MARK: Encoding

  /// - Parameter size: in bytes; 0: the instruction has none that a prefix changes.
  private mutating func emit(
    _ escape: [UInt8], _ opcode: UInt8, reg: Int, _ rm: Operand, size: Int, prefix: UInt8? = nil,
    immediate: [UInt8] = [], isLocked: Bool = false
  ) {
    if isLocked { bytes.append(0xf0) }
    if bits == 16 ? size == 4 : size == 2 { bytes.append(0x66) }
    if let prefix { bytes.append(prefix) }
    var rex: UInt8 = size == 8 ? 0x48 : 0
    if reg & 8 != 0 { rex |= 0x44 }
    if size == 1, is64, chance(50) { rex |= 0x40 }
    var tail: [UInt8] = []
    let field = UInt8(reg & 7) << 3
    switch rm {
    case .register(let number):
      if number & 8 != 0 { rex |= 0x41 }
      tail = [0xc0 | field | UInt8(number & 7)]
    case .memory(let base, let index, let scale, let displacement, let isNarrow, let segment):
      if let segment { bytes.append(segment) }
      if isNarrow || bits == 16 { bytes.append(0x67) }
      if let base, base & 8 != 0 { rex |= 0x41 }
      if let index, index & 8 != 0 { rex |= 0x42 }
      let isShort = base != nil && Int32(Int8(truncatingIfNeeded: displacement)) == displacement
      let mod: UInt8 = base == nil ? 0 : isShort ? 0x40 : 0x80
      let scaleBits = UInt8(scale) << 6
      if let index {
        tail = [mod | field | 4, scaleBits | UInt8(index & 7) << 3 | UInt8((base ?? 5) & 7)]
      } else if let base, base & 7 == 4 {
        tail = [mod | field | 4, 0x24]
      } else {
        tail = [mod | field | UInt8((base ?? 5) & 7)]
      }
      let raw = UInt32(bitPattern: displacement)
      tail += isShort ? [UInt8(truncatingIfNeeded: raw)] : (0..<4).map { UInt8(truncatingIfNeeded: raw >> (8 * $0)) }
    case .short(let rm, let displacement, let isAbsolute, let segment):
      if let segment { bytes.append(segment) }
      if bits != 16 { bytes.append(0x67) }
      let isShort = !isAbsolute && Int16(Int8(truncatingIfNeeded: displacement)) == displacement
      tail = [isAbsolute ? field | 6 : (isShort ? 0x40 : 0x80) | field | UInt8(rm)]
      tail.append(UInt8(truncatingIfNeeded: displacement))
      if !isShort { tail.append(UInt8(truncatingIfNeeded: displacement >> 8)) }
    }
    if rex != 0 { bytes.append(rex | 0x40) }
    bytes += escape + [opcode] + tail + immediate
  }

  private mutating func constant(_ size: Int) -> [UInt8] {
    (0..<min(size, 4)).map { _ in UInt8(truncatingIfNeeded: random.next()) }
  }

  // MARK: Instructions

  private mutating func size() -> Int { pick(is64 ? [1, 2, 4, 4, 8, 8] : [1, 2, 4, 4]) }

  private mutating func operand(_ isWild: Bool) -> Operand { chance(65) ? memory(isWild: isWild) : .register(other()) }

  private mutating func instruction(isWild: Bool) {
    let size = size()
    let wide: UInt8 = size == 1 ? 0 : 1
    let rm = operand(isWild)
    var isMemory = false
    switch rm {
    case .memory, .short: isMemory = true
    case .register: break
    }
    switch below(26) {
    case 0, 1, 2:
      // ADD to CMP, either way round, LOCK where it may be.
      let number = UInt8(below(8))
      let isStore = chance(50)
      emit(
        [], number << 3 | (isStore ? 0 : 2) | wide, reg: other(), rm, size: size,
        isLocked: isStore && isMemory && number != 7 && chance(20))
    case 3:
      let isShort = size > 1 && chance(60)
      emit(
        [], isShort ? 0x83 : 0x80 | wide, reg: below(8), rm, size: size,
        immediate: constant(isShort ? 1 : size))
    case 4, 5: emit([], 0x88 | wide, reg: other(), rm, size: size)
    case 6, 7: emit([], 0x8a | wide, reg: other(), rm, size: size)
    case 8: emit([], 0xc6 | wide, reg: 0, rm, size: size, immediate: constant(size))
    case 9: emit([], 0xf6 | wide, reg: pick([2, 3]), rm, size: size)
    case 10: emit([], 0xfe | wide, reg: below(2), rm, size: size)
    case 11: emit([0x0f], pick([0xb6, 0xb7, 0xbe, 0xbf]), reg: other(), rm, size: max(size, 4))
    case 12: emit([], 0x86 | wide, reg: other(), rm, size: size)
    case 13: emit([0x0f], pick([0xb0, 0xc0]) | wide, reg: other(), rm, size: size, isLocked: isMemory && chance(30))
    case 14: emit([0x0f], 0x40 | UInt8(below(16)), reg: other(), rm, size: max(size, 2))
    case 15: emit([0x0f], 0x90 | UInt8(below(16)), reg: 0, rm, size: 1)
    case 16: emit([], 0x8d, reg: other(), memory(isWild: isWild), size: max(size, 4))
    case 17: stack()
    case 18: move(isWild)
    case 19:
      // Jcc over nothing: a block ends.
      bytes += [chance(isSegmented ? 30 : 0) ? 0xe0 | UInt8(below(4)) : 0x70 | UInt8(below(16)), 0]
    case 20 where isSegmented: segmentRegister()
    case 20, 21, 22: vector(isWild)
    case 23: string()
    default:
      // CALL next; or TEST.
      if chance(50) {
        bytes += [0xe8, 0, 0] + (bits == 16 ? [] : [0, 0])
      } else {
        emit([], 0x84 | wide, reg: other(), rm, size: size)
      }
    }
  }

  /// Segment registers and flags on their way to and from registers and the stack.
  private mutating func segmentRegister() {
    switch below(8) {
    case 0, 1: bytes += pick([[0x06], [0x0e], [0x16], [0x1e], [0x0f, 0xa0], [0x0f, 0xa8]])
    case 2, 3: emit([], 0x8c, reg: below(6), operand(false), size: chance(70) ? 2 : 4)
    case 4: bytes.append(pick([0x9c, 0xf5, 0xf8, 0xf9, 0xfc, 0xfd]))
    // Selectors are random: where they are no paragraphs, that is a fault.
    case 5: bytes += pick([[0x07], [0x1f], [0x0f, 0xa1], [0x0f, 0xa9]])
    case 6: emit([], 0x8e, reg: pick([0, 3, 4, 5]), operand(false), size: 2)
    default:
      bits == 16 && chance(60)
        ? emit([], pick([0xc4, 0xc5]), reg: other(), memory(isWild: false), size: 2)
        : emit([0x0f], pick([0xb4, 0xb5]), reg: other(), memory(isWild: false), size: chance(50) ? 2 : 4)
    }
  }

  /// MOVS, CMPS, STOS, LODS and SCAS, to or from where another register points, mostly; a few times at most.
  private mutating func string() {
    let wide = is64 ? 8 : bits / 8
    if chance(60) { emit([], 0x89, reg: pick(bases), .register(7), size: wide) }
    let isRepeated = chance(25)
    if isRepeated {
      // MOV ECX or CX, count.
      bytes += [0xb9, UInt8(below(24)), 0] + (bits == 16 ? [] : [0, 0])
    }
    if chance(25) { bytes.append(0x66) }
    if let segment = segment(4) { bytes.append(segment) }
    if isRepeated { bytes.append(pick([0xf2, 0xf3])) }
    if is64, chance(30) { bytes.append(0x48) }
    bytes.append(pick([0xa4, 0xa5, 0xa6, 0xa7, 0xaa, 0xab, 0xac, 0xad, 0xae, 0xaf]))
  }

  private mutating func stack() {
    let register = other()
    let rex: [UInt8] = register & 8 != 0 ? [0x41] : []
    switch below(6) {
    case 0, 1: bytes += rex + [0x50 | UInt8(register & 7)]
    case 2, 3: bytes += rex + [0x58 | UInt8(register & 7)]
    case 4: bytes += [0x6a, UInt8(truncatingIfNeeded: random.next())]
    default: emit([], 0xff, reg: 6, memory(isWild: false), size: bits == 16 ? 2 : 4)
    }
  }

  /// A base register moves by a constant, or gets another value.
  private mutating func move(_ isWild: Bool) {
    let base = chance(20) ? 4 : pick(bases)
    if isWild, is64, chance(50) {
      let value = WildAddress.pick(&random)
      bytes += [base & 8 != 0 ? 0x49 : 0x48, 0xb8 | UInt8(base & 7)]
      bytes += (0..<8).map { UInt8(truncatingIfNeeded: value >> (8 * UInt64($0))) }
      return
    }
    let distance = Int32(pick([8, -8, 16, -16, 0x1000, -0x1000, 0x18, 1, 0x2000, -0x2000, 0x10_0000]))
    let raw = UInt32(bitPattern: distance)
    let size = is64 ? 8 : bits == 16 && chance(80) ? 2 : 4
    emit(
      [], 0x81, reg: pick([0, 5]), .register(base), size: size,
      immediate: (0..<min(size, 4)).map { UInt8(truncatingIfNeeded: raw >> (8 * $0)) })
  }

  private mutating func vector(_ isWild: Bool) {
    let number = is64 ? below(16) : below(8)
    let rm: Operand = chance(70) ? memory(isWild: isWild) : .register(is64 ? below(16) : below(8))
    switch below(9) {
    case 0: emit([0x0f], 0x10 | UInt8(below(2)), reg: number, rm, size: 0)
    case 1: emit([0x0f], 0x28, reg: number, rm, size: 0)
    case 2: emit([0x0f], 0x29, reg: number, rm, size: 0)
    case 3: emit([0x0f], pick([0xef, 0xfe, 0xd4, 0x74, 0x60]), reg: number, rm, size: 0, prefix: 0x66)
    case 4: emit([0x0f], pick([0x6f, 0x7f]), reg: number, rm, size: 0, prefix: 0xf3)
    case 5: emit([0x0f], pick([0x6e, 0x7e]), reg: number, operand(isWild), size: 0, prefix: 0x66)
    case 6: emit([0x0f], 0xd7, reg: other(), .register(number), size: 0, prefix: 0x66)
    case 7: emit([0x0f], 0xc4, reg: number, operand(isWild), size: 0, prefix: 0x66, immediate: [UInt8(below(8))])
    default: emit([0x0f], 0x2f, reg: number, rm, size: 0)
    }
  }
}

/// Addresses that a guest might try.
enum WildAddress {
  static let list: [UInt64] = [
    0, 1, 8, ~0, ~0 - 7, ~0 - 0xfff, 0x7fff_ffff, 0x8000_0000, 0xffff_fffc, 0x1_0000_0000, 0x7fff_ffff_fffc,
    0x8000_0000_0000, 0xffff_8000_0000_0000, 0xffff_7fff_ffff_fffc, 1 << 63, (1 << 63) - 4, 0x1f_fff8, 0x1f_fffd,
    0x20_0000, 0x3f_fffc, 0x40_0ffc, 0x40_2ffc, 0x40_7ffc, 0x40_8ff8, 0x40_9000, 0x4000_0000_0000_0000,
    0x4fff_ffff_ffff_f000, 0x7fff_ffff_ffff_f000,
  ]

  static func pick(_ random: inout SeededRandom) -> UInt64 {
    switch random.next() % 6 {
    case 0: random.next()
    case 1: 0x4000_0000_0000_0000 | random.next() >> 4
    default: list[Int(random.next() % UInt64(list.count))] &+ (random.next() % 5 == 0 ? random.next() % 64 : 0)
    }
  }
}
