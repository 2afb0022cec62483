import CHost
import CZydis
import Host
import X86

/// Runs vector and x87 instructions on the host's own units: exact by construction, and there where the host has them.
///
/// For each guest instruction on the allow-list the unit generates a piece of position-independent code that *is* a chain
/// handler: it loads the vector and general registers that the instruction reads from `CPUState`, executes the
/// instruction with its operands replaced (`NativeForm`), stores what it wrote, and jumps to the next operation's
/// handler. A memory operand is found in the software TLB first and then used in place. Equal code is made once and
/// shared; a displacement is not part of it but is read from the operation.
///
/// The code has two entries. The *handler* is for chains. The *core*, `Operation.link`, begins behind the translation of
/// the memory operand and takes its host address in R11; the semantic function (`execute`) calls it with a copy of the
/// operand when the handler gives up: a TLB miss, a page boundary, a device, misalignment, segments that are not flat.
///
/// Between `enter` and `leave` the guest's MXCSR is the host's, and from the first x87 or MMX instruction on so are its
/// x87 registers; general and vector registers are always in `CPUState`. SIMD exceptions that the guest has unmasked
/// arrive as SIGFPE and go over to the semantic function; in the host's own code they are masked (NativeUnit.c). x87 exceptions never do: while any is unmasked,
/// `CPUState.engine.x87Residence` sends all x87 instructions through the semantic function, which looks at the status
/// word first.
///
/// No byte of guest code is ever copied into executable memory except opcode, ModRM fields that are not registers, and
/// immediate of a listed instruction; memory is addressed through R11 only.
final class NativeUnit {
  /// Mapped when guest code first runs.
  private var memory: CodeMemory?
  private let capacity: Int
  /// Bytes of `memory` in use.
  private var used = 0
  /// Offsets of code by its bytes.
  private var places: [[UInt8]: Int] = [:]

  /// Room that must be left for the code of one more block.
  private static let reserve = 32 << 10

  /// - Parameter capacity: bytes of generated code that fit before all of it has to be dropped.
  init(capacity: Int = 16 << 20) { self.capacity = capacity }

  /// Whether the code of another block might not fit. All blocks must be dropped then, and `removeAll` be called.
  var isNearlyFull: Bool { capacity - used < Self.reserve }

  /// Drops all generated code. No operation refers to it any more.
  func removeAll() {
    used = 0
    places.removeAll(keepingCapacity: true)
  }

  // MARK: Running

  /// Before guest code runs: the host's units become the guest's. Throws if there is no memory for code.
  func enter(_ cpu: CPU) throws(HostFailure) {
    let memory: CodeMemory
    if let mapped = self.memory {
      memory = mapped
    } else {
      memory = try CodeMemory(size: capacity)
      self.memory = memory
    }
    nativeEnter(cpu, memory.executable, memory.size, Chain.semanticHandler)
  }

  /// Before anything else runs on this thread: all of the guest's state is in `cpu` and the host's units are the host's.
  func leave(_ cpu: CPU) { nativeLeave(cpu) }

  // MARK: Preparing

  /// Makes `operation`, whose operands are set, one that runs natively. False if the instruction is not the unit's.
  ///
  /// The unit that the instruction belongs to is enabled in `mode`, and the instruction is offered by the CPU model.
  func prepare(
    _ instruction: UnsafePointer<ZydisDecodedInstruction>, operands: UnsafePointer<ZydisDecodedOperand>,
    bytes: UnsafePointer<UInt8>, mode: CodeMode, into operation: inout Operation
  ) -> Bool {
    guard let memory, NativeFeatures.hostRuns(instruction.pointee.meta.isa_set) else { return false }
    if let count = Self.zeroedRegisters(instruction) {
      let isUpperOnly = instruction.pointee.mnemonic == ZYDIS_MNEMONIC_VZEROUPPER
      return prepareZeroing(count, isUpperOnly: isUpperOnly, memory, &operation)
    }
    guard let form = NativeForm(instruction, operands: operands, bytes: bytes) else {
      return MaskedMoves.prepare(instruction, operands, &operation)
    }
    operation.detail = form.traits.rawValue
    operation.semantic = PseudoInstructions.native
    if form.traits.contains(.movesPointers) { operation.immediate = UInt64(form.x87Opcode) }
    let isDirect = !form.readsFlags && (form.memory == nil || Self.addressesFlatly(operation, form, mode))
    var code = NativeAssembler()
    if isDirect { emitEntry(form, operation, &code) }
    let core = code.bytes.count
    emitCore(form, instruction.pointee.mnemonic, &code)
    code.finish()
    let start = place(code.bytes, memory)
    operation.link = UnsafeMutableRawPointer(mutating: start + core)
    if isDirect { operation.handler = unsafeBitCast(start, to: OperationHandler.self) }
    // A masked move runs natively only where all of its operand can be accessed; else by its own semantic function.
    _ = MaskedMoves.prepare(instruction, operands, &operation)
    return true
  }

