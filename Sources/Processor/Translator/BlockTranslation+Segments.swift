import CHost
import CZydis
import X86

/// Segment registers as operands.
///
/// Reading one is the same in all modes. Loading one is translated where selectors are paragraphs (real-address and
/// virtual-8086 mode), and only DS, ES, FS and GS: nothing changes then but a selector and a base. All other loads may fault
/// or change the code mode, and SS holds interrupts off; they are the chain's.
extension BlockTranslation {
  private var first: Int { GuestRegisters.first }
  private var second: Int { GuestRegisters.second }

  /// The number of the segment register that the first operand is.
  private var segmentOperand: Int? {
    guard operands[0].type == ZYDIS_OPERAND_TYPE_REGISTER,
      ZydisRegisterGetClass(operands[0].reg.value) == ZYDIS_REGCLASS_SEGMENT
    else { return nil }
    return Int(RegisterNumbers.number(of: operands[0].reg.value))
  }

  /// Has a selector in RAX.
  private mutating func loadSelector(_ number: Int) {
    code.load(first, .frame(FrameOffset.cpu))
    code.instruction(.escape0f, 0xb7, reg: first, state(StateOffset.selector(number)), size: 4)
  }

  /// MOV from a segment register.
  mutating func emitSelectorRead() -> Bool {
    let number = Int(RegisterNumbers.number(of: operands[1].reg.value))
    guard number < 6 else { return false }
    if let memory = memoryOperand {
      guard let address = address(of: memory) else { return false }
      _ = accessInSecond(address, size: 2, isWrite: true)
      loadSelector(number)
      code.store(first, .memory(base: second, index: nil, scale: 0, displacement: 0), size: 2)
      return true
    }
    guard let destination = register(ZYDIS_OPERAND_ENCODING_MODRM_RM) else { return false }
    loadSelector(number)
    if let host = destination.host {
      code.load(host, .register(first), size: destination.size)
    } else {
      code.store(first, GuestRegisters.home(destination.guest), size: destination.size == 2 ? 2 : 8)
    }
    return true
  }

  /// PUSH of a segment register: zero-extended.
  mutating func emitSelectorPush() -> Bool {
    let size = Int(op.sourceSize)
    guard let number = segmentOperand, is64 ? size == 8 : size <= 4 else { return false }
    _ = accessInSecond(stack(Int32(-size)), size: size, isWrite: true)
    loadSelector(number)
    code.store(first, .memory(base: second, index: nil, scale: 0, displacement: 0), size: size)
    moveStackPointer(by: Int32(-size))
    return true
  }

  // MARK: Loading

  /// Whether loading a segment register changes only its selector and base, once `checkParagraph` has been passed.
  private func loadsParagraph(_ number: Int) -> Bool {
    mode.contains(.paragraphs) && number != SegmentRegister.cs.rawValue && number != SegmentRegister.ss.rawValue
  }

  /// Leaves where loading would also give the segment other attributes or another limit. Destroys RAX and the
  /// host's flags.
  private mutating func checkParagraph(_ number: Int) {
    code.load(first, .frame(FrameOffset.cpu))
    let attributes = state(StateOffset.selector(number) + 2)
    if mode.contains(.unprivileged) {
      // Virtual-8086 mode sets them.
      code.instruction(
        .primary, 0x81, reg: 7, state(StateOffset.base(number) + 8), size: 4, immediate: 0xffff, immediateSize: 4)
      leave(if: HostCondition.notZero)
      code.instruction(.primary, 0x81, reg: 7, attributes, size: 2, immediate: 0xf3, immediateSize: 2)
      leave(if: HostCondition.notZero)
    } else {
      // Real mode makes segments present.
      code.instruction(
        .primary, 0xf6, reg: 0, attributes, size: 1, immediate: Int64(SegmentAttributes.present), immediateSize: 1)
      leave(if: HostCondition.zero)
    }
  }

  /// Loads the selector in R11, zero-extended. Destroys RAX and the flags.
  private mutating func setParagraph(_ number: Int) {
    code.load(first, .frame(FrameOffset.cpu))
    code.store(second, state(StateOffset.selector(number)), size: 2)
    code.instruction(.primary, 0xc1, reg: 4, .register(second), size: 4, immediate: 4, immediateSize: 1)
    code.store(second, state(StateOffset.base(number)))
    code.store(second, .frame(FrameOffset.segment(number, \.base)))
  }

  /// MOV to a segment register.
  mutating func emitSegmentMove() -> Bool {
    guard let number = segmentOperand, loadsParagraph(number) else { return false }
    destroyFlags()
    checkParagraph(number)
    let source: HostOperand
    if let memory = memoryOperand {
      guard let address = address(of: memory) else { return false }
      source = access(address, size: 2, isWrite: false)
    } else {
      guard let register = register(operands + 1), let host = register.host else { return false }
      source = .register(host)
    }
    code.instruction(.escape0f, 0xb7, reg: second, source, size: 4)
    setParagraph(number)
    return true
  }

  /// POP of a segment register.
  mutating func emitSegmentPop() -> Bool {
    guard let number = segmentOperand, loadsParagraph(number) else { return false }
    let size = Int(op.sourceSize)
    destroyFlags()
    checkParagraph(number)
    code.instruction(.escape0f, 0xb7, reg: second, access(stack(0), size: size, isWrite: false), size: 4)
    setParagraph(number)
    moveStackPointer(by: Int32(size))
    return true
  }

  /// LDS, LES, LFS and LGS.
  mutating func emitFarPointerLoad(_ register: SegmentRegister) -> Bool {
    let number = register.rawValue
    guard loadsParagraph(number), let memory = memoryOperand, var address = address(of: memory),
      let destination = self.register(ZYDIS_OPERAND_ENCODING_MODRM_REG),
      let host = destination.host
    else { return false }
    address.isDivided = true
    destroyFlags()
    checkParagraph(number)
    _ = accessInSecond(address, size: destination.size + 2, isWrite: false)
    let displacement = Int32(destination.size)
    code.instruction(
      .escape0f, 0xb7, reg: first, .memory(base: second, index: nil, scale: 0, displacement: displacement), size: 4)
    code.load(host, .memory(base: second, index: nil, scale: 0, displacement: 0), size: destination.size)
    code.load(second, .register(first), size: 4)
    setParagraph(number)
    return true
  }
}
