import CHost
import CZydis
import Glibc
import Host
import Testing
import X86

@testable import Processor

/// What native instructions cost in a chain. Prints; set RINGSIDE_BENCH to run it.
@Suite(.serialized, .enabled(if: getenv("RINGSIDE_BENCH") != nil)) struct NativeCostTests {
  private static let length = 1000
  private static let rounds = 2000

  private static let cases: [(String, [[UInt8]])] = [
    ("NOP (chain handler)", [[0x90]]),
    ("ADDPD xmm1, xmm2, dependent", [[0x66, 0x0f, 0x58, 0xca]]),
    ("ADDPD, eight registers in turn", (0..<8).map { [0x66, 0x0f, 0x58, 0xc0 | $0 << 3 | ($0 + 1) & 7] }),
    ("ADDPD xmm1, [RSI]", [[0x66, 0x0f, 0x58, 0x0e]]),
    ("MOVUPS xmm1, [RSI]", [[0x0f, 0x10, 0x0e]]),
    ("MOVUPS [RSI], xmm1", [[0x0f, 0x11, 0x0e]]),
    ("MOVAPS xmm1, xmm2", [[0x0f, 0x28, 0xca]]),
    ("UCOMISD xmm1, xmm2", [[0x66, 0x0f, 0x2e, 0xca]]),
    ("VPADDD ymm1, ymm2, ymm3", [[0xc5, 0xed, 0xfe, 0xcb]]),
    ("VZEROUPPER", [[0xc5, 0xf8, 0x77]]),
    ("FADD st0, st1", [[0xd8, 0xc1]]),
    ("FLD qword [RSI]; FSTP st0", [[0xdd, 0x06], [0xdd, 0xd8]]),
    ("PADDB mm1, mm2", [[0x0f, 0xfc, 0xca]]),
    ("LDMXCSR [RSI] (semantic function)", [[0x0f, 0xae, 0x16]]),
    ("XSAVES64 [RSI]", [[0x48, 0x0f, 0xc7, 0x2e]]),
    ("XSAVES64 [RSI], x87 idle", [[0x48, 0x0f, 0xc7, 0x2e]]),
    ("XRSTORS64 [RSI]", [[0x48, 0x0f, 0xc7, 0x1e]]),
  ]

  @Test func chains() throws {
    let bench = try NativeBench()
    bench.processor.setGPR(6, NativeBench.data)
    bench.processor.setGPR(0, 7)
    let chain = UnsafeMutablePointer<Operation>.allocate(capacity: Self.length + 1)
    defer { chain.deallocate() }
    bench.host(NativeBench.data).storeBytes(of: 0x1f80, as: UInt64.self)
    for (name, instructions) in Self.cases {
      if name.hasPrefix("XRSTORS") {
        _ = try bench.run([0x48, 0x0f, 0xc7, 0x2e])
      }
      let operations = try instructions.map { try bench.prepare($0) }
      for index in 0..<Self.length { chain[index] = operations[index % operations.count].pointee }
      chain[Self.length] = operations[0][1]
      try bench.processor.checkWritable(NativeBench.data, count: 64)
      try bench.processor.native.enter(bench.cpu)
      if !name.contains("idle") { bench.processor.takeX87() }
      let start = MonotonicTime.now
      for _ in 0..<Self.rounds { chain.pointee.handler(bench.cpu, chain, 0, 0, 0, 0) }
      let elapsed = Double(MonotonicTime.now - start)
      bench.processor.native.leave(bench.cpu)
      #expect(bench.fault == nil, "\(name)")
      print("\(name): \(elapsed / Double(Self.length * Self.rounds)) ns")
    }
    let start = MonotonicTime.now
    for _ in 0..<1_000_000 {
      try bench.processor.native.enter(bench.cpu)
      bench.processor.native.leave(bench.cpu)
    }
    print("enter and leave: \(Double(MonotonicTime.now - start) / 1e6) ns")
    let code: [UInt8] = [0x66, 0x0f, 0x58, 0x0e]
    let decoder = InstructionDecoder()
    _ = decoder.decode(code, count: 4, mode: [.code64, .flat])
    var op = decoder.operands(offset: 0, number: 0)
    let again = MonotonicTime.now
    for _ in 0..<100_000 {
      _ = bench.processor.native.prepare(
        decoder.instruction, operands: decoder.operands, bytes: code, mode: [.code64, .flat], into: &op)
    }
    print("preparing a known instruction: \(Double(MonotonicTime.now - again) / 1e5) ns")
  }
}
