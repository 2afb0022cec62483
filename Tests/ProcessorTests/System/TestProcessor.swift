import CHost
import CZydis
import Machine
import Memory
import Testing
import X86

@testable import Processor

/// A software processor over a few megabytes of memory, with descriptor tables, a TSS and identity-mapped page tables
/// that a test can change. Instructions are decoded and their semantic functions called directly.
final class TestProcessor {
  enum Mode: String, CaseIterable {
    case real, virtual8086, protected16, protected32, compatibility, long64
  }

  /// Where things are in memory.
  enum Layout {
    static let gdt: UInt64 = 0x1_0000
    static let ldt: UInt64 = 0x1_4000
    static let idt: UInt64 = 0x1_8000
    static let tss: UInt64 = 0x1_a000
    static let otherTSS: UInt64 = 0x1_c000
    static let pageTables: UInt64 = 0x2_0000
    static let code: UInt64 = 0x4000
    static let stack: UInt64 = 0x8000
    /// Tops of the stacks of rings 0 to 2 in the TSS, and of the interrupt stacks.
    static func innerStack(_ ring: Int) -> UInt64 { 0x3_0000 + UInt64(ring) * 0x1000 }
    static func interruptStack(_ number: Int) -> UInt64 { 0x3_8000 + UInt64(number) * 0x1000 }
    static let handler: UInt64 = 0x5000
    static let data: UInt64 = 0x6_0000
  }

  /// GDT entries: code and data of each ring, by mode. Ring r of a kind is at `first + 2 * r`.
  enum Entry {
    static let code32 = 2
    static let data32 = 3
    static let code64 = 10
    static let code16 = 18
    static let data16 = 19
    static let conforming32 = 26
    static let conforming64 = 27
    static let task = 30
    static let otherTask = 32
    static let localTable = 34
    static let scratch = 40
    static let scratch2 = 42
  }

  let memory: GuestMemory
  let cpu: UnsafeMutablePointer<CPUState>
  let processor: SoftwareProcessor
  private let attention: UnsafeMutablePointer<UInt32>
  private let bytes: UnsafeMutablePointer<UInt8>

  init(_ mode: Mode, ring: Int = 0, model: CPUModel = CPUModel(), flagRules: FlagRules = .host) {
    // A failure to get 2 MiB from the host ends the test run, and may.
    memory = try! GuestMemory(size: 2 << 20)
    let raw = UnsafeMutableRawPointer.allocate(byteCount: MemoryLayout<CPUState>.size, alignment: 64)
    raw.initializeMemory(as: UInt8.self, repeating: 0, count: MemoryLayout<CPUState>.size)
    cpu = raw.assumingMemoryBound(to: CPUState.self)
    attention = .allocate(capacity: 1)
    attention.initialize(to: 0)
    bytes = .allocate(capacity: 16)
    processor = SoftwareProcessor(
      cpu: cpu, memory: memory, model: model, codeWatch: CodeWatch(memory: memory).join(), flagRules: flagRules)
    cpu.pointee.engine.attention = UnsafePointer(attention)
    cpu.pointee.engine.context = Unmanaged.passUnretained(processor).toOpaque()
    cpu.pointee.powerUp(isBootstrap: true)
    enter(mode, ring: ring)
  }

  deinit {
    UnsafeMutableRawPointer(cpu).deallocate()
    attention.deallocate()
    bytes.deallocate()
  }

  // MARK: Memory

  func store<T: BitwiseCopyable>(_ value: T, _ address: UInt64) {
    precondition(memory.store(value, at: GuestPhysicalAddress(address)), "tests stay inside memory")
  }

  func place(_ code: [UInt8], at address: UInt64 = Layout.code) {
    for (index, byte) in code.enumerated() { store(byte, address + UInt64(index)) }
  }

  func load<T: BitwiseCopyable>(_ address: UInt64, as type: T.Type = T.self) -> T {
    memory.load(GuestPhysicalAddress(address), as: type)!
  }

  /// A code or data descriptor. `type` has S, DPL and P in bits 4 to 7, as the access byte has.
  static func segment(base: UInt64 = 0, limit: UInt64 = 0xf_ffff, access: UInt8, flags: UInt8 = 0xc) -> UInt64 {
    limit & 0xffff | (base & 0xff_ffff) << 16 | UInt64(access) << 40 | (limit >> 16 & 15) << 48 | UInt64(flags) << 52
      | (base >> 24 & 0xff) << 56
  }

  func setDescriptor(_ index: Int, _ raw: UInt64) { store(raw, Layout.gdt + UInt64(index) * 8) }
  func descriptor(_ index: Int) -> UInt64 { load(Layout.gdt + UInt64(index) * 8) }

