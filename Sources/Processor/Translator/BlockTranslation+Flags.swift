import CHost
import CZydis
import X86

/// The arithmetic flags: in the host's while nothing destroys them, and otherwise in the frame, where saving costs a few
/// instructions, or in a `FlagRecipe`, which costs nothing until somebody wants to know. Most never do: the next
/// instruction that writes flags comes first.
extension BlockTranslation {
  /// Has the flags in the frame.
  mutating func saveFlags() {
    guard !flagsAreInFrame else { return }
    emitSaving(of: flagSource)
    flagsAreInHost = true
    flagsAreInFrame = true
    if let recipe = flagRecipe, recipe.needsFrame { flagRecipe = nil }
  }

  /// Where a site has the flags that is led to from here.
  var flagSource: FlagSource {
    if flagsAreInFrame { return .frame }
    if !flagsAreInHost, let flagRecipe { return .recipe(flagRecipe) }
    return .host
  }

  /// Brings the flags into the frame. Destroys RAX.
  mutating func emitSaving(of source: FlagSource) {
    switch source {
    case .frame: return
    case .host: break
    case .recipe(let recipe): emit(recipe)
    }
    // SETO AL; LAHF.
    code.bytes(0x0f, 0x90, 0xc0, 0x9f)
    code.store(GuestRegisters.first, .frame(FrameOffset.flags), size: 2)
  }

  /// Has the flags in the host's. Destroys RAX.
  mutating func restoreFlags() {
    guard !flagsAreInHost else { return }
    flagsAreInHost = true
    if let flagRecipe { return emit(flagRecipe) }
    code.instruction(.escape0f, 0xb7, reg: GuestRegisters.first, .frame(FrameOffset.flags), size: 4)
    // ADD AL, 127; SAHF.
    code.bytes(0x04, 0x7f, 0x9e)
  }

  /// Has the carry flag in the host's, for an instruction that reads or keeps it and writes all others.
  mutating func restoreCarry() {
    guard !flagsAreInHost else { return }
    if let flagRecipe { emit(flagRecipe) } else { emit(.carryOfFrame) }
  }

  /// Host code that follows destroys the flags.
  mutating func destroyFlags() {
    if flagRecipe == nil { saveFlags() }
    flagsAreInHost = false
  }

  /// The instruction has written all arithmetic flags, or some while the others were in the host or nowhere.
  mutating func noteFlagsWritten(_ recipe: FlagRecipe? = nil) {
    flagsAreInHost = true
    flagsAreInFrame = false
    flagsAreLost = flagsAreLost && !writesAllFlags(instruction)
    flagRecipe = flagsAreLost ? nil : recipe
  }

  /// Whether nobody can see the flags that the current instruction leaves.
  var flagsDie: Bool { flagsDie(from: current + 1) }

  /// Whether nobody can see the flags that there are before instruction `start`: one that writes them all comes before any
  /// that reads them, may leave, or leaves some of them as they were.
  func flagsDie(from start: Int) -> Bool {
    guard !keepsEverything else { return false }
    for index in start..<max(start, min(decodedCount, start + Self.longestLoss)) {
      let next = decoded(index)
      guard next.pointee.encoding == ZYDIS_INSTRUCTION_ENCODING_LEGACY else { return false }
      let kind = Self.kinds[Int(next.pointee.mnemonic.rawValue)]
      let accessesMemory = (0..<Int(next.pointee.operand_count)).contains {
        decodedOperands(index)[$0].type == ZYDIS_OPERAND_TYPE_MEMORY
      }
      guard kind == .loadAddress || !accessesMemory, flagsTested(by: next) == 0 else { return false }
      switch kind {
      case .plain: if writesAllFlags(next) { return true }
      case .move: if next.pointee.raw.modrm.offset != 0, next.pointee.opcode >= 0x8c { return false }
      case .exchange, .loadAddress, .byteSwap, .shift, .incrementDecrement, .nothing: break
      default: return false
      }
    }
    return false
  }

  /// Whether the instruction always writes all arithmetic flags; shifts and others may keep some.
  private func writesAllFlags(_ instruction: UnsafePointer<ZydisDecodedInstruction>) -> Bool {
    Self.kinds[Int(instruction.pointee.mnemonic.rawValue)] == .plain
      && flagsWritten(by: instruction) == UInt32(RFLAGS.arithmetic)
  }

  /// How many instructions flags may be lost for.
  private static let longestLoss = 8

  // MARK: Recipes

  /// Before an instruction: where it changes what the recipe needs, the flags are saved. True.
  ///
  /// One that writes all flags may use it until then.
  mutating func keepFlagsMakeable() -> Bool {
    guard let recipe = flagRecipe, recipe.inputs & registersWritten != 0,
      flagsTested != 0 || flagsWritten != UInt32(RFLAGS.arithmetic)
    else { return true }
    if !flagsAreInHost || !keepsHostFlags { saveFlags() }
    flagRecipe = nil
    return true
  }

