import CHost

/// Byte offsets in `CPUState` that generated code uses.
enum StateOffset {
  static let rip = offset(\.rip)
  static let rflags = offset(\.rflags)
  static let tlb = offset(\.engine.tlb)
  static let blockCache = offset(\.engine.blockCache)
  static let block = offset(\.engine.block)
  static let budget = offset(\.engine.budget)
  static let translationEpoch = offset(\.engine.translationEpoch)
  static let shadowBudget = offset(\.engine.shadowBudget)
  static let interruptShadow = offset(\.interruptShadow)
  static let nmiPending = offset(\.nmiPending)
  static let interruptPending = offset(\.interruptPending)
  static let wantsInterruptWindow = offset(\.wantsInterruptWindow)
  static let nmiBlocked = offset(\.nmiBlocked)
  static let gdtrBase = offset(\.gdtr.base)
  static let gdtrLimit = offset(\.gdtr.limit)
  static let efer = offset(\.efer)
  static let star = offset(\.star)
  static let lstar = offset(\.lstar)
  static let fmask = offset(\.fmask)
  static let cpl = offset(\.cpl)
  static let blockKey = offset(\.engine.blockKey)
  static let cr4 = offset(\.cr4)
  static let intercepts = offset(\.intercepts)
  static let tscOffset = offset(\.tscOffset)
  static let tscAux = offset(\.tscAux)
  static let kernelGSBase = offset(\.kernelGSBase)
  static let nativeFallback = offset(\.engine.nativeFallback)
  static let x87Residence = offset(\.engine.x87Residence)
  static let fpuInstructionPointer = offset(\.fpuInstructionPointer)
  static let fpuDataPointer = offset(\.fpuDataPointer)
  static let fpuOpcode = offset(\.fpuOpcode)
  static let fpuCodeSegment = offset(\.fpuCodeSegment)
  static let fpuDataSegment = offset(\.fpuDataSegment)
  static let scratch = offset(\.engine.scratch)
  static let xsave = offset(\.xsave)

  /// The low half of a vector register.
  static func xmm(_ number: Int) -> Int { xsave + XSaveArea.xmm + number * 16 }
  /// The high half of a vector register.
  static func ymmHigh(_ number: Int) -> Int { xsave + XSaveArea.ymmHigh + number * 16 }
  /// Base of a segment register.
  static func base(_ number: Int) -> Int { offset(\.segments) + number * MemoryLayout<SegmentState>.stride }
  /// Selector of a segment register.
  static func selector(_ number: Int) -> Int {
    firstSelector + number * MemoryLayout<SegmentState>.stride
  }
  private static let firstSelector = offset(\.segments) + MemoryLayout<SegmentState>.offset(of: \.selector)!

  private static func offset<T>(_ field: KeyPath<CPUState, T>) -> Int {
    guard let offset = MemoryLayout<CPUState>.offset(of: field) else {
      preconditionFailure("CPUState's fields are stored")
    }
    return offset
  }
}

/// Byte offsets in `TLBEntry`, whose size the shift of a page number to its entry's place assumes.
enum TLBOffset {
  static let readTag = MemoryLayout<TLBEntry>.offset(of: \.readTag)!
  static let writeTag = MemoryLayout<TLBEntry>.offset(of: \.writeTag)!
  static let host = MemoryLayout<TLBEntry>.offset(of: \.host)!
}

/// Byte offsets in `Operation`.
enum OperationOffset {
  static let semantic = MemoryLayout<Operation>.offset(of: \.semantic)!
  static let number = MemoryLayout<Operation>.offset(of: \.number)!
  static let displacement = MemoryLayout<Operation>.offset(of: \.displacement)!
  static let offset = MemoryLayout<Operation>.offset(of: \.offset)!
}
