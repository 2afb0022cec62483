import CHost
import CSilicon
import CZydis

@testable import Processor

/// All forms that the interpreter claims in one mode, found by decoding every opcode with every prefix and ModRM byte.
/// A new row of the instruction tables is thus tested without being mentioned here.
struct FormCatalogue {
  private(set) var forms: [InstructionForm] = []
  private var numbers: [InstructionForm.Key: Int] = [:]
  private let mode: SiliconMode
  private let decoder = InstructionDecoder()
  private let claims: (InstructionDecoder, UnsafePointer<UInt8>) -> Bool

  /// `claims` tells whether a decoded instruction is to be tested.
  init(mode: SiliconMode, claims: @escaping (InstructionDecoder, UnsafePointer<UInt8>) -> Bool) {
    self.mode = mode
    self.claims = claims
    for map in 0..<4 as Range<UInt8> {
      for opcode in 0...255 as ClosedRange<UInt8> where !isPrefix(map, opcode) { addLegacy(map, opcode) }
    }
    for map in 1..<4 as Range<UInt8> {
      for opcode in 0...255 as ClosedRange<UInt8> { addVEX(map, opcode) }
    }
    forms.sort { ($0.key.mnemonic, $0.key.map, $0.key.opcode) < ($1.key.mnemonic, $1.key.map, $1.key.opcode) }
  }

  private func isPrefix(_ map: UInt8, _ opcode: UInt8) -> Bool {
    guard map == 0 else { return map == 1 && (opcode == 0x38 || opcode == 0x3a) }
    switch opcode {
    case 0x0f, 0x26, 0x2e, 0x36, 0x3e, 0x64...0x67, 0xf0, 0xf2, 0xf3: return true
    case 0x40...0x4f: return mode == .long
    case 0x62, 0xc4, 0xc5: return mode == .long
    default: return false
    }
  }

  private mutating func addLegacy(_ map: UInt8, _ opcode: UInt8) {
    let escapes: [[UInt8]] = [[], [0x0f], [0x0f, 0x38], [0x0f, 0x3a]]
    for prefix in [0, 0x66, 0xf2, 0xf3] as [UInt8] {
      for isWide in mode == .long ? [false, true] : [false] {
        let head = (prefix == 0 ? [] : [prefix]) + (isWide ? [0x48] : []) + escapes[Int(map)] + [opcode]
        addModRM(head, map, opcode, InstructionForm.Group(prefix: prefix, isWide: isWide, isLong: false, modRM: []))
      }
    }
  }

  private mutating func addVEX(_ map: UInt8, _ opcode: UInt8) {
    for bits in 0..<16 as Range<UInt8> {
      let isWide = bits & 8 != 0
      let head = [0xc4, 0xe0 | map, (isWide ? 0x80 : 0) | 0x78 | bits & 7, opcode]
      addModRM(
        head, map, opcode,
        InstructionForm.Group(prefix: bits & 3, isWide: isWide, isLong: bits & 4 != 0, modRM: []), isVEX: true)
    }
  }

  private mutating func addModRM(
    _ head: [UInt8], _ map: UInt8, _ opcode: UInt8, _ group: InstructionForm.Group, isVEX: Bool = false
  ) {
    var bytes = head + [UInt8](repeating: 0, count: 16 - head.count)
    for reg in 0..<8 as Range<UInt8> {
      // Memory by a base register and a byte of displacement, then all registers.
      for low in [0x43, 0xc0, 0xc1, 0xc2, 0xc3, 0xc4, 0xc5, 0xc6, 0xc7] as [UInt8] {
        let modRM = low | reg << 3
        bytes[head.count] = modRM
        guard decoder.decode(&bytes, count: 15, mode: mode.codeMode) == nil else { continue }
        let instruction = decoder.instruction
        let hasModRM = instruction.pointee.attributes & ZYDIS_ATTRIB_HAS_MODRM != 0
        let encoding = isVEX ? ZYDIS_INSTRUCTION_ENCODING_VEX : ZYDIS_INSTRUCTION_ENCODING_LEGACY
        guard instruction.pointee.encoding == encoding else { continue }
        if claims(decoder, &bytes) {
          add(group, hasModRM ? modRM : nil, map, opcode, isVEX)
        }
        if !hasModRM { return }
      }
    }
  }

  private mutating func add(
    _ group: InstructionForm.Group, _ modRM: UInt8?, _ map: UInt8, _ opcode: UInt8, _ isVEX: Bool
  ) {
    let key = decoder.key(isVEX: isVEX, map: map, opcode: opcode)
    let number: Int
    if let known = numbers[key] {
      number = known
    } else {
      number = forms.count
      numbers[key] = number
      forms.append(InstructionForm(key: key, mode: mode, groups: []))
    }
    var last = forms[number].groups.last
    if last == nil || last?.prefix != group.prefix || last?.isWide != group.isWide || last?.isLong != group.isLong {
      forms[number].groups.append(group)
      last = group
    }
    if let modRM { forms[number].groups[forms[number].groups.count - 1].modRM.append(modRM) }
  }
}

extension InstructionDecoder {
  /// Key of the form that the decoded instruction is an instance of.
  func key(isVEX: Bool, map: UInt8, opcode: UInt8) -> InstructionForm.Key {
    var shape: UInt64 = 0
    for index in 0..<Int(instruction.pointee.operand_count_visible) {
      let operand = operands + index
      var part = UInt64(operand.pointee.type.rawValue) << 13 | UInt64(operand.pointee.size) / 8 << 5 & 0x1fe0
      if operand.pointee.type == ZYDIS_OPERAND_TYPE_REGISTER {
        part |= UInt64(ZydisRegisterGetClass(operand.pointee.reg.value).rawValue) & 0x1f
      }
      shape = shape << 16 | part
    }
    return InstructionForm.Key(
      mnemonic: instruction.pointee.mnemonic.rawValue, shape: shape, isVEX: isVEX, map: map, opcode: opcode,
      hasMemory: hasMemory,
      isRepeated: instruction.pointee.attributes
        & (ZYDIS_ATTRIB_HAS_REP | ZYDIS_ATTRIB_HAS_REPE | ZYDIS_ATTRIB_HAS_REPNE) != 0)
  }

  /// Whether ModRM names memory.
  var hasMemory: Bool {
    instruction.pointee.attributes & ZYDIS_ATTRIB_HAS_MODRM != 0 && instruction.pointee.raw.modrm.mod != 3
  }
}

extension SiliconMode {
  var name: String {
    switch self {
    case .long: "64-bit"
    case .protected: "32-bit"
    case .protected16: "16-bit"
    }
  }

  var codeMode: CodeMode {
    switch self {
    case .long: [.code64, .flat, .unprivileged, .x87, .sse, .avx]
    case .protected: [.code32, .stack32, .flat, .unprivileged, .x87, .sse, .avx]
    case .protected16: [.unprivileged, .x87, .sse, .avx]
    }
  }

  /// Where the segments start that instructions run in.
  var segmentBase: UInt64 { self == .protected16 ? 0x1000_0000 : 0 }
}