  /// A gate as its lower 8 bytes have it.
  static func gate(_ selector: UInt16, _ offset: UInt64, access: UInt8, count: UInt8 = 0) -> UInt64 {
    offset & 0xffff | UInt64(selector) << 16 | UInt64(count) << 32 | UInt64(access) << 40 | (offset >> 16 & 0xffff)
      << 48
  }

  /// An IDT entry of the current mode.
  func setGate(
    _ vector: Int, _ selector: UInt16, _ offset: UInt64 = Layout.handler, access: UInt8 = 0x8e, stack: UInt8 = 0
  ) {
    let raw = Self.gate(selector, offset, access: access, count: stack)
    if cpu.pointee.efer & EFER.lma != 0 {
      store(raw, Layout.idt + UInt64(vector) * 16)
      store(offset >> 32, Layout.idt + UInt64(vector) * 16 + 8)
    } else {
      store(raw, Layout.idt + UInt64(vector) * 8)
    }
  }

  static func selector(_ index: Int, _ rpl: Int = 0) -> UInt16 { UInt16(index * 8 + rpl) }

  // MARK: Modes

  private func enter(_ mode: Mode, ring: Int) {
    writeDescriptors()
    cpu.pointee.gdtr = DescriptorTableState(base: Layout.gdt, limit: 64 * 8 - 1, reserved: 0)
    cpu.pointee.rip = Layout.code
    cpu.pointee.gpr.4 = Layout.stack
    cpu.pointee.cr0 = CR0.pe | CR0.et | CR0.ne | CR0.wp
    cpu.pointee.cr4 = 0
    switch mode {
    case .real:
      cpu.pointee.cr0 = CR0.et
      cpu.pointee.idtr = DescriptorTableState(base: 0, limit: 0x3ff, reserved: 0)
      cpu.pointee.segments.1.base = 0
      cpu.pointee.segments.1.selector = 0
      for vector in 0..<256 { store(UInt32(Layout.handler) + UInt32(vector), UInt64(vector) * 4) }
    case .compatibility, .long64: enterLongMode()
    default:
      cpu.pointee.idtr = DescriptorTableState(base: Layout.idt, limit: 256 * 8 - 1, reserved: 0)
      for vector in 0..<256 { setGate(vector, Self.selector(Entry.code32), Layout.handler + UInt64(vector)) }
      writeTask32(Layout.tss)
      setTask(Entry.task, Layout.tss, isBusy: true)
    }
    if mode == .virtual8086 {
      cpu.pointee.rflags |= RFLAGS.vm
      cpu.pointee.cpl = 3
      for number in 0..<6 { processor.loadParagraph(number, 0) }
    } else if mode != .real {
      setSegments(mode, ring: ring)
    }
    processor.stateChanged()
  }

  private func writeDescriptors() {
    for ring in 0..<4 {
      let dpl = UInt8(ring) << 5
      setDescriptor(Entry.code32 + 2 * ring, Self.segment(access: 0x9b | dpl))
      setDescriptor(Entry.data32 + 2 * ring, Self.segment(access: 0x93 | dpl))
      setDescriptor(Entry.code64 + 2 * ring, Self.segment(access: 0x9b | dpl, flags: 0xa))
      setDescriptor(Entry.code64 + 2 * ring + 1, Self.segment(access: 0x93 | dpl))
      setDescriptor(Entry.code16 + 2 * ring, Self.segment(limit: 0xffff, access: 0x9b | dpl, flags: 0))
      setDescriptor(Entry.data16 + 2 * ring, Self.segment(limit: 0xffff, access: 0x93 | dpl, flags: 0))
    }
    setDescriptor(Entry.conforming32, Self.segment(access: 0x9f))
    setDescriptor(Entry.conforming64, Self.segment(access: 0x9f, flags: 0xa))
    setDescriptor(Entry.localTable, Self.segment(base: Layout.ldt, limit: 0xff, access: 0x82, flags: 0))
  }

  private func setSegments(_ mode: Mode, ring: Int) {
    let code =
      switch mode {
      case .long64: Entry.code64
      case .protected16: Entry.code16
      default: Entry.code32
      }
    let data = mode == .protected16 ? Entry.data16 : Entry.data32
    setSegment(.cs, code + 2 * ring, rpl: ring)
    for register in [SegmentRegister.ss, .ds, .es, .fs, .gs] { setSegment(register, data + 2 * ring, rpl: ring) }
    cpu.pointee.cpl = UInt8(ring)
  }

  /// Loads a segment register from the GDT without checks.
  func setSegment(_ register: SegmentRegister, _ index: Int, rpl: Int) {
    let raw = Descriptor(raw: descriptor(index), address: 0)
    processor.setSegment(register.rawValue, raw.segment(selector: Self.selector(index, rpl)))
  }

