import CZydis
import TestSupport

/// Writes code that is mostly valid: what processors do with bytes that are none is soon known.
///
/// Most instructions are random opcodes with random operands that a decoder accepts; memory operands mostly point into
/// the guest's data, and branches go near. Between them stand small idioms: loops, calls, string instructions, stores
/// into the code itself, changes of mode and of tables.
struct CodeGenerator {
  private let bits: Int
  private var decoder = ZydisDecoder()
  private var random: SeededRandom

  init(bits: Int, seed: UInt64) {
    self.bits = bits
    random = SeededRandom(seed: seed)
    let (mode, width) =
      switch bits {
      case 16: (ZYDIS_MACHINE_MODE_LEGACY_16, ZYDIS_STACK_WIDTH_16)
      case 32: (ZYDIS_MACHINE_MODE_LEGACY_32, ZYDIS_STACK_WIDTH_32)
      default: (ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64)
      }
    ZydisDecoderInit(&decoder, mode, width)
  }

  /// `count` bytes of code, and where in it instructions start.
  mutating func code(count: Int) -> (bytes: [UInt8], starts: [Int]) {
    var bytes: [UInt8] = []
    var starts: [Int] = []
    bytes.reserveCapacity(count + 32)
    while bytes.count < count {
      starts.append(bytes.count)
      bytes += piece()
    }
    return (Array(bytes.prefix(count)), starts)
  }

  private mutating func piece() -> [UInt8] {
    switch random.below(100) {
    case 0..<4: (0..<1 + random.below(15)).map { _ in random.byte() }
    case 4..<24: idiom()
    default: instruction()
    }
  }

  // MARK: Single instructions

  private mutating func instruction() -> [UInt8] {
    for _ in 0..<8 {
      var bytes = prefixes()
      let isVEX = bits != 16 && bytes.isEmpty && random.oneIn(20)
      if isVEX {
        bytes += [0xc4, random.byte() & 0xe0 | UInt8(1 + random.below(3)), random.byte()]
        if bits == 32 { bytes[1] |= 0xe0 }
      } else {
        if bits == 64, random.oneIn(2) { bytes.append(0x40 | random.byte() & 0xf) }
        switch random.below(20) {
        case 0..<12: break
        case 12..<18: bytes.append(0x0f)
        case 18: bytes += [0x0f, 0x38]
        default: bytes += [0x0f, 0x3a]
        }
      }
      bytes.append(random.byte())
      bytes += operand()
      while bytes.count < 15 { bytes.append(random.oneIn(3) ? random.byte() : random.byte() & 0x83) }
      if let length = refine(&bytes) { return Array(bytes.prefix(length)) }
    }
    return [0x90]
  }

  private mutating func prefixes() -> [UInt8] {
    var bytes: [UInt8] = []
    if random.oneIn(8) { bytes.append(0x66) }
    if random.oneIn(20) { bytes.append(0x67) }
    if random.oneIn(16) { bytes.append(random.pick([0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65])) }
    if random.oneIn(16) { bytes.append(random.pick([0xf0, 0xf2, 0xf3])) }
    return bytes
  }

  /// A ModRM byte and what follows it: a register, an address in the data, or one in a register.
  private mutating func operand() -> [UInt8] {
    let register = random.byte() & 0x38
    switch random.below(8) {
    case 0...2: return [0xc0 | register | random.byte() & 7]
    case 3...5: return absolute(register)
    case 6: return [0x40 | register | random.byte() & 7, random.byte(), random.byte() & 0x3f]
    default: return [random.byte(), random.byte()]
    }
  }

  private mutating func absolute(_ register: UInt8) -> [UInt8] {
    let offset = UInt32(random.below(Layout.dataSize))
    if bits == 16 { return [register | 6, UInt8(truncatingIfNeeded: offset), UInt8(truncatingIfNeeded: offset >> 8)] }
    return (bits == 32 ? [register | 5] : [register | 4, 0x25]) + Self.bytes(UInt32(Layout.data) + offset)
  }

  private static func bytes(_ value: UInt32) -> [UInt8] {
    (0..<4).map { UInt8(truncatingIfNeeded: value >> UInt32(8 * $0)) }
  }

  /// Length of the instruction, whose branches are made near; nil if it is none.
  private mutating func refine(_ bytes: inout [UInt8]) -> Int? {
    var found = ZydisDecodedInstruction()
    guard ZydisDecoderDecodeInstruction(&decoder, nil, bytes, 15, &found) & 0x8000_0000 == 0 else { return nil }
    for immediate in [found.raw.imm.0, found.raw.imm.1] where immediate.is_relative != 0 && immediate.size > 8 {
      let distance = Int32(random.below(400) - 200)
      for index in 0..<Int(immediate.size) / 8 {
        bytes[Int(immediate.offset) + index] = UInt8(truncatingIfNeeded: distance >> Int32(8 * index))
      }
    }
    return Int(found.length)
  }

  // MARK: Idioms

  private mutating func idiom() -> [UInt8] {
    switch random.below(16) {
    case 0, 1: loop()
    case 2, 3: strings()
    case 4: [0xe8] + near(UInt32(random.below(60)))
    case 5: [random.pick([0xc3, 0xc3, 0xcb, 0xc9, 0xc2])]
    case 6, 7: storeIntoCode()
    case 8: [0x0f, 0x20, 0xd8, 0x0f, 0x22, 0xd8]  // CR3 to itself
    case 9: system()
    case 10: setRegister(random.below(8)) + [0x8e, 0xc0 | UInt8(random.below(6)) << 3 | random.byte() & 7]
    case 11: [0xcd, random.pick([3, 4, 0x20, 0x80, random.byte()])]
    case 12: [random.pick([0xfa, 0xfb, 0x9c, 0x9d, 0xf4, 0xcf, 0xcc, 0xf1])]
    case 13: setRegister(1) + setRegister(0) + setRegister(2) + [0x0f, random.pick([0x30, 0x32])]
    case 14: farJump()
    default: setRegister(random.below(8))
    }
  }

