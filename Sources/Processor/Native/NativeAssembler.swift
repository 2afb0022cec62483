import CHost

/// Writes the few kinds of host instructions that surround a guest's instruction in a native unit's piece of code.
///
/// Registers as in an `OperationHandler`: RDI is the CPU state and RSI the operation. R11 is the host address of the
/// memory operand, RAX and R10 are free, RDX, RCX, R8 and R9 carry the lazy flags. All vector registers are free.
struct NativeAssembler {
  private(set) var bytes: [UInt8] = []
  /// Places of 32-bit displacements to the slow path.
  private var slowJumps: [Int] = []

  init() { bytes.reserveCapacity(192) }

  mutating func emit(_ code: UInt8...) { bytes.append(contentsOf: code) }

  mutating func append(_ code: some Collection<UInt8>) { bytes.append(contentsOf: code) }

  mutating func immediate(_ value: Int32) {
    let value = UInt32(bitPattern: value)
    bytes.append(UInt8(truncatingIfNeeded: value))
    bytes.append(UInt8(truncatingIfNeeded: value >> 8))
    bytes.append(UInt8(truncatingIfNeeded: value >> 16))
    bytes.append(UInt8(truncatingIfNeeded: value >> 24))
  }

  /// The ModRM byte and displacement of [RDI + offset].
  private mutating func state(_ register: Int, _ offset: Int) {
    bytes.append(UInt8(0x87 | (register & 7) << 3))
    immediate(Int32(truncatingIfNeeded: offset))
  }

  // MARK: General registers

  /// MOV r64, [state + offset].
  mutating func load(_ register: Int, _ offset: Int) {
    emit(register >= 8 ? 0x4c : 0x48, 0x8b)
    state(register, offset)
  }

  /// MOV [state + offset], r64.
  mutating func store(_ register: Int, _ offset: Int) {
    emit(register >= 8 ? 0x4c : 0x48, 0x89)
    state(register, offset)
  }

  /// MOV [state + offset], r16.
  mutating func store16(_ register: Int, _ offset: Int) {
    bytes.append(0x66)
    if register >= 8 { bytes.append(0x44) }
    bytes.append(0x89)
    state(register, offset)
  }

  /// ADD r64, [state + offset].
  mutating func add(_ register: Int, _ offset: Int) {
    emit(register >= 8 ? 0x4c : 0x48, 0x03)
    state(register, offset)
  }

  /// SUB r64, [state + offset].
  mutating func subtract(_ register: Int, _ offset: Int) {
    emit(register >= 8 ? 0x4c : 0x48, 0x2b)
    state(register, offset)
  }

  /// MOVZX EAX, word [state + offset].
  mutating func loadWord(_ offset: Int) {
    emit(0x0f, 0xb7)
    state(0, offset)
  }

  /// MOV word [state + offset], value.
  mutating func setWord(_ offset: Int, _ value: UInt16) {
    emit(0x66, 0xc7)
    state(0, offset)
    emit(UInt8(truncatingIfNeeded: value), UInt8(truncatingIfNeeded: value >> 8))
  }

  /// CMP dword [state + offset], value.
  mutating func compare(_ offset: Int, _ value: UInt8) {
    bytes.append(0x83)
    state(7, offset)
    bytes.append(value)
  }

  /// The guest's arithmetic flags to the host.
  mutating func loadFlags() {
    // MOV AH, [state + rflags]; SAHF.
    bytes.append(0x8a)
    state(4, StateOffset.rflags)
    bytes.append(0x9e)
  }

  /// The host's arithmetic flags to lazy flags of kind 0. OF is known to be clear unless `withOverflow`.
  mutating func returnFlags(withOverflow: Bool) {
    bytes.append(0x9f)  // LAHF
    if withOverflow {
      // SETO AL; MOVZX ECX, AH; MOVZX EAX, AL; SHL EAX, 11; AND ECX, 0xd5; OR EAX, ECX. RCX is dead in kind 0.
      emit(0x0f, 0x90, 0xc0, 0x0f, 0xb6, 0xcc, 0x0f, 0xb6, 0xc0, 0xc1, 0xe0, 0x0b)
      emit(0x81, 0xe1, 0xd5, 0, 0, 0, 0x09, 0xc8)
    } else {
      // MOVZX EAX, AH; AND EAX, 0xd5.
      emit(0x0f, 0xb6, 0xc4, 0x25, 0xd5, 0, 0, 0)
    }
    // MOV R8D, EAX; XOR R9D, R9D.
    emit(0x41, 0x89, 0xc0, 0x45, 0x31, 0xc9)
  }

  // MARK: Vector registers

  /// MOVAPS xmm, [state + offset]. `register` is below 8.
  mutating func loadVector(_ register: Int, _ offset: Int, isVEX: Bool) {
    if isVEX { emit(0xc5, 0xf8, 0x28) } else { emit(0x0f, 0x28) }
    state(register, offset)
  }

  /// MOVAPS [state + offset], xmm.
  mutating func storeVector(_ register: Int, _ offset: Int, isVEX: Bool) {
    if isVEX { emit(0xc5, 0xf8, 0x29) } else { emit(0x0f, 0x29) }
    state(register, offset)
  }

