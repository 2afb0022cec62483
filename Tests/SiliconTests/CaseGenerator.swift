import CSilicon
import CZydis
import Glibc

@testable import Processor

/// Makes cases: an instance of a form and a state to run it in, in which its memory operands are mostly where memory is
/// and its operands are mostly interesting.
struct CaseGenerator {
  var random: RandomSource
  private let decoder = InstructionDecoder()
  private var encoder: InstructionEncoder
  private let pool: [UInt8]

  init(seed: UInt64, claimed: ClaimedInstructions) {
    var random = RandomSource(seed: seed)
    encoder = InstructionEncoder(decoder: decoder, claimed: claimed)
    pool = (0..<1 << 16).map { _ in UInt8(truncatingIfNeeded: random.next()) }
    self.random = random
  }

  /// Fills in a case that runs at `slot`. False if there is no such instruction.
  mutating func make(_ form: InstructionForm, slot: Int, _ one: UnsafeMutablePointer<SiliconCase>) -> Bool {
    for _ in 0..<16 {
      guard encoder.instance(of: form, &random) != nil, !addressesByMask() else { continue }
      fill(form, slot: slot, one)
      return true
    }
    return false
  }

  /// Whether the address of an XSAVE depends on the registers that select components.
  private func addressesByMask() -> Bool {
    guard decoder.selectsComponents else { return false }
    return (0..<Int(decoder.instruction.pointee.operand_count_visible)).contains {
      let memory = decoder.operands[$0].mem
      return [memory.base, memory.index].contains { generalRegister($0).map { [0, 2].contains($0) } ?? false }
    }
  }

  private mutating func fill(_ form: InstructionForm, slot: Int, _ one: UnsafeMutablePointer<SiliconCase>) {
    let length = Int(decoder.instruction.pointee.length)
    one.pointee.mode = form.mode
    one.pointee.length = UInt32(length)
    let state = CaseState(before: one)
    let rip = UInt64(SiliconCodeAddress + slot * SiliconSlotSize)
    state.rip = rip
    state.rflags = 0x202 | random.next() & 0x8d5 | (random.oneIn(decoder.isString ? 2 : 8) ? 0x400 : 0)
    state.fsBase = 0x0000_1234_5678_9000
    state.gsBase = UInt64(SiliconDataAddress) + 0x100
    let mask: UInt64 = form.mode == .long ? ~0 : 0xffff_ffff
    for number in 0..<16 { state.setGPR(number, form.mode == .long || number < 8 ? random.operand() & mask : 0) }
    let start = random.below(pool.count - SiliconDataSize)
    pool.withUnsafeBytes { _ = memcpy(state.data, $0.baseAddress! + start, SiliconDataSize) }
    state.fillVectors(&random, usesX87: decoder.usesX87, usesVectors: decoder.usesVectors)
    one.pointee.ignoredCount = 0
    if let target = placeMemory(form, state), decoder.savesState {
      // MXCSR_MASK: the host's processor may have more bits.
      let base = form.mode.segmentBase
      let address = form.mode == .protected16 ? base + (target &+ 28 &- base) & 0xffff : target &+ 28
      if let place = CaseState.place(address) {
        one.pointee.ignoredStart = UInt32(place)
        one.pointee.ignoredCount = 4
      }
    }
    prepare(form, state)
    withUnsafeMutableBytes(of: &one.pointee.code) { code in
      for index in 0..<length { code[index] = encoder.bytes[index] }
    }
  }

  // MARK: Memory operands

  /// Returns where the last one is.
  private mutating func placeMemory(_ form: InstructionForm, _ state: CaseState) -> UInt64? {
    var placed: Set<Int> = []
    var target: UInt64?
    let count = Int(decoder.instruction.pointee.operand_count)
    // Hidden operands first: their registers cannot be chosen.
    for isHidden in [true, false] {
      for index in 0..<count {
        let operand = decoder.operands + index
        guard operand.pointee.type == ZYDIS_OPERAND_TYPE_MEMORY, operand.pointee.mem.type == ZYDIS_MEMOP_TYPE_MEM,
          (index >= Int(decoder.instruction.pointee.operand_count_visible)
            || operand.pointee.visibility != ZYDIS_OPERAND_VISIBILITY_EXPLICIT) == isHidden
        else { continue }
        target = place(operand, form, state, &placed)
      }
    }
    return target
  }

