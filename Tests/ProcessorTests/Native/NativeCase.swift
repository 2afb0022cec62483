import CHost
import CZydis
import Glibc
import TestSupport
import Testing
import X86

@testable import Processor

/// One run of one instruction form in the native unit and on the host, from the same random state.
struct NativeCase {
  /// Where the memory operand lies.
  enum Variant: CaseIterable {
    case aligned, misaligned, crossingPages

    func applies(to access: NativeMemoryAccess?) -> Bool {
      guard let access else { return self == .aligned }
      return self == .aligned || (!access.isAligned && access.size > 1)
    }

    func offset(_ size: Int) -> Int {
      switch self {
      case .aligned: 64
      case .misaligned: 64 + 1
      case .crossingPages: 4096 - (size + 1) / 2
      }
    }
  }

  let form: NativeForms.Form
  let access: NativeMemoryAccess?
  let variant: Variant

  private static let window = 8192
  nonisolated(unsafe) private static let hostWindow: UnsafeMutableRawPointer = {
    let window = UnsafeMutableRawPointer.allocate(byteCount: Self.window, alignment: 4096)
    window.initializeMemory(as: UInt8.self, repeating: 0, count: Self.window)
    return window
  }()

  /// The memory operand of the decoded instruction.
  static func access(of decoder: InstructionDecoder) -> NativeMemoryAccess? {
    var bytes = [UInt8](repeating: 0, count: 16)
    return NativeForm(decoder.instruction, operands: decoder.operands, bytes: &bytes)?.memory
  }

