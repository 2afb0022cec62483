import CHost
import CZydis
import X86

/// Instructions whose memory accesses depend on data: MASKMOVQ, MASKMOVDQU, VMASKMOV, VPMASKMOV and the gathers.
///
/// They go element by element through the accessors of guest memory. Elements that are masked off are not accessed and do
/// not fault.
enum MaskedMoves {
  static let rows: [InstructionRow] = [
    InstructionRow(ZYDIS_MNEMONIC_MASKMOVQ, maskMoveMMX),
    InstructionRow(ZYDIS_MNEMONIC_MASKMOVDQU, maskMoveXMM),
    InstructionRow(ZYDIS_MNEMONIC_VMASKMOVDQU, maskMoveXMM),
    InstructionRow(ZYDIS_MNEMONIC_VMASKMOVPS, maskMove), InstructionRow(ZYDIS_MNEMONIC_VMASKMOVPD, maskMove),
    InstructionRow(ZYDIS_MNEMONIC_VPMASKMOVD, maskMove), InstructionRow(ZYDIS_MNEMONIC_VPMASKMOVQ, maskMove),
    InstructionRow(ZYDIS_MNEMONIC_VGATHERDPS, gather), InstructionRow(ZYDIS_MNEMONIC_VGATHERDPD, gather),
    InstructionRow(ZYDIS_MNEMONIC_VGATHERQPS, gather), InstructionRow(ZYDIS_MNEMONIC_VGATHERQPD, gather),
    InstructionRow(ZYDIS_MNEMONIC_VPGATHERDD, gather), InstructionRow(ZYDIS_MNEMONIC_VPGATHERDQ, gather),
    InstructionRow(ZYDIS_MNEMONIC_VPGATHERQD, gather), InstructionRow(ZYDIS_MNEMONIC_VPGATHERQQ, gather),
  ]

  /// What the semantic functions need, in `Operation.detail`.
  private struct Shape {
    var rawValue: UInt16

    /// Register that is written, or whose elements are stored.
    var data: Int {
      get { Int(rawValue & 15) }
      set { rawValue = rawValue & ~15 | UInt16(newValue & 15) }
    }
    var mask: Int {
      get { Int(rawValue >> 4 & 15) }
      set { rawValue = rawValue & ~0xf0 | UInt16(newValue & 15) << 4 }
    }
    /// Register of a gather's indices.
    var index: Int {
      get { Int(rawValue >> 8 & 15) }
      set { rawValue = rawValue & ~0xf00 | UInt16(newValue & 15) << 8 }
    }
    /// Elements of 8 bytes, otherwise of 4.
    var hasWideElements: Bool {
      get { self[12] }
      set { self[12] = newValue }
    }
    /// Indices of 8 bytes, otherwise of 4.
    var hasWideIndices: Bool {
      get { self[13] }
      set { self[13] = newValue }
    }
    /// YMM registers.
    var isWide: Bool {
      get { self[14] }
      set { self[14] = newValue }
    }
    var isStore: Bool {
      get { self[15] }
      set { self[15] = newValue }
    }

    private subscript(_ bit: Int) -> Bool {
      get { rawValue >> UInt16(bit) & 1 != 0 }
      set { rawValue = rawValue & ~(1 << UInt16(bit)) | (newValue ? 1 : 0) << UInt16(bit) }
    }
  }

  // MARK: Preparing

  /// Sets the fields of `operation` that the semantic functions need, and its row. False if the instruction is none of
  /// these.
  static func prepare(
    _ instruction: UnsafePointer<ZydisDecodedInstruction>, _ operands: UnsafePointer<ZydisDecodedOperand>,
    _ operation: inout Operation
  ) -> Bool {
    let mnemonic = instruction.pointee.mnemonic
    let traits = mnemonics[Int(mnemonic.rawValue)]
    guard traits.contains(.isOurs), let row = InstructionTable.rowNumber(for: mnemonic, operation) else { return false }
    var shape = Shape(rawValue: 0)
    shape.hasWideElements = traits.contains(.hasWideElements)
    shape.hasWideIndices = traits.contains(.hasWideIndices)
    var registers: [Int] = []
    for index in 0..<Int(instruction.pointee.operand_count) {
      let operand = operands + index
      switch operand.pointee.type {
      case ZYDIS_OPERAND_TYPE_MEMORY:
        shape.isStore = operand.pointee.isWritten
        if operand.pointee.mem.type == ZYDIS_MEMOP_TYPE_VSIB {
          operation.index = Operation.absent
          shape.index = Int(ZydisRegisterGetId(operand.pointee.mem.index))
          shape.isWide = shape.isWide || ZydisRegisterGetClass(operand.pointee.mem.index) == ZYDIS_REGCLASS_YMM
        } else if operand.pointee.visibility != ZYDIS_OPERAND_VISIBILITY_EXPLICIT {
          setImplicitMemory(operand, &operation)
        }
      case ZYDIS_OPERAND_TYPE_REGISTER:
        registers.append(Int(ZydisRegisterGetId(operand.pointee.reg.value)))
        shape.isWide = shape.isWide || ZydisRegisterGetClass(operand.pointee.reg.value) == ZYDIS_REGCLASS_YMM
      default: break
      }
    }
    // VMASKMOV to memory has its mask before its data.
    let isReversed = shape.isStore && operation.flags & OperationFlags.memoryFirst.rawValue != 0
    shape.data = registers[isReversed ? 1 : 0]
    shape.mask = registers[isReversed ? 0 : 1]
    operation.detail = shape.rawValue
    operation.semantic = row
    if traits.contains(.isGather),
      shape.data == shape.mask || shape.data == shape.index || shape.mask == shape.index
    {
      operation.semantic = PseudoInstructions.invalidOpcode
    }
    return true
  }

