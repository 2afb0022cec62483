import CHost
import Glibc
import Host
import TestSupport
import Testing
import X86

@testable import Machine

@Suite(.timeLimit(.minutes(1))) struct VirtualMachineTests {
  @Test func resetReloadsTheGuestAndRestartsIt() throws {
    let loads = Shared(0)
    let test = try TestMachine([
      { state in state.gpr.0 == 1 ? requestReset(&state) : powerOff(&state) }
    ])
    test.engine.restarts = true
    test.obeyRequests()
    test.machine.reload = {
      loads.change { $0 += 1 }
      test.state.pointee.gpr.0 = UInt64(loads.current)
      test.state.pointee.rip = 0x100000
    }
    #expect(try test.run() == .poweredOff)
    #expect(loads.current == 2)
    #expect(test.device.state.resets == 2)
    #expect(test.engine.stateChanges == 2)
  }

  /// Processors lose their state, devices go on until one of them wakes the machine, and RAM stays.
  @Test func suspensionEndsWhereWakingLeads() throws {
    let test = try TestMachine(
      [
        { state in state.rip == 0x1234 ? powerOff(&state) : .portWrite(port: 0x10, size: 1, value: 1) },
        { _ in .portWrite(port: 0x10, size: 1, value: 2) },
      ], [])
    test.engine.restarts = true
    let (loads, idle) = (Shared(0), Shared(0))
    test.machine.reload = { loads.change { $0 += 1 } }
    test.machine.onWake = { test.state.pointee.rip = 0x1234 }
    test.machine.onIdle = { idle.change { $0 += 1 } }
    test.obeyRequests()
    let obey = test.device.onWrite
    test.device.onWrite = { value in
      if value == 1 { test.device.platform?.request(.suspend) }
      obey?(value)
    }
    try test.machine.start()
    // The second processor may idle before, and both do then.
    #expect(idle.wait { $0 >= 2 })
    #expect(test.device.accesses == [.write(region: 0, offset: 0, size: 1, value: 1)])
    test.machine.lock.withLock { test.device.platform?.request(.wake) }
    #expect(test.wait() == .poweredOff)
    #expect(loads.current == 1 && test.device.state.resets == 2)
  }

  @Test func resetEndsTheRunWhereWanted() throws {
    let test = try TestMachine([requestReset])
    test.machine.endsOnReset = true
    test.obeyRequests()
    #expect(try test.run() == .resetRequested)
  }

  @Test func tripleFaultIsACrashWithRegisters() throws {
    let test = try TestMachine([
      { state in
        state.rip = 0xdead_beef
        state.activity = .shutdown
        return .shutdown
      }
    ])
    test.machine.endsOnReset = true
    guard case .crashed(let dump) = try test.run() else {
      Issue.record("not a crash")
      return
    }
    #expect(dump.contains("CPU 0: RIP=00000000deadbeef"))
    #expect(dump.contains("RDX=0000000000000600"))
    #expect(dump.contains("CS   f000 base=00000000ffff0000 limit=0000ffff"))
  }

  @Test func tripleFaultOtherwiseResets() throws {
    let loads = Shared(0)
    let test = try TestMachine([
      { state in
        if loads.current == 2 { return powerOff(&state) }
        state.activity = .shutdown
        return .shutdown
      }
    ])
    test.engine.restarts = true
    test.obeyRequests()
    test.machine.reload = { loads.change { $0 += 1 } }
    #expect(try test.run() == .poweredOff)
    #expect(loads.current == 2)
  }

  @Test func failedReloadEndsTheRun() throws {
    let loads = Shared(0)
    let test = try TestMachine([requestReset])
    test.obeyRequests()
    test.machine.reload = {
      loads.change { $0 += 1 }
      if loads.current > 1 { throw HostFailure("read 'kernel'", code: ENOENT) }
    }
    #expect(
      try test.run()
        == .failed(
          "the guest could not be loaded again after a reset: could not read 'kernel': No such file or directory"))
  }

  @Test func debugExitCarriesItsStatus() throws {
    let test = try TestMachine([{ _ in .portWrite(port: 0x10, size: 1, value: 21) }])
    test.device.onWrite = { value in test.device.platform?.request(.exit(status: Int32(value) << 1 | 1)) }
    #expect(try test.run() == .exited(status: 43))
  }

  @Test func firstEndWins() throws {
    let test = try TestMachine([halt])
    test.machine.end(.failed("first"))
    test.machine.end(.stopped)
    test.machine.reset()
    #expect(try test.run() == .failed("first"))
  }

  @Test func pausedMachineRunsNothingAndKeepsItsTime() throws {
    let runs = Shared(0)
    let spin: ScriptedEngine.Step = { _ in
      runs.change { $0 += 1 }
      usleep(100)
      return .budgetSpent
    }
    let test = try TestMachine(Array(repeating: spin, count: 100_000))
    try test.machine.start()
    #expect(runs.wait { $0 > 3 })
    test.machine.pause()
    test.machine.pause()
    let (count, time) = (runs.current, test.machine.clock.now)
    let stamp = hostTimeStamp() &+ test.state.pointee.tscOffset
    usleep(30_000)
    #expect(runs.current == count)
    #expect(test.machine.clock.now == time)
    test.machine.resume()
    // The pause is missing from the guest's time-stamp counter too.
    let resumed = hostTimeStamp() &+ test.state.pointee.tscOffset
    #expect(test.state.pointee.tscOffset == test.machine.clock.timeStampOffset)
    #expect(resumed > stamp || stamp - resumed < 1 << 28)
    #expect(runs.wait { $0 > count })
    test.machine.resume()
    #expect(test.machine.lock.withLock { test.clock.resumptions } == 1)
    test.machine.end()
    #expect(test.wait() == .stopped)
    test.machine.pause()
  }

  @Test func pausedMachineCanEndAndReset() throws {
    let test = try TestMachine([halt])
    try test.machine.start()
    test.machine.pause()
    let resets = test.device.state.resets
    test.machine.reset()
    let deadline = MonotonicTime.now + 5_000_000_000
    while test.machine.lock.withLock({ test.device.state.resets }) == resets, MonotonicTime.now < deadline {
      usleep(500)
    }
    #expect(test.machine.lock.withLock { test.device.state.resets } == resets + 1)
    test.machine.end()
    #expect(test.wait() == .stopped)
  }

  @Test func severalProcessorsResetTogether() throws {
    let loads = Shared(0)
    let busy: ScriptedEngine.Step = { _ in .yield }
    let test = try TestMachine(
      [{ state in loads.current == 3 ? powerOff(&state) : requestReset(&state) }], Array(repeating: busy, count: 5000))
    test.engine.restarts = true
    test.obeyRequests()
    test.machine.reload = {
      loads.change { $0 += 1 }
      test.machine.cpus[1].state.pointee.activity = .running
    }
    #expect(try test.run() == .poweredOff)
    #expect(loads.current == 3)
  }

  @Test func writesToCodeReachTheEngine() throws {
    let test = try TestMachine([halt])
    test.machine.memory.attributes[2] |= 2
    #expect(test.machine.memory.store(UInt32(1), at: GuestPhysicalAddress(0x2ffe)))
    #expect(test.engine.invalidated.withLock { $0 } == [0x2ffe..<0x3002])
    #expect(test.machine.memory.store(UInt32(1), at: GuestPhysicalAddress(0x4000)))
    #expect(test.engine.invalidated.withLock { $0.count } == 1)
  }

  @Test func snapshotRestoresProcessorsAndDevices() throws {
    let test = try TestMachine([halt])
    let idle = Shared(0)
    test.machine.onIdle = { idle.change { $0 += 1 } }
    try test.machine.start()
    #expect(idle.wait { $0 == 1 })
    test.machine.pause()
    test.device.state.value = 5
    test.state.pointee.gpr.3 = 77
    let attention = test.state.pointee.engine.attention
    let snapshot = test.machine.save()
    test.device.state.value = 6
    test.state.pointee.gpr.3 = 78
    try test.machine.restore(snapshot)
    #expect(test.device.state.value == 5)
    #expect(test.state.pointee.gpr.3 == 77)
    #expect(test.state.pointee.engine.attention == attention)
    var wrong = snapshot
    wrong.devices[0].state = 3
    #expect(throws: MachineSnapshot.Mismatch.self) { try test.machine.restore(wrong) }
    wrong = snapshot
    wrong.processors = []
    #expect(throws: MachineSnapshot.Mismatch.self) { try test.machine.restore(wrong) }
    test.machine.end()
    #expect(test.wait() == .stopped)
  }
}