  mutating func compare(_ bench: NativeBench, _ oracle: NativeOracle, _ random: inout SeededRandom) throws {
    let offset = variant.offset(access?.size ?? 1)
    fill(bench, oracle, &random)
    setGeneral(bench, oracle, 0, form.isMemory ? nil : random.next(), guest: NativeBench.data + UInt64(offset))
    if form.isMemory {
      oracle.state.storeBytes(
        of: UInt64(UInt(bitPattern: Self.hostWindow + offset)), toByteOffset: NativeOracle.generals, as: UInt64.self)
    }
    // The first run in a page goes through the slow path and fills the TLB.
    if form.isMemory, variant != .crossingPages { try warm(bench) }
    let operations = try bench.prepare(form.bytes)
    let row = operations.pointee.semantic
    try #require(
      row == PseudoInstructions.native || form.mnemonic.contains("maskmov"),
      "\(form.mnemonic) \(form.bytes) is not prepared")
    try bench.processor.native.enter(bench.cpu)
    // Half of the cases find the x87 unit in use. Then nothing but a page boundary stands in the chain handler's way.
    if random.next() & 1 == 0 {
      bench.processor.takeX87()
      let readsFlags = form.mnemonic.hasPrefix("fcmov")
      if variant != .crossingPages, !readsFlags { operations.pointee.semantic = PseudoInstructions.invalidOpcode }
    }
    bench.step(operations)
    bench.processor.native.leave(bench.cpu)
    try #require(bench.fault == nil, "\(form.mnemonic) \(form.bytes) \(variant) faults")
    oracle.run(form.bytes)
    let difference = difference(bench, oracle)
    try #require(difference == nil, "\(form.mnemonic) \(form.bytes) \(variant): \(difference ?? "")")
  }

  private func warm(_ bench: NativeBench) throws {
    bench.processor.modeChanged()
    try bench.processor.checkWritable(NativeBench.data, count: 1)
  }

  // MARK: The state before

  private func fill(_ bench: NativeBench, _ oracle: NativeOracle, _ random: inout SeededRandom) {
    for number in 0..<16 {
      for half in 0..<2 {
        let value = SIMD2(Self.interesting(&random), Self.interesting(&random))
        bench.state.storeBytes(
          of: value, toByteOffset: (half == 0 ? 160 : 576) + 16 * number, as: SIMD2<UInt64>.self)
        oracle.state.storeBytes(of: value, toByteOffset: 32 * number + 16 * half, as: SIMD2<UInt64>.self)
      }
      if number > 0 { setGeneral(bench, oracle, number, random.next() >> (random.next() & 63), guest: 0) }
    }
    let flags = RFLAGS.fixed | random.next() & RFLAGS.arithmetic
    bench.cpu.pointee.rflags = flags
    oracle.state.storeBytes(of: flags, toByteOffset: NativeOracle.flags, as: UInt64.self)
    fillX87(bench, oracle, &random)
    for place in stride(from: 0, to: Self.window, by: 8) where place < 128 || (4032..<4160).contains(place) {
      let value = Self.interesting(&random)
      (Self.hostWindow + place).storeBytes(of: value, as: UInt64.self)
      bench.host(NativeBench.data + UInt64(place)).storeBytes(of: value, as: UInt64.self)
    }
  }

  private func setGeneral(
    _ bench: NativeBench, _ oracle: NativeOracle, _ number: Int, _ value: UInt64?, guest: UInt64
  ) {
    bench.processor.setGPR(number, value ?? guest)
    oracle.state.storeBytes(of: value ?? 0, toByteOffset: NativeOracle.generals + number * 8, as: UInt64.self)
  }

  /// Masked exceptions, any rounding, any stack; registers mostly small numbers.
  private func fillX87(_ bench: NativeBench, _ oracle: NativeOracle, _ random: inout SeededRandom) {
    let area = bench.state
    area.storeBytes(of: UInt16(0x37f | random.next() & 0xc00), as: UInt16.self)
    area.storeBytes(of: UInt16(random.next() & 0x7f00), toByteOffset: 2, as: UInt16.self)
    area.storeBytes(of: UInt8(truncatingIfNeeded: random.next() | random.next()), toByteOffset: 4, as: UInt8.self)
    area.storeBytes(of: UInt32(0x1f80 | random.next() & 0xe000), toByteOffset: 24, as: UInt32.self)
    for number in 0..<8 {
      let exponent = random.next() & 7 == 0 ? UInt16(random.next() & 0xffff) : UInt16(0x3ff0 + random.next() & 0x1f)
      area.storeBytes(of: Self.interesting(&random) | 1 << 63, toByteOffset: 32 + 16 * number, as: UInt64.self)
      area.storeBytes(of: UInt64(exponent), toByteOffset: 40 + 16 * number, as: UInt64.self)
    }
    memcpy(oracle.state + NativeOracle.image, area, 160)
    memset(oracle.state + NativeOracle.image + 6, 0, 18)
  }

  private static func interesting(_ random: inout SeededRandom) -> UInt64 {
    switch random.next() & 7 {
    case 0: return random.next() & 0x0f0f_0f0f_0f0f_0f0f
    case 1: return Double(Int64(truncatingIfNeeded: random.next() & 0xffff) - 0x8000).bitPattern
    case 2:
      let value = Float(Int64(truncatingIfNeeded: random.next() & 0xfff) - 0x800) / 16
      return UInt64(value.bitPattern) << 32 | UInt64((value * 3).bitPattern)
    case 3: return [0, ~0, 1 << 63, 0x7ff0 << 48, 0x3ff0 << 48, 0x7f80_0000_ff80_0000][Int(random.next() % 6)]
    default: return random.next()
    }
  }

  // MARK: The state after

  private func difference(_ bench: NativeBench, _ oracle: NativeOracle) -> String? {
    for number in 0..<16 {
      for half in 0..<2 {
        let ours = bench.state.load(fromByteOffset: (half == 0 ? 160 : 576) + 16 * number, as: SIMD2<UInt64>.self)
        let theirs = oracle.state.load(fromByteOffset: 32 * number + 16 * half, as: SIMD2<UInt64>.self)
        if ours != theirs { return "ymm\(number) half \(half): \(ours) for \(theirs)" }
      }
      if number == 4 || (number == 0 && form.isMemory) { continue }
      let ours = bench.processor.gpr(number)
      let theirs = oracle.state.load(fromByteOffset: NativeOracle.generals + number * 8, as: UInt64.self)
      if ours != theirs { return "general register \(number): \(ours) for \(theirs)" }
    }
    let flags = oracle.state.load(fromByteOffset: NativeOracle.flags, as: UInt64.self) & RFLAGS.arithmetic
    if bench.cpu.pointee.rflags & RFLAGS.arithmetic != flags {
      return "flags \(bench.cpu.pointee.rflags & RFLAGS.arithmetic) for \(flags)"
    }
    let image = oracle.state + NativeOracle.image
    if memcmp(bench.state, image, 5) != 0 || memcmp(bench.state + 32, image + 32, 128) != 0 { return "x87" }
    let ours = bench.state.load(fromByteOffset: 24, as: UInt32.self)
    let theirs = image.load(fromByteOffset: 24, as: UInt32.self)
    if ours != theirs { return "MXCSR \(ours) for \(theirs)" }
    if memcmp(bench.host(NativeBench.data), Self.hostWindow, Self.window) != 0 { return "memory" }
    return nil
  }
}
