import CHost
import CSilicon
import Glibc
import Machine
import Memory
import Processor
import X86

/// The interpreter's side: user-mode code at the same linear addresses as in the fenced process, under a kernel of HLT
/// instructions. Each exception's handler is one, so the engine stops there and the frame on the kernel's stack tells
/// what the user program would have been told.
final class GuestMachine {
  private let memory: GuestMemory
  private let cpu: UnsafeMutablePointer<CPUState>
  private let engine: SoftwareEngine

  /// Guest-physical addresses. The kernel sees all of them from `kernelBase` on.
  private enum Place {
    static let directory4: UInt64 = 0x1000
    static let userDirectory3: UInt64 = 0x2000
    static let userDirectory2: UInt64 = 0x3000
    static let userTable: UInt64 = 0x4000
    static let kernelDirectory3: UInt64 = 0x5000
    static let kernelDirectory2: UInt64 = 0x6000
    static let descriptors: UInt64 = 0x7000
    static let interrupts: UInt64 = 0x8000
    static let handlers: UInt64 = 0x9000
    static let taskState: UInt64 = 0xa000
    static let kernelStack: UInt64 = 0xd000
    static let data = 0x10000
    static let constants = 0x14000
    static let code = 0x18000
  }

  private static let kernelBase: UInt64 = 0xffff_8000_0000_0000
  private static let kernelCode: UInt16 = 8

  init(model: CPUModel, translation: TranslationOptions? = nil) throws {
    memory = try GuestMemory(size: 2 << 20)
    let size = MemoryLayout<CPUState>.size
    let raw = UnsafeMutableRawPointer.allocate(byteCount: size, alignment: 64)
    raw.initializeMemory(as: UInt8.self, repeating: 0, count: size)
    cpu = raw.bindMemory(to: CPUState.self, capacity: 1)
    engine = SoftwareEngine(memory: memory, model: model, translation: translation)
    mapPages()
    makeKernel()
    setControl()
    engine.stateChanged(&cpu.pointee)
  }

  deinit { UnsafeMutableRawPointer(cpu).deallocate() }

  // MARK: Setting up

  private func put<T: BitwiseCopyable>(_ value: T, at address: UInt64) {
    precondition(memory.store(value, at: GuestPhysicalAddress(address)), "the machine's tables are in its memory")
  }

  private func mapPages() {
    let user: UInt64 = 7
    put(Place.userDirectory3 | user, at: Place.directory4)
    put(Place.userDirectory2 | user, at: Place.userDirectory3)
    put(Place.userTable | user, at: Place.userDirectory2 + UInt64(SiliconDataAddress >> 21 * 8))
    func map(_ linear: Int, _ physical: Int, _ size: Int, _ bits: UInt64) {
      for offset in stride(from: 0, to: size, by: 4096) {
        put(UInt64(physical + offset) | bits, at: Place.userTable + UInt64(((linear + offset) >> 12 & 511) * 8))
      }
    }
    let notExecutable: UInt64 = 1 << 63
    map(SiliconDataAddress, Place.data, SiliconDataSize, user | notExecutable)
    map(SiliconLastAddress, Place.data, SiliconDataSize / 2, user | notExecutable)
    map(SiliconFirstAddress, Place.data + SiliconDataSize / 2, SiliconDataSize / 2, user | notExecutable)
    map(SiliconConstantAddress, Place.constants, SiliconConstantSize, 5 | notExecutable)
    map(SiliconCodeAddress, Place.code, SiliconCodeSize, user)
    for index in 0..<SiliconConstantSize {
      put(UInt8(truncatingIfNeeded: index * 7 + 3), at: UInt64(Place.constants + index))
    }
    put(Place.kernelDirectory3 | 3, at: Place.directory4 + 256 * 8)
    put(Place.kernelDirectory2 | 3, at: Place.kernelDirectory3)
    put(0x83 as UInt64, at: Place.kernelDirectory2)
  }

  private func makeKernel() {
    put(0x00af_9b00_0000_ffff as UInt64, at: Place.descriptors + UInt64(Self.kernelCode))
    for vector in 0..<256 as Range<UInt64> {
      let target = Self.kernelBase + Place.handlers + vector
      // A present interrupt gate of DPL 3.
      put(
        target & 0xffff | UInt64(Self.kernelCode) << 16 | 0xee << 40 | (target >> 16 & 0xffff) << 48,
        at: Place.interrupts + vector * 16)
      put(target >> 32, at: Place.interrupts + vector * 16 + 8)
      put(0xf4 as UInt8, at: Place.handlers + vector)
    }
    put(Self.kernelBase + Place.kernelStack, at: Place.taskState + 4)
    // No map of permitted ports.
    put(0xffff as UInt16, at: Place.taskState + 0x66)
  }

  private func setControl() {
    cpu.pointee.cr0 = CR0.pe | CR0.mp | CR0.et | CR0.ne | CR0.wp | CR0.am | CR0.pg
    cpu.pointee.cr3 = Place.directory4
    cpu.pointee.cr4 = CR4.pae | CR4.osfxsr | CR4.osxmmexcpt | CR4.osxsave | CR4.fsgsbase | CR4.umip
    cpu.pointee.efer = EFER.sce | EFER.lme | EFER.lma | EFER.nxe
    cpu.pointee.xcr0 = 7
    cpu.pointee.gdtr = DescriptorTableState(base: Self.kernelBase + Place.descriptors, limit: 0xff, reserved: 0)
    cpu.pointee.idtr = DescriptorTableState(base: Self.kernelBase + Place.interrupts, limit: 0xfff, reserved: 0)
    cpu.pointee.tr = SegmentState(
      base: Self.kernelBase + Place.taskState, limit: 0x67, selector: 0x40, attributes: 0x8b)
    cpu.pointee.dr6 = 0xffff_0ff0
    cpu.pointee.dr7 = 0x400
  }