  /// [rDI] of the older masked moves, whose segment can be overridden.
  private static func setImplicitMemory(_ operand: UnsafePointer<ZydisDecodedOperand>, _ operation: inout Operation) {
    operation.base = RegisterNumbers.number(of: operand.pointee.mem.base)
    operation.index = Operation.absent
    operation.displacement = 0
    operation.segmentRegister = RegisterNumbers.number(of: operand.pointee.mem.segment)
  }

  private struct Traits: OptionSet {
    let rawValue: UInt8
    static let isOurs = Traits(rawValue: 1)
    static let isGather = Traits(rawValue: 2)
    static let hasWideElements = Traits(rawValue: 4)
    static let hasWideIndices = Traits(rawValue: 8)
  }

  private static let mnemonics: [Traits] = {
    var table = [Traits](repeating: [], count: Int(ZYDIS_MNEMONIC_MAX_VALUE.rawValue) + 1)
    for row in rows { table[Int(row.mnemonic.rawValue)] = .isOurs }
    for mnemonic in [ZYDIS_MNEMONIC_VMASKMOVPD, ZYDIS_MNEMONIC_VPMASKMOVQ] {
      table[Int(mnemonic.rawValue)].insert(.hasWideElements)
    }
    let gathers: [(ZydisMnemonic, Traits)] = [
      (ZYDIS_MNEMONIC_VGATHERDPS, []), (ZYDIS_MNEMONIC_VGATHERDPD, .hasWideElements),
      (ZYDIS_MNEMONIC_VGATHERQPS, .hasWideIndices), (ZYDIS_MNEMONIC_VGATHERQPD, [.hasWideElements, .hasWideIndices]),
      (ZYDIS_MNEMONIC_VPGATHERDD, []), (ZYDIS_MNEMONIC_VPGATHERDQ, .hasWideElements),
      (ZYDIS_MNEMONIC_VPGATHERQD, .hasWideIndices), (ZYDIS_MNEMONIC_VPGATHERQQ, [.hasWideElements, .hasWideIndices]),
    ]
    for (mnemonic, traits) in gathers { table[Int(mnemonic.rawValue)].formUnion(traits.union(.isGather)) }
    return table
  }()

  // MARK: MASKMOVQ, MASKMOVDQU

  static func maskMoveMMX(_ processor: SoftwareProcessor, _ op: Op) throws(GuestFault) -> Flow {
    processor.takeX87()
    defer { processor.endIgnoring() }
    if let flow = try processor.waitForX87(op) { return flow }
    processor.storeX87()
    // MMn is physical register n; the image has them in stack order.
    let top = Int(nativeX87Status() >> 11 & 7)
    func register(_ number: Int) -> UnsafeRawPointer {
      UnsafeRawPointer(processor.stateArea + XSaveArea.st + (number - top) & 7 * 16)
    }
    let shape = Shape(rawValue: op.pointee.detail)
    try storeMasked(processor, op, register(shape.data), mask: register(shape.mask), count: 8)
    nativeX87EnterMMX()
    return .next
  }

  static func maskMoveXMM(_ processor: SoftwareProcessor, _ op: Op) throws(GuestFault) -> Flow {
    let shape = Shape(rawValue: op.pointee.detail)
    try storeMasked(
      processor, op, processor.vector(shape.data, 0), mask: processor.vector(shape.mask, 0), count: 16)
    return .next
  }

  /// Stores the bytes whose mask bytes are negative: all of them or none.
  private static func storeMasked(
    _ processor: SoftwareProcessor, _ op: Op, _ data: UnsafeRawPointer, mask: UnsafeRawPointer, count: Int
  ) throws(GuestFault) {
    for isStoring in [false, true] {
      for index in 0..<count where mask.load(fromByteOffset: index, as: Int8.self) < 0 {
        let offset = (processor.effectiveAddress(op) &+ UInt64(index)) & op.pointee.addressMask
        let address = try processor.linearAddress(
          segment: Int(op.pointee.segmentRegister), offset: offset, count: 1, for: .write)
        if isStoring {
          try processor.store(data.load(fromByteOffset: index, as: UInt8.self), at: address)
        } else {
          try processor.checkWritable(address, count: 1)
        }
      }
    }
  }

