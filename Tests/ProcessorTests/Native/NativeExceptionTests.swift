import CHost
import Machine
import Testing
import X86

@testable import Processor

/// SIMD exceptions, alignment, segments and devices: what keeps a vector instruction from completing.
@Suite struct NativeExceptionTests {
  private static let mxcsrOffset = 24
  /// DIVPD xmm1, xmm2; DIVPD xmm1, [RSI].
  private static let divide: [UInt8] = [0x66, 0x0f, 0x5e, 0xca]
  private static let divideByMemory: [UInt8] = [0x66, 0x0f, 0x5e, 0x0e]

  private func unmaskDivideByZero(_ bench: NativeBench) {
    bench.state.storeBytes(of: 0x1d80, toByteOffset: Self.mxcsrOffset, as: UInt32.self)
    bench.setVector(1, SIMD2<Double>(6, 8))
    bench.setVector(2, SIMD2<Double>(2, 0))
    bench.host(NativeBench.data).storeBytes(of: SIMD2<Double>(0, 1), as: SIMD2<Double>.self)
    bench.processor.setGPR(6, NativeBench.data)
  }

  @Test(arguments: [divide, divideByMemory])
  func unmaskedSIMDExceptionIsRaised(instruction: [UInt8]) throws {
    let bench = try NativeBench()
    unmaskDivideByZero(bench)
    for _ in 0..<2 {
      #expect(try bench.run(instruction) == .exception(.simdFloatingPoint, errorCode: 0))
      #expect(bench.vector(1) == unsafeBitCast(SIMD2<Double>(6, 8), to: SIMD2<UInt64>.self))
      #expect(bench.state.load(fromByteOffset: Self.mxcsrOffset, as: UInt32.self) == 0x1d84)
    }
  }

  @Test func unmaskedSIMDExceptionIsInvalidOpcodeWithoutOSXMMEXCPT() throws {
    let bench = try NativeBench()
    unmaskDivideByZero(bench)
    bench.cpu.pointee.cr4 &= ~CR4.osxmmexcpt
    #expect(try bench.run(Self.divide) == .invalidOpcode)
  }

  @Test func maskedSIMDExceptionSetsItsFlag() throws {
    let bench = try NativeBench()
    unmaskDivideByZero(bench)
    bench.state.storeBytes(of: 0x1f80, toByteOffset: Self.mxcsrOffset, as: UInt32.self)
    let before = nativeMXCSR()
    #expect(try bench.run(Self.divide) == nil)
    #expect(bench.vector(1) == SIMD2(Double(3).bitPattern, Double.infinity.bitPattern))
    #expect(bench.state.load(fromByteOffset: Self.mxcsrOffset, as: UInt32.self) == 0x1f84)
    // The host has its own controls back; its exception flags mean nothing.
    #expect(nativeMXCSR() & ~0x3f == before & ~0x3f)
  }

  /// An exception in the middle of a chain leaves the lazy flags and what follows alone.
  @Test func exceptionKeepsFlags() throws {
    let bench = try NativeBench()
    unmaskDivideByZero(bench)
    bench.cpu.pointee.rflags |= RFLAGS.cf | RFLAGS.of
    #expect(try bench.run(Self.divide) != nil)
    #expect(bench.cpu.pointee.rflags & RFLAGS.arithmetic == RFLAGS.cf | RFLAGS.of)
  }

  @Test func alignmentIsChecked() throws {
    let bench = try NativeBench()
    for offset in [1, 8, 4088] as [UInt64] {
      bench.processor.setGPR(6, NativeBench.data + offset)
      // ADDPS, MOVAPS to memory, VMOVAPS ymm; then ADDPS-like VADDPS, MOVUPS, LDDQU, which do not mind.
      #expect(try bench.run([0x0f, 0x58, 0x0e]) == .generalProtection())
      #expect(try bench.run([0x0f, 0x29, 0x0e]) == .generalProtection())
      #expect(try bench.run([0xc5, 0xfc, 0x28, 0x0e]) == .generalProtection())
      #expect(try bench.run([0xc5, 0xf4, 0x58, 0x0e]) == nil)
      #expect(try bench.run([0x0f, 0x10, 0x0e]) == nil)
      #expect(try bench.run([0xf2, 0x0f, 0xf0, 0x0e]) == nil)
    }
    bench.processor.setGPR(6, NativeBench.data + 16)
    #expect(try bench.run([0x0f, 0x58, 0x0e]) == nil)
    #expect(try bench.run([0xc5, 0xfc, 0x28, 0x0e]) == .generalProtection())
  }