  // MARK: Running

  /// Puts the code of a batch into its slots.
  func load(_ cases: UnsafeMutablePointer<SiliconCase>, count: Int) {
    let code = memory.base + Place.code
    memset(code, 0xcc, SiliconCodeSize)
    for index in 0..<count {
      let one = cases + index
      let offset = Int(one.pointee.before.rip) - SiliconCodeAddress
      withUnsafeBytes(of: &one.pointee.code) { _ = memcpy(code + offset, $0.baseAddress!, Int(one.pointee.length)) }
    }
    engine.stateChanged(&cpu.pointee)
  }

  /// Runs a case and leaves the result in `after`. The vector is `SiliconEndless` for code that does not end.
  func run(_ one: UnsafeMutablePointer<SiliconCase>, _ after: UnsafeMutablePointer<SiliconState>) throws {
    enter(one)
    let exit = try engine.run(&cpu.pointee, budget: 100_000)
    let handler = cpu.pointee.rip &- 1 &- Self.kernelBase &- Place.handlers
    guard exit == .halt, handler < 256 else {
      after.pointee.vector = UInt32(SiliconEndless)
      after.pointee.errorCode = 0
      leave(one, after)
      return
    }
    after.pointee.vector = UInt32(handler)
    let hasCode = ExceptionVector(rawValue: UInt8(handler))?.pushesErrorCode ?? false
    let frame = memory.base + Int(cpu.pointee.gpr.4 &- Self.kernelBase) + (hasCode ? 8 : 0)
    after.pointee.errorCode = hasCode ? frame.load(fromByteOffset: -8, as: UInt32.self) : 0
    after.pointee.faultAddress = cpu.pointee.cr2
    cpu.pointee.rip = frame.load(as: UInt64.self)
    cpu.pointee.rflags = frame.load(fromByteOffset: 16, as: UInt64.self)
    cpu.pointee.gpr.4 = frame.load(fromByteOffset: 24, as: UInt64.self)
    leave(one, after)
  }

  private func enter(_ one: UnsafeMutablePointer<SiliconCase>) {
    let mode = one.pointee.mode
    let state = CaseState(before: one)
    memcpy(cpu, state.pointer, 128)
    cpu.pointee.rip = state.rip &- mode.segmentBase
    cpu.pointee.rflags = state.rflags
    cpu.pointee.activity = .running
    cpu.pointee.pendingDebug = 0
    cpu.pointee.cpl = 3
    setSegments(mode, fs: state.fsBase, gs: state.gsBase)
    withUnsafeMutableBytes(of: &cpu.pointee.xsave) { area in
      memcpy(area.baseAddress!, state.legacy, 416)
      area.storeBytes(of: 7, toByteOffset: 512, as: UInt64.self)
      memcpy(area.baseAddress! + 576, state.upper, 256)
    }
    cpu.pointee.fpuInstructionPointer = 0
    cpu.pointee.fpuDataPointer = 0
    cpu.pointee.fpuOpcode = 0
    cpu.pointee.fpuCodeSegment = 0
    cpu.pointee.fpuDataSegment = 0
    memcpy(memory.base + Place.data, state.data, SiliconDataSize)
  }

  private func leave(_ one: UnsafeMutablePointer<SiliconCase>, _ after: UnsafeMutablePointer<SiliconState>) {
    let state = CaseState(after)
    memcpy(state.pointer, cpu, 128)
    state.rip = cpu.pointee.rip &+ one.pointee.mode.segmentBase
    state.rflags = cpu.pointee.rflags
    state.fsBase = cpu.pointee.segments.4.base
    state.gsBase = cpu.pointee.segments.5.base
    withUnsafeMutableBytes(of: &cpu.pointee.xsave) { area in
      memcpy(state.legacy, area.baseAddress!, 416)
      memcpy(state.upper, area.baseAddress! + 576, 256)
    }
    memcpy(state.data, memory.base + Place.data, SiliconDataSize)
  }

  /// Flat user segments with Linux's selectors; in 16-bit mode those of the process's local table.
  private func setSegments(_ mode: SiliconMode, fs: UInt64, gs: UInt64) {
    let code: SegmentState
    var data = SegmentState(base: 0, limit: 0xffff_ffff, selector: 0x2b, attributes: 0xc0f3)
    switch mode {
    case .long: code = SegmentState(base: 0, limit: 0xffff_ffff, selector: 0x33, attributes: 0xa0fb)
    case .protected: code = SegmentState(base: 0, limit: 0xffff_ffff, selector: 0x23, attributes: 0xc0fb)
    case .protected16:
      code = SegmentState(base: mode.segmentBase, limit: 0xffff, selector: 0x07, attributes: 0x00fb)
      data = SegmentState(base: mode.segmentBase, limit: 0xffff, selector: 0x0f, attributes: 0x00f3)
    }
    let unusable = SegmentState(base: 0, limit: 0, selector: 0, attributes: 0)
    cpu.pointee.segments.0 = mode == .long ? unusable : data
    cpu.pointee.segments.1 = code
    cpu.pointee.segments.2 = data
    cpu.pointee.segments.3 = mode == .long ? unusable : data
    cpu.pointee.segments.4 = SegmentState(base: fs, limit: 0, selector: 0, attributes: 0)
    cpu.pointee.segments.5 = SegmentState(base: gs, limit: 0, selector: 0, attributes: 0)
  }
}
