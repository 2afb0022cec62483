import CHost
import Testing
import X86

@testable import Processor

/// The x87 unit between guest and host: pending exceptions, pointers, images.
@Suite struct X87Tests {
  private static let fld1: [UInt8] = [0xd9, 0xe8]
  private static let fldz: [UInt8] = [0xd9, 0xee]
  /// FDIVRP st1, st0: st1 = st0 / st1.
  private static let divide: [UInt8] = [0xde, 0xf1]
  private static let fwait: [UInt8] = [0x9b]
  private static let fnclex: [UInt8] = [0xdb, 0xe2]
  private static let fnstswAX: [UInt8] = [0xdf, 0xe0]
  private static let fnstenv: [UInt8] = [0xd9, 0x36]
  private static let fldenv: [UInt8] = [0xd9, 0x26]
  private static let mf = GuestFault.exception(.x87FloatingPoint, errorCode: 0)

  /// A bench with a control word and RSI at the data page.
  private func bench(control: UInt16, _ mode: NativeBench.Mode = .long64) throws -> NativeBench {
    let bench = try NativeBench(mode)
    bench.state.storeBytes(of: control, as: UInt16.self)
    bench.processor.setGPR(6, mode == .paragraphs16 ? 0x2000 : NativeBench.data)
    return bench
  }

  @Test func pendingExceptionIsDeliveredToTheNextWaitingInstruction() throws {
    let bench = try bench(control: 0x37b)
    #expect(try bench.run(sequence: [Self.fldz, Self.fld1, Self.divide]) == nil)
    #expect(try bench.run(Self.fnstswAX) == nil)
    #expect(bench.processor.gpr(0) & 0x84 == 0x84)
    #expect(try bench.run(Self.fwait) == Self.mf)
    #expect(try bench.run(Self.fld1) == Self.mf)
    // MOVQ mm0, mm1, EMMS and FLDCW [RSI] wait too.
    #expect(try bench.run([0x0f, 0x6f, 0xc1]) == Self.mf)
    #expect(try bench.run([0x0f, 0x77]) == Self.mf)
    #expect(try bench.run([0xd9, 0x2e]) == Self.mf)
    #expect(try bench.run(sequence: [Self.fnclex, Self.fwait, Self.fld1]) == nil)
  }

  @Test func loadingTheControlWordCanMakeAnExceptionPending() throws {
    let bench = try bench(control: 0x37f)
    bench.host(NativeBench.data).storeBytes(of: 0x37b, as: UInt16.self)
    #expect(try bench.run(sequence: [Self.fldz, Self.fld1, Self.divide, Self.fwait]) == nil)
    #expect(try bench.run(sequence: [[0xd9, 0x2e], Self.fwait]) == Self.mf)
  }

  @Test func withoutNumericErrorBitTheMachineIsTold() throws {
    let bench = try bench(control: 0x37b)
    bench.cpu.pointee.cr0 &= ~CR0.ne
    #expect(try bench.run(sequence: [Self.fldz, Self.fld1, Self.divide]) == nil)
    let operations = try bench.prepare(Self.fld1)
    let address = bench.cpu.pointee.rip
    try bench.processor.native.enter(bench.cpu)
    bench.step(operations)
    bench.processor.native.leave(bench.cpu)
    #expect(bench.processor.pendingExits.next() == .numericError)
    #expect(bench.cpu.pointee.rip == address && bench.cpu.pointee.activity == .halted)
    #expect(bench.cpu.pointee.engine.stopReason == StopReason.serialize | StopReason.exits)
  }

  /// IGNNE# lets waiting instructions run while an exception is pending, which stays so until it is cleared.
  @Test func pendingExceptionIsIgnoredWhereThePinSaysSo() throws {
    let bench = try bench(control: 0x37b)
    bench.cpu.pointee.cr0 &= ~CR0.ne
    #expect(try bench.run(sequence: [Self.fldz, Self.fld1, Self.divide]) == nil)
    bench.cpu.pointee.ignoresNumericErrors = 1
    #expect(try bench.run(sequence: [Self.fwait, Self.fld1, Self.fnstswAX]) == nil)
    #expect(bench.processor.pendingExits.next() == nil && bench.processor.gpr(0) & 0x84 == 0x84)
    #expect(bench.state.load(as: UInt16.self) == 0x37b, "the control word")
    // A load that faults leaves it too; one that succeeds sets its own.
    bench.processor.setGPR(6, 1 << 47)
    #expect(try bench.run([0xd9, 0x2e]) == .generalProtection())
    #expect(bench.state.load(as: UInt16.self) == 0x37b && bench.processor.maskedControl == nil)
    bench.processor.setGPR(6, NativeBench.data)
    bench.host(NativeBench.data).storeBytes(of: 0x27b, as: UInt16.self)
    #expect(try bench.run([0xd9, 0x2e]) == nil && bench.state.load(as: UInt16.self) == 0x27b)
    #expect(bench.cpu.pointee.ignoresNumericErrors == 1)
    // The pin is released with the exception; #MF does not know it.
    #expect(try bench.run(sequence: [Self.fnclex, Self.fwait]) == nil)
    #expect(bench.cpu.pointee.ignoresNumericErrors == 0)
    bench.cpu.pointee.cr0 |= CR0.ne
    bench.cpu.pointee.ignoresNumericErrors = 1
    bench.host(NativeBench.data).storeBytes(of: 0x37f, as: UInt16.self)
    #expect(try bench.run(sequence: [[0xd9, 0x2e], Self.fldz, Self.fld1, Self.divide]) == nil)
    bench.cpu.pointee.ignoresNumericErrors = 1
    bench.host(NativeBench.data).storeBytes(of: 0x37b, as: UInt16.self)
    #expect(try bench.run(sequence: [[0xd9, 0x2e], Self.fwait]) == Self.mf)
  }

