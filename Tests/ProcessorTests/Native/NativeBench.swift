import CHost
import CZydis
import Memory
import Testing
import X86

@testable import Processor

/// A processor in 64-bit mode without paging that runs single instructions: what the native unit's tests stand on.
final class NativeBench {
  /// Where code, and the page-aligned data of memory operands, are in guest memory.
  static let code: UInt64 = 0x10_0000
  static let data: UInt64 = 0x20_0000
  static let memorySize: UInt64 = 4 << 20

  let cpu: UnsafeMutablePointer<CPUState>
  let memory: GuestMemory
  let processor: SoftwareProcessor
  private let attention: UnsafeMutablePointer<UInt32>
  private var codeOffset: UInt64 = 0

  enum Mode {
    case long64, flat32, paragraphs16
  }

  init(_ mode: Mode = .long64) throws {
    let storage = UnsafeMutableRawPointer.allocate(byteCount: MemoryLayout<CPUState>.size, alignment: 64)
    storage.initializeMemory(as: UInt8.self, repeating: 0, count: MemoryLayout<CPUState>.size)
    cpu = storage.assumingMemoryBound(to: CPUState.self)
    attention = .allocate(capacity: 1)
    attention.initialize(to: 0)
    memory = try GuestMemory(size: Self.memorySize)
    var model = CPUModel(level: .v3)
    for feature in [.vaes, .vpclmulqdq, .xsaves] as [CPUFeature] { model.features.insert(feature) }
    processor = SoftwareProcessor(
      cpu: cpu, memory: memory, model: model, codeWatch: CodeWatch(memory: memory).join())
    cpu.pointee.engine.context = Unmanaged.passUnretained(processor).toOpaque()
    cpu.pointee.engine.attention = UnsafePointer(attention)
    cpu.pointee.rflags = RFLAGS.fixed
    cpu.pointee.cr4 = CR4.osfxsr | CR4.osxsave | CR4.osxmmexcpt
    cpu.pointee.xcr0 = 7
    setMode(mode)
    state.storeBytes(of: 0x37f, as: UInt16.self)
    state.storeBytes(of: 0x1f80, toByteOffset: 24, as: UInt32.self)
    // Native code is prepared only once something has run.
    try processor.native.enter(cpu)
    processor.native.leave(cpu)
  }

  deinit {
    UnsafeMutableRawPointer(cpu).deallocate()
    attention.deallocate()
  }

  private func setMode(_ mode: Mode) {
    let data = SegmentAttributes.present | SegmentAttributes.nonSystem | SegmentAttributes.readWrite
    let wide = mode == .flat32 ? SegmentAttributes.big : 0
    let limit: UInt32 = mode == .paragraphs16 ? 0xffff : 0xffff_ffff
    for number in 0..<6 {
      processor.setSegment(
        number, SegmentState(base: 0, limit: limit, selector: UInt16(number * 8), attributes: data | wide))
    }
    let long = mode == .long64 ? SegmentAttributes.long : wide
    processor.setSegment(
      1, SegmentState(base: 0, limit: limit, selector: 0x10, attributes: data | SegmentAttributes.code | long))
    cpu.pointee.cr0 = CR0.ne | (mode == .paragraphs16 ? 0 : CR0.pe)
    cpu.pointee.efer = mode == .long64 ? EFER.lma | EFER.lme : 0
    processor.modeChanged()
  }

  /// The XSAVE area of the processor's state.
  var state: UnsafeMutableRawPointer { processor.stateArea }

  func vector(_ number: Int) -> SIMD2<UInt64> { state.load(fromByteOffset: 160 + 16 * number, as: SIMD2<UInt64>.self) }

  func setVector(_ number: Int, _ value: SIMD2<UInt64>) {
    state.storeBytes(of: value, toByteOffset: 160 + 16 * number, as: SIMD2<UInt64>.self)
  }

  func setVector(_ number: Int, _ value: SIMD2<Double>) {
    setVector(number, unsafeBitCast(value, to: SIMD2<UInt64>.self))
  }

  /// Host address of guest memory.
  func host(_ address: UInt64) -> UnsafeMutableRawPointer { memory.base + Int(address) }

  /// The block of one instruction, followed by an operation that stops the chain.
  func prepare(_ bytes: [UInt8]) throws -> UnsafeMutablePointer<Operation> {
    let isReal = processor.usesParagraphs
    if codeOffset >= (isReal ? 0x8000 : 0x8_0000) {
      codeOffset = 0
      processor.blocks.removeAll()
    }
    let address = (isReal ? 0x1000 : Self.code) + codeOffset
    codeOffset += 32
    let code = host(address).assumingMemoryBound(to: UInt8.self)
    for (index, byte) in (bytes + [0x0f, 0x0b]).enumerated() { code[index] = byte }
    cpu.pointee.rip = address
    cpu.pointee.engine.stopReason = 0
    cpu.pointee.engine.budget = 1 << 40
    processor.modeChanged()
    let block = try #require(processor.currentBlock())
    cpu.pointee.engine.block = block
    block.pointee.operations[1].handler = { cpu, _, a, b, result, kind in
      cpu.pointee.engine.flagA = a
      cpu.pointee.engine.flagB = b
      cpu.pointee.engine.flagResult = result
      cpu.pointee.engine.flagKind = kind
    }
    return block.pointee.operations
  }

  /// Runs one instruction and returns the fault that it raised.
  @discardableResult
  func run(_ bytes: [UInt8]) throws -> GuestFault? {
    let operations = try prepare(bytes)
    try processor.native.enter(cpu)
    step(operations)
    processor.native.leave(cpu)
    return fault
  }

  /// Runs instructions one after another without leaving the host's units between them, up to the first fault.
  @discardableResult
  func run(sequence: [[UInt8]]) throws -> GuestFault? {
    try processor.native.enter(cpu)
    defer { processor.native.leave(cpu) }
    for bytes in sequence {
      step(try prepare(bytes))
      if let fault { return fault }
    }
    return nil
  }

  func step(_ operations: UnsafeMutablePointer<Operation>) {
    // Of what is stepped, faults are recorded and not delivered.
    cpu.pointee.engine.blockKey |= CodeMode.stepping.rawValue
    let flags = cpu.pointee.rflags
    operations.pointee.handler(cpu, operations, 0, 0, flags, LazyFlags.materialized)
    let engine = cpu.pointee.engine
    let arithmetic = LazyFlags.materialize(engine.flagA, engine.flagB, engine.flagResult, engine.flagKind)
    cpu.pointee.rflags = cpu.pointee.rflags & ~RFLAGS.arithmetic | arithmetic
  }

  var fault: GuestFault? {
    cpu.pointee.engine.stopReason & StopReason.fault != 0 ? processor.fault : nil
  }
}