  /// Points a TSS descriptor at `base`.
  func setTask(_ index: Int, _ base: UInt64, isBusy: Bool = false, is16: Bool = false, limit: UInt64 = 0xfff) {
    let type: UInt8 = (is16 ? 1 : 9) | (isBusy ? 2 : 0)
    setDescriptor(index, Self.segment(base: base, limit: limit, access: 0x80 | type, flags: 0))
    if isBusy {
      cpu.pointee.tr = SegmentState(
        base: base, limit: UInt32(limit), selector: Self.selector(index), attributes: UInt16(0x80 | type))
    }
  }

  /// A 32-bit TSS with stacks for the inner rings and an I/O map that begins behind it.
  func writeTask32(_ base: UInt64) {
    for ring in 0..<3 {
      store(UInt32(Layout.innerStack(ring)), base + 4 + UInt64(ring) * 8)
      store(UInt32(Self.selector(Entry.data32 + 2 * ring, ring)), base + 8 + UInt64(ring) * 8)
    }
    store(0x88 as UInt16, base + 0x66)
  }

  private func enterLongMode() {
    cpu.pointee.efer = EFER.lme | EFER.lma | EFER.sce | EFER.nxe
    cpu.pointee.cr4 = CR4.pae
    cpu.pointee.cr0 |= CR0.pg
    cpu.pointee.cr3 = Layout.pageTables
    // 2 MiB of identity, present, writable, user, by one large page.
    store(Layout.pageTables + 0x1000 | 7, Layout.pageTables)
    store(Layout.pageTables + 0x2000 | 7, Layout.pageTables + 0x1000)
    store(0xe7 as UInt64, Layout.pageTables + 0x2000)
    cpu.pointee.idtr = DescriptorTableState(base: Layout.idt, limit: 256 * 16 - 1, reserved: 0)
    for vector in 0..<256 { setGate(vector, Self.selector(Entry.code64), Layout.handler + UInt64(vector)) }
    for ring in 0..<3 { store(Layout.innerStack(ring), Layout.tss + 4 + UInt64(ring) * 8) }
    for number in 1...7 { store(Layout.interruptStack(number), Layout.tss + 28 + UInt64(number) * 8) }
    store(0x88 as UInt16, Layout.tss + 0x66)
    setTask(Entry.task, Layout.tss, isBusy: true)
  }

  // MARK: Running

  /// Decodes one instruction and runs its semantic function at RIP, as the engine does. Returns what it threw.
  @discardableResult
  func execute(_ code: UInt8...) -> GuestFault? { execute(code) }

  func execute(_ code: [UInt8]) -> GuestFault? {
    do throws(GuestFault) {
      let (op, row) = try decode(code)
      // A block of its own, all of which is charged.
      cpu.pointee.engine.block = nil
      cpu.pointee.engine.budget &-= 1
      let flow = try withUnsafePointer(to: op) { (pointer) throws(GuestFault) in try row.function(processor, pointer) }
      lastFlow = flow
      processor.replay.clear()
      processor.dropShadow(unlessCastAt: cpu.pointee.engine.budget)
      if flow == .next || flow == .serialize {
        cpu.pointee.rip = processor.truncateToCode(cpu.pointee.rip &+ UInt64(op.length))
      }
      return nil
    } catch {
      return error
    }
  }

  private(set) var lastFlow = Flow.next

  private func decode(_ code: [UInt8]) throws(GuestFault) -> (Operation, InstructionRow) {
    for (index, byte) in code.enumerated() { bytes[index] = byte }
    let mode = CodeMode(rawValue: cpu.pointee.engine.blockKey)
    let decoder = processor.decoder
    guard decoder.decode(bytes, count: code.count, mode: mode) == nil else { throw .invalidOpcode }
    let op = decoder.operands(offset: 0, number: 0)
    guard processor.model.offers(UnsafePointer(decoder.instruction)),
      let number = InstructionTable.rowNumber(for: decoder.instruction.pointee.mnemonic, op)
    else { throw .invalidOpcode }
    let row = InstructionTable.rows[Int(number)]
    if row.options.contains(.privileged), mode.contains(.unprivileged) { throw .generalProtection() }
    return (op, row)
  }

  /// Runs one instruction and delivers its fault.
  func run(_ code: UInt8...) {
    if let fault = execute(code) { processor.deliver(fault) }
  }

  /// The vector whose handler RIP is in, if it is one of the handlers that the set-up made.
  var handledVector: Int? {
    let offset = cpu.pointee.rip &- Layout.handler
    return offset < 256 ? Int(offset) : nil
  }

  /// Quadwords, or doublewords outside IA-32e mode, from the stack pointer on.
  func stack(_ number: Int, size: Int = 8) -> UInt64 {
    let address = cpu.pointee.gpr.4 + UInt64(number * size)
    switch size {
    case 2: return UInt64(load(address, as: UInt16.self))
    case 4: return UInt64(load(address, as: UInt32.self))
    default: return load(address)
    }
  }
}
