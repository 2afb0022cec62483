import CHost
import Glibc
import TestSupport
import Testing
import X86

@testable import Processor

/// FXSAVE and the XSAVE family against the host's own, image by image and state by state.
@Suite(.serialized, .enabled(if: hostXCR0() & 7 == 7)) struct ExtendedStateTests {
  private static let areaSize = 1024
  nonisolated(unsafe) private static let hostArea = UnsafeMutableRawPointer.allocate(
    byteCount: areaSize, alignment: 64)

  /// What the host is given with XRSTOR, so that its initial components are initial to it too.
  nonisolated(unsafe) private static let initialArea = UnsafeMutableRawPointer.allocate(
    byteCount: areaSize, alignment: 64)

  /// XSAVE, XSAVEOPT, XSAVEC [RSI], with and without REX.W; FXSAVE.
  private static let saves: [[UInt8]] = [
    [0x48, 0x0f, 0xae, 0x26], [0x0f, 0xae, 0x26], [0x48, 0x0f, 0xae, 0x36], [0x48, 0x0f, 0xc7, 0x26],
    [0x0f, 0xc7, 0x26], [0x48, 0x0f, 0xae, 0x06], [0x0f, 0xae, 0x06],
  ]

  /// Which components of the state are not initial: bits as in XCR0, and bit 3 for MXCSR.
  private func fill(_ bench: NativeBench, _ oracle: NativeOracle, _ random: inout SeededRandom, _ components: Int) {
    memset(bench.state, 0, 832)
    bench.state.storeBytes(of: 0x37f, as: UInt16.self)
    bench.state.storeBytes(of: components & 8 != 0 ? 0x3f80 : 0x1f80, toByteOffset: 24, as: UInt32.self)
    if components & 1 != 0 {
      bench.state.storeBytes(of: 0x27f, as: UInt16.self)
      bench.state.storeBytes(of: 0x0f, toByteOffset: 4, as: UInt8.self)
      for number in 0..<8 {
        bench.state.storeBytes(of: random.next() | 1 << 63, toByteOffset: 32 + 16 * number, as: UInt64.self)
        bench.state.storeBytes(of: 0x3fff, toByteOffset: 40 + 16 * number, as: UInt16.self)
      }
    }
    for number in 0..<16 {
      if components & 2 != 0 { bench.setVector(number, SIMD2(random.next(), random.next())) }
      if components & 4 != 0 {
        let value = SIMD2(random.next(), random.next())
        bench.state.storeBytes(of: value, toByteOffset: 576 + 16 * number, as: SIMD2<UInt64>.self)
      }
      memcpy(oracle.state + 32 * number, bench.state + 160 + 16 * number, 16)
      memcpy(oracle.state + 32 * number + 16, bench.state + 576 + 16 * number, 16)
    }
    memcpy(oracle.state + NativeOracle.image, bench.state, 416)
    memcpy(Self.initialArea, bench.state, 832)
    memset(Self.initialArea + 512, 0, 64)
    Self.initialArea.storeBytes(of: UInt64(components & 7), toByteOffset: 512, as: UInt64.self)
    oracle.state.storeBytes(of: RFLAGS.fixed, toByteOffset: NativeOracle.flags, as: UInt64.self)
    bench.cpu.pointee.fpuInstructionPointer = 0
    bench.cpu.pointee.fpuDataPointer = 0
    bench.cpu.pointee.fpuOpcode = 0
  }

  private func setRegisters(_ bench: NativeBench, _ oracle: NativeOracle, mask: UInt64) {
    for (number, ours, theirs) in [
      (0, mask, mask), (2, 0, 0), (3, 0, UInt64(UInt(bitPattern: Self.initialArea))),
      (6, NativeBench.data, UInt64(UInt(bitPattern: Self.hostArea))),
    ] as [(Int, UInt64, UInt64)] {
      bench.processor.setGPR(number, ours)
      oracle.state.storeBytes(of: theirs, toByteOffset: NativeOracle.generals + number * 8, as: UInt64.self)
    }
  }

  /// The first difference of two areas, pointers and MXCSR_MASK aside: the host's are its own.
  private func difference(_ ours: UnsafeRawPointer, _ theirs: UnsafeRawPointer) -> Int? {
    (0..<Self.areaSize).first { place in
      if (6..<24).contains(place) || (28..<32).contains(place) { return false }
      return ours.load(fromByteOffset: place, as: UInt8.self) != theirs.load(fromByteOffset: place, as: UInt8.self)
    }
  }

  @Test func imagesMatchTheHosts() throws {
    let bench = try NativeBench()
    let oracle = try NativeOracle()
    var random = SeededRandom(seed: 3)
    for save in Self.saves {
      for mask in 0..<8 {
        for components in 0..<16 {
          for initial in [0x00, 0xff] as [Int32] {
            fill(bench, oracle, &random, components)
            setRegisters(bench, oracle, mask: UInt64(mask))
            let ours = bench.host(NativeBench.data)
            memset(ours, initial, Self.areaSize)
            try #require(try bench.run(save) == nil)
            var place: Int?
            // Where the host's system switches tasks in between, other components may be in use (SDM volume 1, 13.6).
            for _ in 0..<5 {
              memset(Self.hostArea, initial, Self.areaSize)
              setRegisters(bench, oracle, mask: UInt64(mask))
              // MOV EAX, 7; XRSTOR64 [RBX]; MOV EAX, mask.
              oracle.run([0xb8, 7, 0, 0, 0, 0x48, 0x0f, 0xae, 0x2b, 0xb8, UInt8(mask), 0, 0, 0] + save)
              place = difference(ours, Self.hostArea)
              if place == nil { break }
            }
            try #require(
              place == nil, "\(save) mask \(mask) components \(components) initial \(initial): byte \(place ?? 0)")
          }
        }
      }
    }
  }

  /// XRSTOR64, XRSTOR and FXRSTOR [RSI] of what XSAVE and XSAVEC stored.
  @Test func restoredStateMatchesTheHosts() throws {
    let bench = try NativeBench()
    let oracle = try NativeOracle()
    var random = SeededRandom(seed: 4)
    for (save, restore) in [
      (Self.saves[0], [0x48, 0x0f, 0xae, 0x2e]), (Self.saves[3], [0x48, 0x0f, 0xae, 0x2e]),
      (Self.saves[1], [0x0f, 0xae, 0x2e]), (Self.saves[5], [0x48, 0x0f, 0xae, 0x0e]),
    ] as [([UInt8], [UInt8])] {
      for (saved, restored) in (0..<64).map({ ($0 & 7, $0 >> 3) }) {
        for components in 0..<16 {
          memset(bench.host(NativeBench.data), 0, Self.areaSize)
          fill(bench, oracle, &random, components)
          setRegisters(bench, oracle, mask: UInt64(saved))
          try #require(try bench.run(save) == nil)
          memcpy(Self.hostArea, bench.host(NativeBench.data), Self.areaSize)
          fill(bench, oracle, &random, 15)
          setRegisters(bench, oracle, mask: UInt64(restored))
          try #require(try bench.run(restore) == nil)
          oracle.run(restore)
          let message = "\(restore) saved \(saved) restored \(restored) components \(components)"
          for number in 0..<16 {
            try #require(memcmp(bench.state + 160 + 16 * number, oracle.state + 32 * number, 16) == 0, "\(message)")
            try #require(
              memcmp(bench.state + 576 + 16 * number, oracle.state + 32 * number + 16, 16) == 0, "\(message)")
          }
          let image = oracle.state + NativeOracle.image
          try #require(memcmp(bench.state, image, 5) == 0, "\(message)")
          try #require(memcmp(bench.state + 32, image + 32, 128) == 0, "\(message)")
          try #require(memcmp(bench.state + 24, image + 24, 4) == 0, "\(message)")
        }
      }
    }
  }

  // MARK: Refusals

  private func store(_ bench: NativeBench, _ value: UInt64, _ offset: UInt64) {
    bench.host(NativeBench.data + offset).storeBytes(of: value, as: UInt64.self)
  }

  @Test func badAreasAreRefused() throws {
    let bench = try NativeBench()
    bench.processor.setGPR(0, 7)
    bench.processor.setGPR(6, NativeBench.data + 16)
    let xrstor: [UInt8] = [0x48, 0x0f, 0xae, 0x2e]
    for instruction in [xrstor] + Self.saves.prefix(5) {
      #expect(try bench.run(instruction) == .generalProtection(), "misaligned \(instruction)")
    }
    bench.processor.setGPR(6, NativeBench.data)
    #expect(try bench.run(xrstor) == nil)
    // MXCSR, XSTATE_BV, XCOMP_BV, reserved bytes of both formats; each put right again.
    let compacted: UInt64 = 1 << 63
    for (bits, format, offset, value) in [
      (7, 0, 24, 0x1_0000), (8, 0, 24, 0x1f80), (7, 4, 24, 0x1f80), (7, 0, 528, 1), (4, compacted | 3, 24, 0x1f80),
      (1, compacted | 9, 24, 0x1f80), (1, compacted | 1, 568, 1), (2, compacted | 2, 24, 0x1_0000),
    ] as [(UInt64, UInt64, UInt64, UInt64)] {
      store(bench, bits, 512)
      store(bench, format, 520)
      store(bench, value, offset)
      #expect(try bench.run(xrstor) == .generalProtection(), "\(bits) \(format) \(offset) \(value)")
      store(bench, offset == 24 ? 0x1f80 : 0, offset)
    }
    // The standard format minds only eight of the reserved bytes.
    store(bench, 7, 512)
    store(bench, 0, 520)
    store(bench, 1, 568)
    #expect(try bench.run(xrstor) == nil)
    // XRSTORS takes the compacted format only.
    #expect(try bench.run([0x48, 0x0f, 0xc7, 0x1e]) == .generalProtection())
    store(bench, 0, 568)
    store(bench, compacted | 7, 520)
    #expect(try bench.run([0x48, 0x0f, 0xc7, 0x1e]) == nil)
  }

  @Test func disabledOrUnprivilegedFormsAreRefused() throws {
    let bench = try NativeBench()
    bench.processor.setGPR(6, NativeBench.data)
    bench.cpu.pointee.cr4 &= ~CR4.osxsave
    #expect(try bench.run(Self.saves[0]) == .invalidOpcode)
    bench.cpu.pointee.cr4 |= CR4.osxsave
    bench.cpu.pointee.cr0 |= CR0.ts
    for save in Self.saves { #expect(try bench.run(save) == .deviceNotAvailable) }
    bench.cpu.pointee.cr0 &= ~CR0.ts
    bench.cpu.pointee.cpl = 3
    // XSAVES, XRSTORS.
    #expect(try bench.run([0x48, 0x0f, 0xc7, 0x2e]) == .generalProtection())
    #expect(try bench.run([0x48, 0x0f, 0xc7, 0x1e]) == .generalProtection())
  }

  @Test func controlRegisterOfVectorsIsChecked() throws {
    let bench = try NativeBench()
    bench.processor.setGPR(6, NativeBench.data)
    store(bench, 0x9fc0, 0)
    #expect(try bench.run([0x0f, 0xae, 0x16]) == nil)
    #expect(bench.state.load(fromByteOffset: 24, as: UInt32.self) == 0x9fc0)
    store(bench, 0x2_1f80, 0)
    #expect(try bench.run([0x0f, 0xae, 0x16]) == .generalProtection())
    #expect(try bench.run([0x0f, 0xae, 0x5e, 0x40]) == nil)
    #expect(bench.host(NativeBench.data + 64).load(as: UInt32.self) == 0x9fc0)
  }

  // MARK: The guest's own parts

  @Test func pointersAreTheGuests() throws {
    let bench = try NativeBench()
    bench.processor.setGPR(6, NativeBench.data)
    // FLD1; FXSAVE64; FXSAVE.
    #expect(try bench.run(sequence: [[0xd9, 0xe8], Self.saves[5]]) == nil)
    let image = bench.host(NativeBench.data)
    #expect(image.load(fromByteOffset: 6, as: UInt16.self) == 0x1e8)
    #expect(image.load(fromByteOffset: 8, as: UInt64.self) == bench.cpu.pointee.fpuInstructionPointer)
    #expect(bench.cpu.pointee.fpuInstructionPointer >= NativeBench.code)
    #expect(try bench.run(Self.saves[6]) == nil)
    #expect(image.load(fromByteOffset: 12, as: UInt16.self) == 0x10)
    bench.cpu.pointee.fpuInstructionPointer = 0
    bench.cpu.pointee.fpuCodeSegment = 0
    #expect(try bench.run([0x0f, 0xae, 0x0e]) == nil)
    #expect(bench.cpu.pointee.fpuInstructionPointer >= NativeBench.code)
    #expect(bench.cpu.pointee.fpuCodeSegment == 0x10)
  }

  /// PKRU follows AVX state, or the header in a compacted area without it.
  @Test func protectionKeyRightsAreSaved() throws {
    let bench = try NativeBench()
    bench.cpu.pointee.xcr0 = 0x207
    bench.cpu.pointee.pkru = 0x5555_5554
    bench.processor.setGPR(6, NativeBench.data)
    for (save, mask, offset) in [(0, 0x200, 832), (3, 0x200, 576), (3, 0x204, 832)] as [(Int, UInt64, UInt64)] {
      memset(bench.host(NativeBench.data), 0, Self.areaSize)
      bench.processor.setGPR(0, mask)
      #expect(try bench.run(Self.saves[save]) == nil)
      #expect(bench.host(NativeBench.data + offset).load(as: UInt64.self) == 0x5555_5554)
      bench.cpu.pointee.pkru = 0
      #expect(try bench.run([0x48, 0x0f, 0xae, 0x2e]) == nil)
      #expect(bench.cpu.pointee.pkru == 0x5555_5554)
    }
  }

  @Test func areaMayCrossPages() throws {
    let bench = try NativeBench()
    bench.setVector(15, SIMD2<UInt64>(1, 2))
    bench.processor.setGPR(0, 7)
    bench.processor.setGPR(6, NativeBench.data + 4096 - 128)
    #expect(try bench.run(Self.saves[0]) == nil)
    #expect(bench.host(NativeBench.data + 4096 - 128 + 160 + 240).load(as: UInt64.self) == 1)
    bench.setVector(15, SIMD2<UInt64>())
    #expect(try bench.run([0x48, 0x0f, 0xae, 0x2e]) == nil)
    #expect(bench.vector(15) == SIMD2(1, 2))
  }
}