  /// VINSERTF128 ymm, ymm, [state + offset], 1.
  mutating func loadHighHalf(_ register: Int, _ offset: Int) {
    emit(0xc4, 0xe3, UInt8(0x05 | (~register & 15) << 3), 0x18)
    state(register, offset)
    bytes.append(1)
  }

  /// VEXTRACTF128 [state + offset], ymm, 1.
  mutating func storeHighHalf(_ register: Int, _ offset: Int) {
    emit(0xc4, 0xe3, 0x7d, 0x19)
    state(register, offset)
    bytes.append(1)
  }

  /// VXORPS xmm7, xmm7, xmm7: the source of zeros.
  mutating func zeroVector7() { emit(0xc5, 0xc0, 0x57, 0xff) }

  mutating func vzeroupper() { emit(0xc5, 0xf8, 0x77) }

  // MARK: The memory operand

  /// Puts the memory operand's host address into R11, or leaves to the slow path. With `recordsPointer`, the offset
  /// within the segment becomes the guest's x87 data pointer.
  mutating func translate(_ op: Operation, access: NativeMemoryAccess, recordsPointer: Bool) {
    emit(0x4c, 0x63, 0x5e, UInt8(OperationOffset.displacement))  // MOVSXD R11, [RSI + displacement]
    if op.base != Operation.absent { add(11, Int(op.base)) }
    if op.index != Operation.absent {
      load(0, Int(op.index))
      emit(0x4d, 0x8d, 0x1c, UInt8(op.scale & 3) << 6 | 0x03)  // LEA R11, [R11 + RAX * scale]
    }
    switch op.addressMask {
    case 0xffff_ffff: emit(0x45, 0x89, 0xdb)  // MOV R11D, R11D
    case 0xffff: emit(0x45, 0x0f, 0xb7, 0xdb)  // MOVZX R11D, R11W
    default: break
    }
    if op.segment != Operation.absent { add(11, Int(op.segment)) }
    // The TLB entry's address in RAX.
    // See TranslationCache.index.
    emit(0x4c, 0x89, 0xd8)  // MOV RAX, R11
    emit(0x48, 0xc1, 0xe8, UInt8(TranslationCache.indexBits))  // SHR RAX, bits of an index
    emit(0x44, 0x31, 0xd8)  // XOR EAX, R11D
    emit(0xc1, 0xe8, 12 - 5)  // SHR EAX, 7
    bytes.append(0x25)  // AND EAX, index mask * entry size
    immediate(Int32((TranslationCache.pageCount - 1) << 5))
    add(0, StateOffset.tlb)
    // The offset within the page in R10, which is larger than any where the page is another one.
    emit(0x4d, 0x89, 0xda)  // MOV R10, R11
    emit(0x4c, 0x2b, 0x50, UInt8(access.isWrite ? TLBOffset.writeTag : TLBOffset.readTag))  // SUB R10, [RAX + tag]
    if access.isAligned {
      emit(0x49, 0xf7, 0xc2)  // TEST R10, all but the offsets of aligned operands
      immediate(~(4096 - Int32(access.size)))
      jumpToSlowPath(unless: .equal)
    } else {
      emit(0x49, 0x81, 0xfa)  // CMP R10, the last offset
      immediate(4096 - Int32(access.size))
      jumpToSlowPath(unless: .belowOrEqual)
    }
    emit(0x4c, 0x03, 0x50, UInt8(TLBOffset.host))  // ADD R10, [RAX + host]
    if recordsPointer {
      if op.segment != Operation.absent {
        emit(0x4c, 0x89, 0xd8)  // MOV RAX, R11
        subtract(0, Int(op.segment))
        store(0, StateOffset.fpuDataPointer)
      } else {
        store(11, StateOffset.fpuDataPointer)
      }
      loadWord(StateOffset.selector(Int(op.segmentRegister)))
      store16(0, StateOffset.fpuDataSegment)
    }
    emit(0x4d, 0x89, 0xd3)  // MOV R11, R10
  }

  // MARK: Control

  enum Condition: UInt8 {
    case equal = 4
    case notEqual = 5
    case belowOrEqual = 6
  }

  /// Leaves to the slow path unless the condition holds.
  mutating func jumpToSlowPath(unless condition: Condition) {
    emit(0x0f, 0x80 | condition.rawValue ^ 1)
    slowJumps.append(bytes.count)
    immediate(0)
  }

  /// ADD RSI, sizeof(Operation); JMP [RSI]: the next operation's handler, which stands first in it.
  mutating func next() {
    emit(0x48, 0x83, 0xc6, UInt8(MemoryLayout<Operation>.stride), 0xff, 0x26)
  }

  /// The slow path, if anything leads there.
  mutating func finish() {
    guard !slowJumps.isEmpty else { return }
    for place in slowJumps {
      withUnsafeBytes(of: Int32(bytes.count - place - 4)) { bytes.replaceSubrange(place..<place + 4, with: $0) }
    }
    // JMP [state + fallback].
    bytes.append(0xff)
    state(4, StateOffset.nativeFallback)
  }
}

/// How a piece of code uses its memory operand.
struct NativeMemoryAccess {
  /// Bytes, 1 to 32.
  var size: Int
  var isWrite: Bool
  /// #GP(0) unless the address is a multiple of the size, a power of two.
  var isAligned: Bool
}