  private mutating func place(
    _ operand: UnsafeMutablePointer<ZydisDecodedOperand>, _ form: InstructionForm, _ state: CaseState,
    _ placed: inout Set<Int>
  ) -> UInt64? {
    let size = max(1, Int(operand.pointee.size) / 8)
    let memory = operand.pointee.mem
    let segment = segmentBase(memory.segment, form, state)
    // Far-away places only without a base: this processor does not add it to what is not canonical.
    let target = segment == 0 && random.oneIn(40) ? random.operand() : linearTarget(size, form.mode)
    let wanted = target &- segment
    let place = decoder.place(of: operand, in: decoder.instruction)
    let base = generalRegister(place.base)
    let index = generalRegister(memory.index)
    let displacement = UInt64(bitPattern: place.displacement)
    let scale = UInt64(max(1, memory.scale))
    switch (base, index) {
    case (nil, nil):
      let next = state.rip &- form.mode.segmentBase &+ UInt64(decoder.instruction.pointee.length)
      let isRelative = memory.base == ZYDIS_REGISTER_RIP || memory.base == ZYDIS_REGISTER_EIP
      guard encoder.setDisplacement(isRelative ? wanted &- next : wanted) else { return nil }
    case (nil, .some(let index)):
      let rest = (wanted &- displacement) & (scale &- 1)
      guard encoder.setDisplacement(displacement &+ rest) else { return nil }
      let junk = scale > 1 ? random.next() << UInt64(64 - scale.trailingZeroBitCount) : 0
      state.setAddress(index, (wanted &- displacement &- rest) / scale | junk, memory.index)
      placed.insert(index)
    case (.some(let base), .some(let index)) where base == index:
      state.setAddress(base, divided(wanted &- displacement, by: scale &+ 1), memory.base)
      placed.insert(base)
    case (.some(let base), _):
      let indexed = index.map { indexValue($0, memory.index, state) &* scale } ?? 0
      if placed.contains(base) {
        // Near what is there already.
        _ = encoder.setDisplacement(UInt64(bitPattern: Int64(random.below(100) - 50)))
      } else {
        state.setAddress(base, wanted &- displacement &- indexed, memory.base)
        placed.insert(base)
      }
      if let index { placed.insert(index) }
    }
    writeOperand(state, target, size, decoder.usesVectors || decoder.usesX87)
    return target
  }

  private func indexValue(_ number: Int, _ register: ZydisRegister, _ state: CaseState) -> UInt64 {
    register == ZYDIS_REGISTER_AL ? state.gpr(0) & 0xff : state.gpr(number)
  }

  /// Exactly, modulo 2^64, by 3, 5 and 9.
  private func divided(_ value: UInt64, by factor: UInt64) -> UInt64 {
    guard factor & 1 != 0 else { return value / factor }
    var inverse = factor
    for _ in 0..<6 { inverse = inverse &* (2 &- factor &* inverse) }
    return value &* inverse
  }

  private func generalRegister(_ register: ZydisRegister) -> Int? {
    switch ZydisRegisterGetClass(register) {
    case ZYDIS_REGCLASS_GPR8, ZYDIS_REGCLASS_GPR16, ZYDIS_REGCLASS_GPR32, ZYDIS_REGCLASS_GPR64:
      Int(RegisterNumbers.number(of: register) / 8)
    default: nil
    }
  }

  private func segmentBase(_ segment: ZydisRegister, _ form: InstructionForm, _ state: CaseState) -> UInt64 {
    guard form.mode == .long else { return form.mode.segmentBase }
    switch segment {
    case ZYDIS_REGISTER_FS: return state.fsBase
    case ZYDIS_REGISTER_GS: return state.gsBase
    default: return 0
    }
  }