  @Test func waitChecksMonitorBit() throws {
    let bench = try bench(control: 0x37f)
    bench.cpu.pointee.cr0 |= CR0.ts
    #expect(try bench.run(Self.fwait) == nil)
    #expect(try bench.run(Self.fld1) == .deviceNotAvailable)
    bench.cpu.pointee.cr0 |= CR0.mp
    #expect(try bench.run(Self.fwait) == .deviceNotAvailable)
  }

  /// An unmasked overflow leaves memory and stack alone; an unmasked loss of precision does not.
  @Test func unmaskedExceptionSuppressesAStore() throws {
    for (control, stores) in [(0x377, false), (0x35f, true)] as [(UInt16, Bool)] {
      let bench = try bench(control: control)
      bench.host(NativeBench.data).storeBytes(of: ~0, as: UInt32.self)
      bench.host(NativeBench.data + 64).storeBytes(of: stores ? 0.1 : 1e300, as: Double.self)
      // FLD qword [RSI + 64]; FSTP dword [RSI].
      #expect(try bench.run(sequence: [[0xdd, 0x46, 0x40], [0xd9, 0x1e]]) == nil)
      let stored = bench.host(NativeBench.data).load(as: UInt32.self)
      #expect(stored == (stores ? Float(0.1).bitPattern : ~0))
      let status = bench.state.load(fromByteOffset: 2, as: UInt16.self)
      #expect(status & 0x80 != 0)
      #expect(status >> 11 & 7 == (stores ? 0 : 7))
      #expect(try bench.run(Self.fwait) == Self.mf)
    }
  }

  @Test func storeThatFaultsDoesNotPop() throws {
    let bench = try bench(control: 0x37f)
    bench.processor.setGPR(6, 1 << 47)
    #expect(try bench.run(sequence: [Self.fld1, [0xdb, 0x3e]]) == .generalProtection())
    #expect(bench.state.load(fromByteOffset: 2, as: UInt16.self) >> 11 & 7 == 7)
  }

  // MARK: Pointers

  /// By chain handler and by slow path.
  @Test(arguments: [false, true]) func pointersFollowInstructions(isSlow: Bool) throws {
    let bench = try bench(control: isSlow ? 0x37e : 0x37f)
    bench.processor.setSegment(4, SegmentState(base: 0x1000, limit: ~0, selector: 0x63, attributes: 0x4093))
    // FLD qword FS:[RSI + 8], three times: the first goes through the slow path.
    try bench.processor.native.enter(bench.cpu)
    for _ in 0..<3 {
      let operations = try bench.prepare([0x64, 0xdd, 0x46, 0x08])
      let address = bench.cpu.pointee.rip
      bench.step(operations)
      #expect(bench.fault == nil)
      #expect(bench.cpu.pointee.fpuInstructionPointer == address)
      #expect(bench.cpu.pointee.fpuDataPointer == NativeBench.data + 8)
      #expect(bench.cpu.pointee.fpuOpcode == 0x546)
      #expect(bench.cpu.pointee.fpuCodeSegment == 0x10)
      #expect(bench.cpu.pointee.fpuDataSegment == 0x63)
    }
    // FNSTSW and FNCLEX leave them.
    let pointer = bench.cpu.pointee.fpuInstructionPointer
    for bytes in [Self.fnstswAX, Self.fnclex] { bench.step(try bench.prepare(bytes)) }
    #expect(bench.cpu.pointee.fpuInstructionPointer == pointer)
    bench.processor.native.leave(bench.cpu)
  }