  private func near(_ value: UInt32) -> [UInt8] {
    bits == 16 ? Array(Self.bytes(value).prefix(2)) : Self.bytes(value)
  }

  /// MOV of an operand into a register.
  private mutating func setRegister(_ number: Int) -> [UInt8] {
    let value = UInt32(truncatingIfNeeded: number == 1 && random.oneIn(2) ? modelSpecificRegister() : random.operand())
    if bits == 16 { return [0x66, 0xb8 | UInt8(number)] + Self.bytes(value) }
    return [0xb8 | UInt8(number)] + Self.bytes(value)
  }

  private mutating func modelSpecificRegister() -> UInt64 {
    random.pick([
      0x10, 0x1b, 0x3a, 0x3b, 0x48, 0x79, 0x8b, 0xce, 0xfe, 0x10a, 0x174, 0x175, 0x176, 0x179, 0x17a, 0x186, 0x1a0,
      0x1d9,
      0x200, 0x20f, 0x250, 0x26f, 0x277, 0x2ff, 0x38f, 0x400, 0x401, 0x6a0, 0x6e0, 0x6e1, 0x800, 0x80b, 0x830, 0xda0,
      0xc000_0080, 0xc000_0081, 0xc000_0082, 0xc000_0083, 0xc000_0084, 0xc000_0100, 0xc000_0101, 0xc000_0102,
      0xc000_0103, 0xc001_0010,
    ])
  }

  /// MOV ECX, n; something; DEC ECX; JNZ back.
  private mutating func loop() -> [UInt8] {
    var body: [UInt8] = []
    for _ in 0..<1 + random.below(3) { body += instruction() }
    let count: [UInt8] =
      bits == 16 ? [0xb9, 2 + random.byte() & 15, 0] : [0xb9, 2 + random.byte() & 15, 0, 0, 0]
    let back: [UInt8] = bits == 64 ? [0xff, 0xc9] : [0x49]
    guard body.count < 100 else { return body }
    return count + body + back + [0x75, UInt8(truncatingIfNeeded: -(body.count + back.count + 2))]
  }

  private mutating func strings() -> [UInt8] {
    var bytes: [UInt8] = []
    for (register, limit) in [(6, Layout.dataSize), (7, Layout.dataSize), (1, 6000)] where !random.oneIn(6) {
      let base = bits == 16 || register == 1 ? 0 : Layout.data
      let value = UInt32(base + random.below(limit))
      bytes += [0xb8 | UInt8(register)] + near(value)
    }
    if random.oneIn(4) { bytes.append(random.pick([0xfc, 0xfd])) }
    if !random.oneIn(4) { bytes.append(random.pick([0xf3, 0xf3, 0xf2])) }
    if random.oneIn(4) { bytes.append(0x66) }
    if bits == 64, random.oneIn(3) { bytes.append(0x48) }
    return bytes + [random.pick([0xa4, 0xa5, 0xaa, 0xab, 0xac, 0xad, 0xa6, 0xa7, 0xae, 0xaf, 0x6c, 0x6e])]
  }

  /// A store somewhere near here, or anywhere in the code.
  private mutating func storeIntoCode() -> [UInt8] {
    if bits == 64, random.oneIn(2) {
      return [0xc6, 0x05] + Self.bytes(UInt32(bitPattern: Int32(random.below(64) - 16))) + [random.byte()]
    }
    let place = UInt32(Layout.code + random.below(Layout.codeSize))
    switch bits {
    case 16: return [0x2e, 0xc6, 0x06] + Self.bytes(place).prefix(2) + [random.byte()]
    case 32: return [0xc6, 0x05] + Self.bytes(place) + [random.byte()]
    default: return [0xc6, 0x04, 0x25] + Self.bytes(place) + [random.byte()]
    }
  }

  private mutating func system() -> [UInt8] {
    switch random.below(8) {
    case 0: [0x0f, 0x01] + absolute(UInt8(random.below(8)) << 3)
    case 1: [0x0f, 0x00] + operand().prefix(2)
    case 2: [0x0f, random.pick([0x20, 0x22, 0x21, 0x23]), 0xc0 | random.byte() & 0x3f]
    case 3: [0x0f, 0x01, random.pick([0xf8, 0xf9, 0xd0, 0xd1, 0xee, 0xef, 0xca, 0xcb, 0xc1, 0xd9, 0xe8])]
    case 4: [0x0f, random.pick([0x05, 0x07, 0x34, 0x35, 0x06, 0x08, 0x09, 0xa2, 0x31, 0x33, 0xaa])]
    case 5: [0x0f, 0xae] + absolute(UInt8(random.below(8)) << 3)
    case 6: [0x0f, 0xc7] + absolute(UInt8(random.below(8)) << 3)
    default: [0x66, 0x0f, 0x38, 0x82] + absolute(0)
    }
  }

  private mutating func farJump() -> [UInt8] {
    let selector = Layout.selector(random.below(Layout.gdtCount), ring: random.below(4))
    let place = UInt32(Layout.code + random.below(Layout.codeSize))
    let far = near(place) + [UInt8(truncatingIfNeeded: selector), UInt8(truncatingIfNeeded: selector >> 8)]
    if bits != 64 { return [random.pick([0xea, 0x9a])] + far }
    // PUSH selector; PUSH offset; far return.
    return [0x68] + Self.bytes(UInt32(selector)) + [0x68] + Self.bytes(place) + [0x48, 0xcb]
  }
}