  /// Where a memory operand goes: mostly inside the data pages, sometimes across their boundary, at their edges, on the
  /// page that cannot be written; in a small segment also at its end.
  private mutating func linearTarget(_ size: Int, _ mode: SiliconMode) -> UInt64 {
    if mode == .protected16, random.oneIn(5) {
      let offset = 0x1_0000 - UInt64(random.below(size + 1))
      return mode.segmentBase + (random.oneIn(2) ? offset : offset & ~63)
    }
    let start = UInt64(SiliconDataAddress)
    let end = start + UInt64(SiliconDataSize)
    switch random.below(40) {
    case 0..<6: return start + 4096 - UInt64(random.below(size + 1))
    case 6..<8: return end - UInt64(random.below(size + 2))
    case 8: return start + 1 - UInt64(random.below(3))
    case 9: return UInt64(SiliconConstantAddress) + UInt64(random.below(SiliconConstantSize - size))
    default:
      let offset = UInt64(random.below(SiliconDataSize - size))
      return start + (random.oneIn(2) ? offset : offset & ~63)
    }
  }

  private mutating func writeOperand(_ state: CaseState, _ address: UInt64, _ size: Int, _ isVector: Bool) {
    state.fill(address, count: min(size, 64), &random) { random in
      guard isVector else { return random.operand() }
      return random.oneIn(2) ? random.double() : UInt64(random.single()) | UInt64(random.single()) << 32
    }
  }

  // MARK: What single families need

  /// Makes the interesting case likely where random operands would miss it.
  private mutating func prepare(_ form: InstructionForm, _ state: CaseState) {
    let instruction = decoder.instruction
    if instruction.pointee.meta.branch_type == ZYDIS_BRANCH_TYPE_SHORT
      || instruction.pointee.meta.branch_type == ZYDIS_BRANCH_TYPE_NEAR
    {
      prepareBranch(form, state)
    }
    if decoder.isString { prepareString(form, state) }
    switch instruction.pointee.mnemonic {
    case ZYDIS_MNEMONIC_DIV, ZYDIS_MNEMONIC_IDIV:
      switch random.below(4) {
      case 0: break
      case 1: state.setGPR(2, UInt64(random.below(4)))
      case 2: state.setGPR(2, 0)
      default: state.setGPR(2, UInt64(bitPattern: Int64(bitPattern: state.gpr(0)) >> 63))
      }
      if decoder.operands.pointee.size == 8, random.oneIn(2) {
        state.setGPR(0, state.gpr(0) & ~0xff00 | UInt64(random.below(3)) << 8)
      }
    case ZYDIS_MNEMONIC_BT, ZYDIS_MNEMONIC_BTS, ZYDIS_MNEMONIC_BTR, ZYDIS_MNEMONIC_BTC:
      guard form.key.hasMemory, decoder.operands[1].type == ZYDIS_OPERAND_TYPE_REGISTER, !random.oneIn(8),
        let number = generalRegister(decoder.operands[1].reg.value),
        number != generalRegister(decoder.operands.pointee.mem.base),
        number != generalRegister(decoder.operands.pointee.mem.index)
      else { return }
      let offset = UInt64(bitPattern: Int64(random.below(30000) - 15000))
      state.setGPR(number, form.mode == .long ? offset : offset & 0xffff_ffff)
    case ZYDIS_MNEMONIC_CMPXCHG, ZYDIS_MNEMONIC_CMPXCHG8B, ZYDIS_MNEMONIC_CMPXCHG16B:
      prepareCompareExchange(form, state)
    case ZYDIS_MNEMONIC_ENTER, ZYDIS_MNEMONIC_LEAVE:
      state.setGPR(5, UInt64(SiliconDataAddress + random.below(SiliconDataSize)) &- form.mode.segmentBase)
      if random.oneIn(2) { state.setGPR(4, UInt64(SiliconDataAddress + 5000) &- form.mode.segmentBase) }
    case _ where decoder.selectsComponents:
      // The host may have more components than the guest.
      state.setGPR(0, UInt64(random.below(8)))
      state.setGPR(2, 0)
    default: break
    }
  }