  // MARK: VMASKMOV, VPMASKMOV

  static func maskMove(_ processor: SoftwareProcessor, _ op: Op) throws(GuestFault) -> Flow {
    let shape = Shape(rawValue: op.pointee.detail)
    if shape.hasWideElements {
      try maskMove(UInt64.self, processor, op, shape)
    } else {
      try maskMove(UInt32.self, processor, op, shape)
    }
    return .next
  }

  private static func maskMove<T: FixedWidthInteger & BitwiseCopyable>(
    _: T.Type, _ processor: SoftwareProcessor, _ op: Op, _ shape: Shape
  ) throws(GuestFault) {
    let size = MemoryLayout<T>.size
    let length = shape.isWide ? 32 : 16
    func address(_ place: Int) throws(GuestFault) -> UInt64 {
      try processor.linearAddress(
        segment: Int(op.pointee.segmentRegister),
        offset: (processor.effectiveAddress(op) &+ UInt64(place)) & op.pointee.addressMask, count: size,
        for: shape.isStore ? .write : .read)
    }
    let places = stride(from: 0, to: length, by: size).filter { place in
      processor.vector(shape.mask, place).load(as: T.self).leadingZeroBitCount == 0
    }
    if shape.isStore {
      for place in places { try processor.checkWritable(address(place), count: size) }
      for place in places {
        try processor.store(processor.vector(shape.data, place).load(as: T.self), at: address(place))
      }
    } else {
      var loaded: [T] = []
      for place in places { loaded.append(try processor.load(address(place))) }
      processor.clearVector(shape.data)
      for (place, value) in zip(places, loaded) {
        processor.vector(shape.data, place).storeBytes(of: value, as: T.self)
      }
    }
  }

  // MARK: Gathers

  static func gather(_ processor: SoftwareProcessor, _ op: Op) throws(GuestFault) -> Flow {
    let shape = Shape(rawValue: op.pointee.detail)
    if shape.hasWideElements {
      try gather(UInt64.self, processor, op, shape)
    } else {
      try gather(UInt32.self, processor, op, shape)
    }
    return .next
  }

  /// Loads in order from the lowest element. A fault leaves what was loaded before it, with those elements' masks
  /// cleared, so that the instruction goes on there when it is executed again (SDM vol. 2C, VGATHERDPS). An exit does
  /// not: the answers are replayed from the start.
  private static func gather<T: FixedWidthInteger & BitwiseCopyable>(
    _: T.Type, _ processor: SoftwareProcessor, _ op: Op, _ shape: Shape
  ) throws(GuestFault) {
    let size = MemoryLayout<T>.size
    let indexSize = shape.hasWideIndices ? 8 : 4
    let count = (shape.isWide ? 32 : 16) / max(size, indexSize)
    var loaded: [(place: Int, value: T)] = []
    var fault: GuestFault?
    for number in 0..<count {
      let place = number * size
      guard processor.vector(shape.mask, place).load(as: T.self).leadingZeroBitCount == 0 else { continue }
      let index = processor.vector(shape.index, number * indexSize)
      let value =
        shape.hasWideIndices ? index.load(as: UInt64.self) : UInt64(truncatingIfNeeded: index.load(as: Int32.self))
      let offset = (processor.effectiveAddress(op) &+ value &<< UInt64(op.pointee.scale)) & op.pointee.addressMask
      do throws(GuestFault) {
        let address = try processor.linearAddress(
          segment: Int(op.pointee.segmentRegister), offset: offset, count: size, for: .read)
        loaded.append((place, try processor.load(address)))
      } catch {
        if error == .exit { throw error }
        fault = error
        break
      }
    }
    for element in loaded {
      processor.vector(shape.data, element.place).storeBytes(of: element.value, as: T.self)
      processor.vector(shape.mask, element.place).storeBytes(of: 0, as: T.self)
    }
    if let fault { throw fault }
    processor.clearVector(shape.mask)
    for place in stride(from: count * size, to: 32, by: 4) {
      processor.vector(shape.data, place).storeBytes(of: 0, as: UInt32.self)
    }
  }
}

extension SoftwareProcessor {
  /// Byte `place` (0 to 31) of a YMM register; valid to the end of its half.
  fileprivate func vector(_ number: Int, _ place: Int) -> UnsafeMutableRawPointer {
    let offset = place < 16 ? StateOffset.xmm(number) : StateOffset.ymmHigh(number) - 16
    return UnsafeMutableRawPointer(cpu) + offset + place
  }

  fileprivate func clearVector(_ number: Int) {
    for place in stride(from: 0, to: 32, by: 8) { vector(number, place).storeBytes(of: 0, as: UInt64.self) }
  }
}
