import CHost
import Glibc
import Machine
import TestSupport
import Testing
import X86

@testable import Processor

/// Masked moves and gathers: against the host, and where masked-off elements must not be touched.
@Suite(.serialized, .enabled(if: NativeFeatures.host.contains(.avx2))) struct MaskedMoveTests {
  private static let windowSize = 256
  nonisolated(unsafe) private static let window = UnsafeMutableRawPointer.allocate(
    byteCount: windowSize, alignment: 64)

  /// Gives both sides the same vectors, memory, RSI (and RDI) at their window.
  private func fill(_ bench: NativeBench, _ oracle: NativeOracle, _ random: inout SeededRandom, indices: UInt64) {
    memset(oracle.state, 0, NativeOracle.size)
    for number in 0..<16 {
      for half in 0..<2 {
        // XMM4 and YMM4 are indices: small ones, so that elements stay inside the window.
        let mask = number == 4 ? indices : ~0
        let value = SIMD2(random.next() & mask, random.next() & mask)
        bench.state.storeBytes(of: value, toByteOffset: (half == 0 ? 160 : 576) + 16 * number, as: SIMD2<UInt64>.self)
        oracle.state.storeBytes(of: value, toByteOffset: 32 * number + 16 * half, as: SIMD2<UInt64>.self)
      }
    }
    for place in stride(from: 0, to: Self.windowSize, by: 8) {
      let value = random.next()
      (Self.window + place).storeBytes(of: value, as: UInt64.self)
      bench.host(NativeBench.data + UInt64(place)).storeBytes(of: value, as: UInt64.self)
    }
    for number in [6, 7] {
      bench.processor.setGPR(number, NativeBench.data + 64)
      oracle.state.storeBytes(
        of: UInt64(UInt(bitPattern: Self.window + 64)), toByteOffset: NativeOracle.generals + number * 8,
        as: UInt64.self)
    }
    memset(bench.state, 0, 24)
    bench.state.storeBytes(of: 0x37f, as: UInt16.self)
    for number in 0..<8 {
      bench.state.storeBytes(of: random.next(), toByteOffset: 32 + 16 * number, as: UInt64.self)
      bench.state.storeBytes(of: 0xffff, toByteOffset: 40 + 16 * number, as: UInt64.self)
    }
    memcpy(oracle.state + NativeOracle.image, bench.state, 160)
    oracle.state.storeBytes(of: RFLAGS.fixed, toByteOffset: NativeOracle.flags, as: UInt64.self)
  }

  /// VMASKMOVPS/PD and VPMASKMOVD/Q xmm1/ymm1, xmm2/ymm2, [RSI] and back; MASKMOVDQU and MASKMOVQ; gathers of xmm1/ymm1
  /// by xmm4/ymm4 with mask xmm2/ymm2, [RSI + index * scale].
  private static let instructions: [[UInt8]] = {
    var all: [[UInt8]] = [[0x66, 0x0f, 0xf7, 0xca], [0x0f, 0xf7, 0xca], [0xc4, 0xe1, 0x79, 0xf7, 0xca]]
    for wide in [0, 4] as [UInt8] {
      for opcode in 0x2c...0x2f as ClosedRange<UInt8> { all.append([0xc4, 0xe2, 0x69 | wide, opcode, 0x0e]) }
      for quad in [0, 0x80] as [UInt8] {
        for opcode in [0x8c, 0x8e] as [UInt8] { all.append([0xc4, 0xe2, 0x69 | wide | quad, opcode, 0x0e]) }
        for opcode in 0x90...0x93 as ClosedRange<UInt8> {
          for scale in 0..<4 as Range<UInt8> {
            all.append([0xc4, 0xe2, 0x69 | wide | quad, opcode, 0x0c, scale << 6 | 0x26])
          }
        }
      }
    }
    return all
  }()

  @Test(arguments: [false, true]) func resultsMatchSilicon(isSlow: Bool) throws {
    let bench = try NativeBench()
    let oracle = try NativeOracle()
    var random = SeededRandom(seed: 5)
    for instruction in Self.instructions {
      for _ in 0..<16 {
        let hasWideIndices = instruction.count > 3 && (instruction[3] == 0x91 || instruction[3] == 0x93)
        fill(bench, oracle, &random, indices: hasWideIndices ? 7 : 0x7_0000_0007)
        if isSlow { bench.processor.translations.flushAll() }
        let fault = try bench.run(instruction)
        try #require(fault == nil, "\(instruction)")
        oracle.run(instruction)
        for number in 0..<16 {
          let isSame =
            memcmp(bench.state + 160 + 16 * number, oracle.state + 32 * number, 16) == 0
            && memcmp(bench.state + 576 + 16 * number, oracle.state + 32 * number + 16, 16) == 0
          try #require(isSame, "\(instruction) register \(number)")
        }
        try #require(memcmp(bench.host(NativeBench.data), Self.window, Self.windowSize) == 0, "\(instruction)")
        let image = oracle.state + NativeOracle.image
        try #require(memcmp(bench.state, image, 5) == 0 && memcmp(bench.state + 32, image + 32, 128) == 0)
      }
    }
  }

  /// Elements in device memory that are masked off are not read.
  @Test func maskedElementsAreNotAccessed() throws {
    let bench = try NativeBench()
    let end = NativeBench.memorySize
    bench.host(end - 8).storeBytes(of: 0x0000_0002_0000_0001, as: UInt64.self)
    bench.processor.setGPR(6, end - 8)
    bench.setVector(2, SIMD2<UInt64>(0x8000_0000_8000_0000, 0))
    // VMASKMOVPS xmm1, xmm2, [RSI] and VMASKMOVPS [RSI], xmm2, xmm1.
    #expect(try bench.run([0xc4, 0xe2, 0x69, 0x2c, 0x0e]) == nil)
    #expect(bench.vector(1) == SIMD2(0x0000_0002_0000_0001, 0))
    #expect(try bench.run([0xc4, 0xe2, 0x69, 0x2e, 0x0e]) == nil)
    bench.setVector(2, SIMD2<UInt64>(0, 1 << 63))
    #expect(try bench.run([0xc4, 0xe2, 0x69, 0x2c, 0x0e]) == .exit)
    #expect(bench.processor.pendingExits.next() == .memoryRead(address: .init(end + 4), size: 4))
  }

  /// A gather that faults keeps what it has loaded, and goes on from there.
  @Test func gatherIsRestartable() throws {
    let bench = try NativeBench()
    bench.host(NativeBench.data).storeBytes(of: 77, as: UInt64.self)
    bench.setVector(4, SIMD2<UInt64>(NativeBench.data, 1 << 47))
    bench.setVector(2, SIMD2<UInt64>(1 << 63, 1 << 63))
    bench.setVector(1, SIMD2<UInt64>(5, 6))
    bench.processor.setGPR(6, 0)
    // VPGATHERQQ xmm1, [RSI + xmm4], xmm2.
    let gather: [UInt8] = [0xc4, 0xe2, 0xe9, 0x91, 0x0c, 0x26]
    #expect(try bench.run(gather) == .generalProtection())
    #expect(bench.vector(1) == SIMD2(77, 6))
    #expect(bench.vector(2) == SIMD2(0, 1 << 63))
    bench.setVector(4, SIMD2<UInt64>(1 << 47, NativeBench.data))
    #expect(try bench.run(gather) == nil)
    #expect(bench.vector(1) == SIMD2(77, 77))
    #expect(bench.vector(2) == SIMD2(0, 0))
  }

  @Test func gatherWithEqualRegistersIsInvalid() throws {
    let bench = try NativeBench()
    // VPGATHERQQ xmm1, [RSI + xmm4], xmm1 and xmm4.
    #expect(try bench.run([0xc4, 0xe2, 0xf1, 0x91, 0x0c, 0x26]) == .invalidOpcode)
    #expect(try bench.run([0xc4, 0xe2, 0xd9, 0x91, 0x0c, 0x26]) == .invalidOpcode)
  }
}
