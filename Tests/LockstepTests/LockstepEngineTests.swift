import CHost
import Machine
import Memory
import Testing
import X86

@testable import Lockstep

@Suite struct LockstepEngineTests {
  @Test(arguments: [1, 2, 16, 99, 100, 256]) func equalEnginesRunThrough(window: Int) throws {
    let bench = try LockstepBench(window: window)
    #expect(try bench.run() == .budgetSpent)
    #expect(bench.lockstep.finish() == nil)
    #expect(bench.state.pointee.instructionCount == 1000 && bench.state.pointee.gpr.0 == 1000)
    #expect(bench.state.pointee.gpr.3 == 999, "the answer of the last port read")
    #expect(bench.lockstep.statistics.instructions == 1000)
    #expect(bench.lockstep.statistics.windows >= UInt64(1000 / window))
    #expect(bench.lockstep.statistics.undefinedFlags.isEmpty && bench.lockstep.statistics.unexplainedFlags == 0)
  }

  @Test func aRegisterIsReportedWithItsCode() throws {
    let bench = try LockstepBench(errorAt: 525) { state, _ in
      state.gpr.6 = 0xabc
      return nil
    }
    let report = bench.report()
    for part in [
      "right and wrong differ after 531 instructions",
      "rsi: 0000000000000000 with right, 0000000000000abc with wrong",
      "the first difference is behind instruction 10", "inc ax", "0000:000000000000100c  40 ",
    ] {
      #expect(report.contains(part), "\(part) is not in: \(report)")
    }
    // It stays so.
    #expect(bench.report() == report)
  }

  @Test func aDefinedFlagIsReported() throws {
    let bench = try LockstepBench(errorAt: 32) { state, _ in
      state.rflags |= RFLAGS.zf
      return nil
    }
    let report = bench.report()
    #expect(report.contains("rflags: 00000002 [] with right, 00000042 [ZF] with wrong"), "\(report)")
  }

  @Test func anUndefinedFlagIsPassedOver() throws {
    // MUL CX.
    let bench = try LockstepBench(code: [0xf7, 0xe1], errorAt: 32) { state, _ in
      state.rflags |= RFLAGS.zf
      return nil
    }
    #expect(bench.report() == "no difference")
    #expect(bench.lockstep.statistics.undefinedFlags == ["mul": 1])
    #expect(bench.lockstep.statistics.description.contains("1 times where they are undefined (mul 1)"))
  }

  @Test func aFlagThatNobodyWritesIsCounted() throws {
    let bench = try LockstepBench(code: [0x90], errorAt: 32) { state, _ in
      state.rflags |= RFLAGS.zf
      return nil
    }
    #expect(bench.report() == "no difference")
    #expect(bench.lockstep.statistics.unexplainedFlags == 1)
  }

  @Test func otherFlagsAreNeverPassedOver() throws {
    let bench = try LockstepBench(code: [0xf7, 0xe1], errorAt: 32) { state, _ in
      state.rflags |= RFLAGS.df
      return nil
    }
    #expect(bench.report().contains("[DF] with wrong"))
  }

  @Test func memoryIsReported() throws {
    let bench = try LockstepBench(errorAt: 500) { _, memory in
      _ = memory.store(0x55 as UInt8, at: GuestPhysicalAddress(0x3003))
      return nil
    }
    let report = bench.report()
    #expect(
      report.contains("memory at 0x00003000: 0000000000000000 with right, 0000000055000000 with wrong"), "\(report)")
  }

  @Test func anExitIsReported() throws {
    let bench = try LockstepBench(errorAt: 40) { _, _ in .portWrite(port: 0x80, size: 1, value: 7) }
    let report = bench.report()
    #expect(
      report.contains("exit: budgetSpent with right, portWrite(port: 128, size: 1, value: 7) with wrong"), "\(report)")
  }

  @Test func whatComesFromOutsideGoesToBoth() throws {
    let bench = try LockstepBench()
    try bench.run(50)
    #expect(bench.memory.store(0x1234 as UInt32, at: GuestPhysicalAddress(0x4000)))
    #expect(bench.lockstep.twin.memory.load(GuestPhysicalAddress(0x4000), as: UInt32.self) == 0x1234)
    bench.state.pointee.gpr.7 = 9
    bench.state.pointee.interruptPending = 1
    try bench.run(50)
    #expect(bench.lockstep.twin.state.pointee.gpr.7 == 9)
    bench.lockstep.stateChanged(&bench.state.pointee)
    bench.lockstep.invalidate(0..<4096)
    #expect(bench.engines.map(\.stateChanges) == [1, 1])
    #expect(bench.engines[0].invalidated == [0..<4096])
    #expect(bench.lockstep.finish() == nil)
  }

  @Test func attentionComesBetweenWindows() throws {
    let bench = try LockstepBench()
    try bench.run(10)
    bench.raise(.interrupt)
    #expect(try bench.lockstep.run(&bench.state.pointee, budget: 1000) == .attention(CPUAttention.interrupt.rawValue))
    #expect(bench.state.pointee.instructionCount == 10)
    #expect(try bench.lockstep.run(&bench.state.pointee, budget: 20) == .budgetSpent)
  }

  @Test func enginesMustCount() throws {
    #expect(throws: EngineFailure.self) {
      try LockstepBench(countsInstructions: false) { _, _ in nil }
    }
  }
}