  @Test func segmentLimitsHold() throws {
    let bench = try NativeBench(.paragraphs16)
    // MOVUPS xmm1, [SI], by DS and by SS.
    bench.processor.setGPR(6, 0xfff8)
    #expect(try bench.run([0x0f, 0x10, 0x0c]) == .generalProtection())
    #expect(try bench.run([0x36, 0x0f, 0x10, 0x0c]) == .stackFault())
    bench.processor.setGPR(6, 0xfff0)
    bench.host(0xfff0).storeBytes(of: SIMD2<UInt64>(5, 6), as: SIMD2<UInt64>.self)
    #expect(try bench.run([0x0f, 0x10, 0x0c]) == nil)
    #expect(bench.vector(1) == SIMD2(5, 6))
  }

  @Test func nonCanonicalAddressFaults() throws {
    let bench = try NativeBench()
    bench.processor.setGPR(6, 1 << 47)
    #expect(try bench.run([0x0f, 0x10, 0x0e]) == .generalProtection())
    bench.processor.setGPR(4, 1 << 47)
    #expect(try bench.run([0x0f, 0x10, 0x0c, 0x24]) == .stackFault())
  }

  /// A load from a device is answered in pieces, a store is posted in pieces.
  @Test func devicesAreReached() throws {
    let bench = try NativeBench()
    let device: UInt64 = 0xf000_0000
    bench.processor.setGPR(6, device)
    for piece in 0..<2 as Range<UInt64> {
      #expect(try bench.run([0x0f, 0x10, 0x0e]) == .exit)
      let exit = bench.processor.pendingExits.next()
      #expect(exit == .memoryRead(address: .init(device + piece * 8), size: 8))
      bench.processor.replay.append(
        ExitCompletion(data: 40 + piece, isValid: 1, isRefused: 0, reserved: (0, 0, 0, 0, 0, 0)))
    }
    #expect(try bench.run([0x0f, 0x10, 0x0e]) == nil)
    #expect(bench.vector(1) == SIMD2(40, 41))
    #expect(try bench.run([0x0f, 0x11, 0x0e]) == nil)
    #expect(bench.processor.pendingExits.next() == .memoryWrite(address: .init(device), size: 8, value: 40))
    #expect(bench.processor.pendingExits.next() == .memoryWrite(address: .init(device + 8), size: 8, value: 41))
  }

  /// VEX.W has no effect on what stands for a general register outside 64-bit mode.
  @Test func wideFormsAreNarrowIn32BitMode() throws {
    let bench = try NativeBench(.flat32)
    bench.processor.setGPR(0, 0x1234_5678)
    bench.processor.setGPR(6, NativeBench.data)
    bench.host(NativeBench.data).storeBytes(of: 0x1111_2222_3333_4444, as: UInt64.self)
    // VMOVD xmm1, eax; VMOVD xmm1, [ESI]; VCVTSI2SD xmm1, xmm2, [ESI]; VPEXTRD eax, xmm1, 0; all with W set.
    #expect(try bench.run([0xc4, 0xe1, 0xf9, 0x6e, 0xc8]) == nil)
    #expect(bench.vector(1) == SIMD2(0x1234_5678, 0))
    #expect(try bench.run([0xc4, 0xe1, 0xf9, 0x6e, 0x0e]) == nil)
    #expect(bench.vector(1) == SIMD2(0x3333_4444, 0))
    #expect(try bench.run([0xc4, 0xe1, 0xeb, 0x2a, 0x0e]) == nil)
    #expect(bench.vector(1)[0] == Double(0x3333_4444).bitPattern)
    bench.setVector(1, SIMD2<UInt64>(0xaaaa_bbbb_cccc_dddd, 0))
    #expect(try bench.run([0xc4, 0xe3, 0xf9, 0x16, 0xc8, 0x00]) == nil)
    #expect(bench.processor.gpr(0) == 0xcccc_dddd)
  }

