import CSilicon
import CZydis

@testable import Processor

/// Makes instances of forms: random registers, addressing, immediates and prefixes.
struct InstructionEncoder {
  /// The bytes; those after the instruction are random.
  private(set) var bytes = [UInt8](repeating: 0, count: 16)
  private let decoder: InstructionDecoder
  private let claimed: ClaimedInstructions

  init(decoder: InstructionDecoder, claimed: ClaimedInstructions) {
    self.decoder = decoder
    self.claimed = claimed
  }

  /// An instance of `form`, decoded in `decoder`. Nil if chance made something else.
  mutating func instance(of form: InstructionForm, _ random: inout RandomSource) -> [UInt8]? {
    for index in 0..<16 { bytes[index] = UInt8(truncatingIfNeeded: random.next()) }
    let group = random.below(10) < 7 ? form.groups[0] : random.pick(form.groups)
    var count = addPrefixes(form, group, &random)
    func append(_ byte: UInt8) {
      bytes[count] = byte
      count += 1
    }
    if form.key.isVEX {
      let inverted = form.mode == .long ? UInt8(random.below(8)) << 5 : 0xe0
      let register: UInt8 = random.oneIn(2) ? 0x78 : UInt8(random.below(16)) << 3
      append(0xc4)
      append(inverted | form.key.map)
      append(
        (group.isWide ? 0x80 : 0) | (form.mode == .long ? register : register | 0x40) | (group.isLong ? 4 : 0)
          | group.prefix)
    } else {
      if group.prefix != 0 { append(group.prefix) }
      if form.mode == .long, group.isWide || random.oneIn(2) {
        append(0x40 | (group.isWide ? 8 : 0) | UInt8(random.below(8)))
      }
      if form.key.map > 0 { append(0x0f) }
      if form.key.map > 1 { append(form.key.map == 2 ? 0x38 : 0x3a) }
    }
    append(form.key.opcode)
    if !group.modRM.isEmpty {
      let modRM = random.pick(group.modRM)
      append(form.key.hasMemory ? modRM & 0x38 | UInt8(random.below(3)) << 6 | UInt8(random.below(8)) : modRM)
    }
    guard decoder.decode(&bytes, count: 15, mode: form.mode.codeMode) == nil,
      decoder.key(isVEX: form.key.isVEX, map: form.key.map, opcode: form.key.opcode) == form.key,
      !claimed.isVendorSpecific(decoder, bytes)
    else { return nil }
    refineImmediates(&random)
    return Array(bytes.prefix(Int(decoder.instruction.pointee.length)))
  }

  /// Address size, segment and LOCK, now and then.
  private mutating func addPrefixes(
    _ form: InstructionForm, _ group: InstructionForm.Group, _ random: inout RandomSource
  ) -> Int {
    var count = 0
    func append(_ byte: UInt8) {
      bytes[count] = byte
      count += 1
    }
    if random.oneIn(10) { append(0x67) }
    if random.oneIn(10) {
      append(random.pick(form.mode == .long ? [0x64, 0x65, 0x26, 0x2e, 0x36, 0x3e] : [0x26, 0x2e, 0x36, 0x3e]))
    }
    if form.key.hasMemory, !form.key.isVEX, random.oneIn(12) { append(0xf0) }
    return count
  }

  /// Half of all immediates come from the pool of interesting operands.
  private mutating func refineImmediates(_ random: inout RandomSource) {
    let raw = decoder.instruction.pointee.raw
    for immediate in [raw.imm.0, raw.imm.1] where immediate.size > 0 && immediate.is_relative == 0 {
      if random.oneIn(2) { store(random.operand(), at: Int(immediate.offset), bits: Int(immediate.size)) }
    }
    _ = decoder.decode(&bytes, count: 15, mode: decoder.mode)
  }

  /// Replaces the displacement of the memory operand. False if it does not fit.
  mutating func setDisplacement(_ value: UInt64) -> Bool {
    let displacement = decoder.instruction.pointee.raw.disp
    let bits = Int(displacement.size)
    guard bits > 0 else { return value == 0 }
    if bits < 64 {
      let addressBits = Int(decoder.instruction.pointee.address_width)
      let unused = Int64(64 - addressBits)
      let signed = (Int64(bitPattern: value) << unused) >> unused
      let limit = Int64(1) << Int64(bits - 1)
      guard bits >= addressBits || (-limit..<limit).contains(signed) else { return false }
    }
    store(value, at: Int(displacement.offset), bits: bits)
    return true
  }

  /// Replaces the operand of a relative branch.
  mutating func setRelative(_ value: UInt64) {
    let immediate = decoder.instruction.pointee.raw.imm.0
    store(value, at: Int(immediate.offset), bits: Int(immediate.size))
  }

  private mutating func store(_ value: UInt64, at offset: Int, bits: Int) {
    for index in 0..<bits / 8 { bytes[offset + index] = UInt8(truncatingIfNeeded: value >> UInt64(8 * index)) }
  }
}

extension InstructionDecoder {
  /// Code mode that the decoded instruction was decoded in, as far as lengths depend on it.
  fileprivate var mode: CodeMode {
    switch instruction.pointee.machine_mode {
    case ZYDIS_MACHINE_MODE_LONG_64: SiliconMode.long.codeMode
    case ZYDIS_MACHINE_MODE_LEGACY_32: SiliconMode.protected.codeMode
    default: SiliconMode.protected16.codeMode
    }
  }
}
