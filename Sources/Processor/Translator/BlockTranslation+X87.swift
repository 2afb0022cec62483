import CHost
import CZydis
import X86

/// x87 instructions whose operands are registers, while the guest's x87 registers are in the host's unit and nothing there
/// is unmasked or pending (`X87Residence.host`). Whatever changes that is the chain's.
///
/// The unit's instruction pointer, opcode and code segment are kept in the state. Only those of the last of several
/// instructions can ever be seen, so they are stored once, before anything else happens.
extension BlockTranslation {
  /// Whether `emitX87` translates the current instruction.
  private var isX87: Bool {
    guard current < decodedCount, op.semantic == PseudoInstructions.native else { return false }
    let traits = NativeTraits(rawValue: op.detail)
    return traits.isSuperset(of: [.waits, .movesPointers]) && traits.memorySize == 0 && op.length == 2
      && (0xd8...0xdf).contains(instruction.pointee.opcode) && instruction.pointee.raw.modrm.mod == 3
  }

  mutating func emitX87() -> Bool {
    guard isX87 else { return false }
    if !x87IsReady {
      destroyFlags()
      code.load(GuestRegisters.first, .frame(FrameOffset.cpu))
      code.arithmetic(
        7, state(StateOffset.x87Residence), immediate: Int32(truncatingIfNeeded: X87Residence.host.rawValue), size: 4)
      leave(if: HostCondition.notZero)
      x87IsReady = true
    }
    let written = flagsWritten
    if flagsTested != 0 || (written != 0 && written != UInt32(RFLAGS.arithmetic)) { restoreFlags() }
    code.bytes(
      instruction.pointee.opcode, 0xc0 | instruction.pointee.raw.modrm.reg << 3 | instruction.pointee.raw.modrm.rm)
    if written != 0 { noteFlagsWritten() }
    x87Pointers = current
    return true
  }

  /// Stores the pointers of the last x87 instruction, unless another one comes next. Leaves the flags alone.
  mutating func storeX87Pointers() {
    guard let last = x87Pointers, !isX87 else { return }
    x87Pointers = nil
    let second = GuestRegisters.second
    code.load(GuestRegisters.first, .frame(FrameOffset.cpu))
    loadAddress(ofPlace: place + Int64(operations[last].offset), into: second)
    code.store(second, state(StateOffset.fpuInstructionPointer))
    code.load(second, state(StateOffset.selector(Int(SegmentRegister.cs.rawValue))), size: 2)
    code.store(second, state(StateOffset.fpuCodeSegment), size: 2)
    code.instruction(
      .primary, 0xc7, reg: 0, state(StateOffset.fpuOpcode), size: 2,
      immediate: Int64(operations[last].immediate & 0xffff), immediateSize: 2)
  }
}