  /// Whether the instruction's translation leaves the host's flags alone.
  private var keepsHostFlags: Bool {
    guard flagsWritten == 0 else { return false }
    switch Self.kinds[Int(instruction.pointee.mnemonic.rawValue)] {
    case .loadAddress: return true
    case .plain, .move, .exchange, .byteSwap, .signExtend: return memoryOperand == nil
    default: return false
    }
  }

  /// The general registers that the instruction changes, hidden operands included, as bits.
  private var registersWritten: UInt16 {
    var bits: UInt16 = 0
    for index in 0..<Int(instruction.pointee.operand_count)
    where operands[index].type == ZYDIS_OPERAND_TYPE_REGISTER && operands[index].isWritten {
      switch ZydisRegisterGetClass(operands[index].reg.value) {
      case ZYDIS_REGCLASS_GPR8, ZYDIS_REGCLASS_GPR16, ZYDIS_REGCLASS_GPR32, ZYDIS_REGCLASS_GPR64:
        // AH to BH are bytes 1 of their registers.
        bits |= 1 << (RegisterNumbers.number(of: operands[index].reg.value) / 8 & 15)
      default: break
      }
    }
    return bits
  }

  /// The recipe of the decoded instruction, which has been emitted as `form`. Nil if there is none. `carry` is the recipe
  /// of the flags before it.
  func recipe(_ form: Form, carry: FlagRecipe?, carryIsInFrame: Bool) -> FlagRecipe? {
    guard form.memory == nil, form.vex == nil, form.map == .primary, let rm = form.rm, let rmHost = rm.host
    else { return nil }
    var field = form.field
    var inputs: UInt16 = 1 << UInt16(rm.guest)
    if let register = form.register {
      guard let host = register.host else { return nil }
      field = host
      inputs |= 1 << UInt16(register.guest)
    }
    let isByte = rm.size == 1
    func step(_ opcode: UInt8, _ reg: Int, _ rm: Int) -> FlagRecipe.Step {
      .instruction(
        opcode: opcode, reg: reg, rm: rm, size: form.size, hasByteRegister: isByte, immediate: form.immediate)
    }
    let again = step(form.opcode, field, rmHost)
    switch instruction.pointee.mnemonic {
    case ZYDIS_MNEMONIC_CMP, ZYDIS_MNEMONIC_TEST: return FlagRecipe(steps: [again], inputs: inputs)
    case ZYDIS_MNEMONIC_AND, ZYDIS_MNEMONIC_OR, ZYDIS_MNEMONIC_XOR:
      let isToRegister = form.register?.isWritten == true
      let result = isToRegister ? field : rmHost
      let guest = isToRegister ? form.register.unsafelyUnwrapped.guest : rm.guest
      let test = FlagRecipe.Step.instruction(
        opcode: isByte ? 0x84 : 0x85, reg: result, rm: result, size: form.size, hasByteRegister: isByte,
        immediate: (0, 0))
      return FlagRecipe(steps: [test], inputs: 1 << UInt16(guest))
    case ZYDIS_MNEMONIC_ADD, ZYDIS_MNEMONIC_SUB:
      // ADD and SUB differ in bits 3 and 5 of the opcode, or of ModRM's field.
      if form.register != nil {
        guard field != rmHost else { return nil }
        return FlagRecipe(steps: [step(form.opcode ^ 0x28, field, rmHost), again], inputs: inputs)
      }
      return FlagRecipe(steps: [step(form.opcode, field ^ 5, rmHost), again], inputs: inputs)
    case ZYDIS_MNEMONIC_NEG: return FlagRecipe(steps: [again, again], inputs: inputs)
    case ZYDIS_MNEMONIC_INC, ZYDIS_MNEMONIC_DEC:
      guard !isByte else { return nil }
      let isIncrement = instruction.pointee.mnemonic == ZYDIS_MNEMONIC_INC
      var recipe = FlagRecipe(steps: [.carryOfFrame], inputs: 0)
      if !carryIsInFrame {
        guard let carry, carry.inputs & inputs == 0, carry.steps.count <= FlagRecipe.longestPrefix else { return nil }
        recipe = carry
      }
      recipe.steps += [.add(isIncrement ? -1 : 1, register: rmHost, size: form.size), again]
      recipe.inputs |= inputs
      return recipe
    default: return nil
    }
  }

  private mutating func emit(_ recipe: FlagRecipe) { for step in recipe.steps { emit(step) } }

  private mutating func emit(_ step: FlagRecipe.Step) {
    switch step {
    case .instruction(let opcode, let reg, let rm, let size, let hasByteRegister, let immediate):
      code.instruction(
        .primary, opcode, reg: reg, .register(rm), size: size, hasByteRegister: hasByteRegister,
        immediate: immediate.value, immediateSize: immediate.size)
    case .add(let value, let register, let size):
      code.loadAddress(
        register, .memory(base: register, index: nil, scale: 0, displacement: value), size: size)
    case .carryOfFrame:
      // CF is bit 8, where LAHF has it. BT word, imm8.
      code.instruction(
        .escape0f, 0xba, reg: 4, .frame(FrameOffset.flags), size: 2, immediate: 8, immediateSize: 1)
    }
  }
}