  /// Targets are the second halves of slots, where only INT3 is; some are left wherever they are.
  private mutating func prepareBranch(_ form: InstructionForm, _ state: CaseState) {
    // Not so short branches, which could go to themselves, and branches in a small segment, much of which is code.
    let isFar =
      decoder.operands.pointee.type != ZYDIS_OPERAND_TYPE_IMMEDIATE
      || decoder.instruction.pointee.raw.imm.0.size == 32
    guard !isFar || form.mode == .protected16 || !random.oneIn(10) else { return }
    let count = SiliconCodeSize / SiliconSlotSize
    let target = UInt64(
      SiliconCodeAddress + random.below(count) * SiliconSlotSize + SiliconSlotSize / 2 + random.below(16))
    let offset = target &- form.mode.segmentBase
    let operand = decoder.operands
    switch operand.pointee.type {
    case ZYDIS_OPERAND_TYPE_IMMEDIATE:
      let next = state.rip &+ UInt64(decoder.instruction.pointee.length)
      if decoder.instruction.pointee.raw.imm.0.size == 8 {
        encoder.setRelative((state.rip & ~31) &+ 16 &+ UInt64(random.below(4) * 32) &- 64 &- next)
      } else {
        encoder.setRelative(target &- next)
      }
    case ZYDIS_OPERAND_TYPE_REGISTER:
      if let number = generalRegister(operand.pointee.reg.value),
        operand.pointee.visibility == ZYDIS_OPERAND_VISIBILITY_EXPLICIT
      {
        state.setGPR(number, offset)
      }
    default: break
    }
    // An indirect branch's memory operand; RET's stack.
    for index in 0..<Int(decoder.instruction.pointee.operand_count) {
      let operand = decoder.operands + index
      guard operand.pointee.type == ZYDIS_OPERAND_TYPE_MEMORY, let base = generalRegister(operand.pointee.mem.base)
      else { continue }
      let isStack = base == 4 && index > 0
      let address =
        (isStack ? state.gpr(4) : effectiveAddress(operand, state))
        &+ segmentBase(operand.pointee.mem.segment, form, state)
      state.store(offset, at: address)
    }
    if random.oneIn(3) { state.setGPR(1, UInt64(random.below(3))) }
  }

  private func effectiveAddress(_ operand: UnsafeMutablePointer<ZydisDecodedOperand>, _ state: CaseState) -> UInt64 {
    let memory = operand.pointee.mem
    let place = decoder.place(of: operand, in: decoder.instruction)
    var address = UInt64(bitPattern: place.displacement)
    if let base = generalRegister(place.base) { address = address &+ state.gpr(base) }
    if let index = generalRegister(memory.index) {
      address = address &+ state.gpr(index) &* UInt64(max(1, memory.scale))
    }
    return address
  }

  /// Counts are small; data repeat themselves, so that comparisons last.
  private mutating func prepareString(_ form: InstructionForm, _ state: CaseState) {
    let count = UInt64([random.below(4), random.below(40), random.below(40), random.below(600)][random.below(4)])
    let kept: UInt64 =
      switch decoder.instruction.pointee.address_width {
      case 64: 0
      case 32: 0xffff_ffff_0000_0000
      default: 0xffff_ffff_ffff_0000
      }
    if !random.oneIn(30) { state.setGPR(1, state.gpr(1) & kept | count) }
    guard random.oneIn(2) else { return }
    let byte = UInt8(truncatingIfNeeded: random.next())
    memset(state.data, Int32(byte), SiliconDataSize)
    if random.oneIn(2) { state.setGPR(0, UInt64(byte) &* 0x0101_0101_0101_0101) }
    for _ in 0..<random.below(12) {
      state.data[random.below(SiliconDataSize)] = UInt8(truncatingIfNeeded: random.next())
    }
  }

  /// Half of the comparisons succeed.
  private mutating func prepareCompareExchange(_ form: InstructionForm, _ state: CaseState) {
    guard random.oneIn(2) else { return }
    let operand = decoder.operands
    if operand.pointee.type == ZYDIS_OPERAND_TYPE_REGISTER {
      if let number = generalRegister(operand.pointee.reg.value) { state.setGPR(0, state.gpr(number)) }
      return
    }
    let address = effectiveAddress(operand, state) &+ segmentBase(operand.pointee.mem.segment, form, state)
    switch operand.pointee.size {
    case 128:
      state.setGPR(0, state.load(address))
      state.setGPR(2, state.load(address &+ 8))
    case 64 where decoder.instruction.pointee.mnemonic == ZYDIS_MNEMONIC_CMPXCHG8B:
      state.setGPR(0, state.load(address) & 0xffff_ffff)
      state.setGPR(2, state.load(address) >> 32)
    default: state.setGPR(0, state.load(address))
    }
  }
}