  @Test func environmentHasTheGuestsPointers() throws {
    let bench = try bench(control: 0x37f)
    try bench.processor.native.enter(bench.cpu)
    bench.step(try bench.prepare([0xdd, 0x46, 0x08]))
    let address = bench.cpu.pointee.fpuInstructionPointer
    #expect(address >= NativeBench.code)
    bench.step(try bench.prepare([0xdd, 0xd8]))
    bench.step(try bench.prepare(Self.fnstenv))
    bench.processor.native.leave(bench.cpu)
    let image = bench.host(NativeBench.data)
    #expect(image.load(as: UInt32.self) == 0xffff_037f)
    #expect(image.load(fromByteOffset: 8, as: UInt32.self) == 0xffff_ffff)
    #expect(image.load(fromByteOffset: 12, as: UInt32.self) == UInt32(address + 32))
    #expect(image.load(fromByteOffset: 16, as: UInt32.self) == 0x5d8_0010)
    #expect(image.load(fromByteOffset: 20, as: UInt32.self) == UInt32(NativeBench.data + 8))
    #expect(image.load(fromByteOffset: 24, as: UInt32.self) == 0xffff_0018)
  }

  @Test(arguments: [
    X87Environment.Format.protected32, .real32, .protected16, .real16,
  ])
  func environmentFormatsRoundTrip(format: X87Environment.Format) throws {
    var environment = X87Environment()
    environment.control = 0x27f
    environment.status = 0x3820
    environment.tags = 0x1234
    environment.instructionPointer = 0x8765
    environment.dataPointer = 0x4321
    environment.codeSegment = 0x1111
    environment.dataSegment = 0x2222
    environment.opcode = 0x5d8
    let image = UnsafeMutableRawPointer.allocate(byteCount: 28, alignment: 8)
    defer { image.deallocate() }
    environment.write(to: image, format)
    let read = X87Environment(image, format)
    #expect(read.control == 0x27f && read.status == 0x3820 && read.tags == 0x1234)
    let isReal = format == .real16 || format == .real32
    #expect(read.instructionPointer == (isReal ? 0x8765 + 0x11110 : 0x8765))
    #expect(read.dataPointer == (isReal ? 0x4321 + 0x22220 : 0x4321))
    #expect(read.codeSegment == (isReal ? 0 : 0x1111))
    #expect(read.dataSegment == (isReal ? 0 : 0x2222))
    #expect(read.opcode == (format == .protected16 ? 0 : 0x5d8))
  }

  /// FNSAVE and FRSTOR in 16-bit real mode: 94 bytes.
  @Test func stateRoundTripsInRealMode() throws {
    let bench = try bench(control: 0x37f, .paragraphs16)
    #expect(try bench.run(sequence: [Self.fld1, Self.fldz, [0xdd, 0x34]]) == nil)
    let image = bench.host(0x2000)
    #expect(image.load(as: UInt16.self) == 0x37f)
    #expect(image.load(fromByteOffset: 2, as: UInt16.self) >> 11 & 7 == 6)
    #expect(image.load(fromByteOffset: 4, as: UInt16.self) == 0x1fff)
    #expect(image.load(fromByteOffset: 8, as: UInt16.self) & 0x7ff == 0x1ee)
    #expect(image.load(fromByteOffset: 14 + 8, as: UInt16.self) == 0)
    #expect(image.loadUnaligned(fromByteOffset: 14 + 10, as: UInt64.self) == 1 << 63)
    #expect(bench.state.load(fromByteOffset: 4, as: UInt8.self) == 0)
    #expect(try bench.run([0xdd, 0x24]) == nil)
    #expect(bench.state.load(fromByteOffset: 4, as: UInt8.self) == 0xc0)
    #expect(bench.state.load(fromByteOffset: 32 + 16, as: UInt64.self) == 1 << 63)
  }

  @Test func loadedEnvironmentBringsPointersAndPendingExceptions() throws {
    let bench = try bench(control: 0x37f)
    var environment = X87Environment()
    environment.control = 0x37b
    environment.status = 0x0004
    environment.instructionPointer = 0xabcd
    environment.dataSegment = 0x77
    environment.write(to: bench.host(NativeBench.data), .protected32)
    #expect(try bench.run(Self.fldenv) == nil)
    #expect(bench.cpu.pointee.fpuInstructionPointer == 0xabcd)
    #expect(bench.cpu.pointee.fpuDataSegment == 0x77)
    #expect(try bench.run(Self.fwait) == Self.mf)
    // FNSTENV masks all exceptions.
    #expect(try bench.run(sequence: [Self.fnstenv, Self.fwait]) == nil)
    #expect(bench.host(NativeBench.data).load(as: UInt16.self) == 0x37b)
    #expect(bench.host(NativeBench.data).load(fromByteOffset: 12, as: UInt32.self) == 0xabcd)
  }

  /// Nothing of the guest is left in the host's unit.
  @Test func hostUnitIsInitialAfterLeaving() throws {
    let bench = try bench(control: 0x27b)
    #expect(try bench.run(sequence: [Self.fld1, Self.fldz, [0x0f, 0x6f, 0xc1]]) == nil)
    #expect(nativeX87Control() == 0x37f)
    #expect(nativeX87Status() == 0)
    #expect(bench.state.load(as: UInt16.self) == 0x27b)
    #expect(bench.state.load(fromByteOffset: 4, as: UInt8.self) == 0xff)
  }
}