  /// Whether the handler can find the operand with segment base and TLB alone.
  private static func addressesFlatly(_ op: Operation, _ form: NativeForm, _ mode: CodeMode) -> Bool {
    if mode.contains(.code64) { return true }
    guard mode.contains(.flat), op.segment == Operation.absent else { return false }
    return form.memory?.isWrite != true || op.segmentRegister != SegmentRegister.cs.rawValue
  }

  /// Where code with these bytes runs; makes it if it is new.
  private func place(_ bytes: [UInt8], _ memory: CodeMemory) -> UnsafeRawPointer {
    if let known = places[bytes] { return memory.executable + known }
    precondition(used + bytes.count <= memory.size, "room for a block's code was made before")
    let start = used
    bytes.withUnsafeBytes { (memory.writable + start).copyMemory(from: $0.baseAddress!, byteCount: bytes.count) }
    places[bytes] = start
    used = (start + bytes.count + 15) & ~15
    return memory.executable + start
  }

  // MARK: Code

  /// What the handler does before the core: x87 state, memory operand, x87 pointers.
  private func emitEntry(_ form: NativeForm, _ op: Operation, _ code: inout NativeAssembler) {
    if form.traits.contains(.waits) {
      code.compare(StateOffset.x87Residence, UInt8(X87Residence.host.rawValue))
      code.jumpToSlowPath(unless: .equal)
    } else if form.traits.contains(.usesX87) {
      code.compare(StateOffset.x87Residence, UInt8(X87Residence.memory.rawValue))
      code.jumpToSlowPath(unless: .notEqual)
    }
    let movesPointers = form.traits.contains(.movesPointers)
    if let memory = form.memory { code.translate(op, access: memory, recordsPointer: movesPointers) }
    guard movesPointers else { return }
    code.emit(0x0f, 0xb7, 0x46, UInt8(OperationOffset.offset))  // MOVZX EAX, word [RSI + offset]
    code.add(0, StateOffset.rip)
    code.store(0, StateOffset.fpuInstructionPointer)
    code.loadWord(StateOffset.selector(SegmentRegister.cs.rawValue))
    code.store16(0, StateOffset.fpuCodeSegment)
    code.setWord(StateOffset.fpuOpcode, form.x87Opcode)
  }

  private func emitCore(_ form: NativeForm, _ mnemonic: ZydisMnemonic, _ code: inout NativeAssembler) {
    for operand in form.vectors where operand.isRead {
      code.loadVector(operand.host, StateOffset.xmm(operand.guest), isVEX: form.isVEX)
      if operand.isWide { code.loadHighHalf(operand.host, StateOffset.ymmHigh(operand.guest)) }
    }
    for operand in form.generals where operand.isRead { code.load(operand.host, operand.guest * 8) }
    if form.readsFlags { code.loadFlags() }
    form.emit(into: &code)
    for operand in form.generals where operand.isWritten {
      // The host has cleared the upper half of a 32-bit result.
      if operand.size == 2 {
        code.store16(operand.host, operand.guest * 8)
      } else {
        code.store(operand.host, operand.guest * 8)
      }
    }
    for operand in form.vectors where operand.isWritten {
      code.storeVector(operand.host, StateOffset.xmm(operand.guest), isVEX: form.isVEX)
      if operand.isWide {
        code.storeHighHalf(operand.host, StateOffset.ymmHigh(operand.guest))
      } else if form.isVEX {
        code.zeroVector7()
        code.storeVector(7, StateOffset.ymmHigh(operand.guest), isVEX: true)
      }
    }
    if form.traits.contains(.writesFlags) {
      code.returnFlags(withOverflow: NativeAllowList.comparesStrings(mnemonic))
    }
    // A 256-bit memory source widens XMM destinations' instructions too, so the encoding decides.
    if form.isWide || form.memory?.size == 32 { code.vzeroupper() }
    code.next()
  }

  // MARK: VZEROALL, VZEROUPPER

  /// How many registers VZEROALL or VZEROUPPER clears in the code's mode; nil for other instructions.
  private static func zeroedRegisters(_ instruction: UnsafePointer<ZydisDecodedInstruction>) -> Int? {
    switch instruction.pointee.mnemonic {
    case ZYDIS_MNEMONIC_VZEROALL, ZYDIS_MNEMONIC_VZEROUPPER:
      instruction.pointee.machine_mode == ZYDIS_MACHINE_MODE_LONG_64 ? 16 : 8
    default: nil
    }
  }

  private func prepareZeroing(
    _ count: Int, isUpperOnly: Bool, _ memory: CodeMemory, _ operation: inout Operation
  ) -> Bool {
    var code = NativeAssembler()
    code.zeroVector7()
    for number in 0..<count {
      code.storeVector(7, StateOffset.ymmHigh(number), isVEX: true)
      if !isUpperOnly { code.storeVector(7, StateOffset.xmm(number), isVEX: true) }
    }
    code.next()
    let start = place(code.bytes, memory)
    operation.detail = 0
    operation.semantic = PseudoInstructions.native
    operation.link = UnsafeMutableRawPointer(mutating: start)
    operation.handler = unsafeBitCast(start, to: OperationHandler.self)
    return true
  }
}