  /// Stores into the code segment are refused although it is flat.
  @Test func codeSegmentIsReadOnlyIn32BitMode() throws {
    let bench = try NativeBench(.flat32)
    bench.processor.setGPR(6, NativeBench.data)
    #expect(try bench.run([0x0f, 0x11, 0x0e]) == nil)
    #expect(try bench.run([0x2e, 0x0f, 0x11, 0x0e]) == .generalProtection())
    #expect(try bench.run([0x2e, 0x0f, 0x10, 0x0e]) == nil)
  }

  // MARK: The host's own arithmetic

  /// Does what raises every SIMD exception, and makes a collection grow, which computes too.
  @inline(never) private static func compute(_ bench: NativeBench) -> Double {
    var numbers: [Double: Int] = [:]
    for number in 0..<100 { numbers[Double(number) / 7] = number }
    let zero = Double(numbers.count) - 100
    let smallest = Double.leastNonzeroMagnitude * Double(numbers.count)
    let quotients = SIMD4<Double>(1 / zero, zero / zero, smallest / 3, Double.greatestFiniteMagnitude * 100)
    return Double(bench.processor.gpr(0)) / 3 + (quotients.x == .infinity && quotients.y.isNaN ? 1 : 0)
  }

  /// What the guest has unmasked does not end the process, nor does the guest lose it.
  @Test(arguments: [0, 0x1000, 0x1d80, 0x1f80, 0x6000] as [UInt32])
  func hostComputesUnderGuestControls(mxcsr: UInt32) throws {
    let bench = try NativeBench()
    bench.state.storeBytes(of: mxcsr, toByteOffset: Self.mxcsrOffset, as: UInt32.self)
    bench.processor.setGPR(0, 9)
    try bench.processor.native.enter(bench.cpu)
    let result = Self.compute(bench)
    let controls = nativeMXCSR() & ~0x3f
    bench.processor.native.leave(bench.cpu)
    #expect(result == 4)
    #expect(controls == mxcsr)
    #expect(bench.state.load(fromByteOffset: Self.mxcsrOffset, as: UInt32.self) & ~0x3f == mxcsr)
  }

  /// After the host's detour the guest's own exception still arrives, in the middle of a chain.
  @Test func exceptionArrivesAfterTheHosts() throws {
    let bench = try NativeBench()
    unmaskDivideByZero(bench)
    let operations = try bench.prepare(Self.divide)
    try bench.processor.native.enter(bench.cpu)
    #expect(Self.compute(bench).isFinite)
    bench.step(operations)
    bench.processor.native.leave(bench.cpu)
    #expect(bench.fault == .exception(.simdFloatingPoint, errorCode: 0))
    #expect(bench.vector(1) == unsafeBitCast(SIMD2<Double>(6, 8), to: SIMD2<UInt64>.self))
  }

  /// A waiting x87 instruction of the host does not meet the guest's pending exception; it stays pending.
  @Test func hostWaitsWithGuestExceptionPending() throws {
    let bench = try NativeBench()
    bench.state.storeBytes(of: 0x37b, as: UInt16.self)
    // FLD1; FLDZ; FDIVP: division by zero, unmasked.
    #expect(try bench.run(sequence: [[0xd9, 0xe8], [0xd9, 0xee], [0xde, 0xf9]]) == nil)
    try bench.processor.native.enter(bench.cpu)
    bench.processor.takeX87()
    // FLDCW is one that waits.
    nativeX87LoadControl(nativeX87Control())
    let control = nativeX87Control()
    let status = nativeX87Status()
    bench.processor.native.leave(bench.cpu)
    #expect(control == 0x37b && status & 0x84 == 0x84)
    #expect(try bench.run([0xd9, 0xe8]) == .exception(.x87FloatingPoint, errorCode: 0))
  }
}
