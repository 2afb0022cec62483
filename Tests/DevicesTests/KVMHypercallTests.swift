import CHost
import Machine
import TestSupport
import Testing
import X86

@testable import Devices

@Suite struct KVMHypercallTests {
  private let bench: APICBench
  private let interface: KVMHypercalls

  init() throws {
    bench = try APICBench(cpuCount: 3)
    interface = KVMHypercalls(bench.fabric)
  }

  /// A call from 64-bit code unless `isWide` says otherwise; returns RAX.
  private func call(
    _ number: UInt64, _ arguments: [UInt64] = [0, 0, 0, 0], isWide: Bool = true, cpl: UInt8 = 0
  ) -> Int64 {
    var state = CPUState()
    state.efer = EFER.lma
    state.segments.1.attributes = isWide ? SegmentAttributes.long : SegmentAttributes.big
    state.cpl = cpl
    state.gpr.0 = number
    (state.gpr.3, state.gpr.1, state.gpr.2, state.gpr.6) = (arguments[0], arguments[1], arguments[2], arguments[3])
    interface.hypercall(&state, cpu: 0)
    return Int64(bitPattern: state.gpr.0)
  }

  @Test func numbers() {
    #expect(call(1) == 0 && call(11) == 0)
    #expect(call(0) == -1000 && call(.max) == -1000)
    #expect(call(.max, isWide: false) == 0xffff_fc18)
    #expect(call(0x1_0000_0001, isWide: false) == 0)
    #expect(call(1, cpl: 3) == -1)
  }

  @Test func interruptsForASet() {
    #expect(call(10, [0b110, 0, 0, 0x41]) == 2)
    #expect((0..<3).map { bench.fabric.pendingVector(cpu: $0) } == [nil, 0x41, 0x41])
    // The set begins anywhere, and what is beyond the last processor is nobody.
    #expect(call(10, [.max, .max, 2, 0x52]) == 1)
    #expect(bench.fabric.pendingVector(cpu: 2) == 0x52)
    #expect(call(10, [0xffff_ffff, 0, 0xffff_ffff, 0]) == 0)
    #expect(call(10, [.max, .max, .max, 0x41]) == 0)
    #expect(call(10, [1, 0, 0, 0x40041]) == -22 && call(10, [1, 0, 0, 0x841]) == -22)
  }

  @Test func narrowSets() {
    // The second word continues the set at 32, and arguments have 32 bits.
    #expect(call(10, [0xffff_ffff_0000_0001, 0, 0, 0x41], isWide: false) == 1)
    #expect(bench.fabric.pendingVector(cpu: 0) == 0x41 && bench.fabric.pendingVector(cpu: 1) == nil)
    #expect(call(10, [0, 1, 0, 0x41], isWide: false) == 0)
  }
}
