import CHost
import Glibc
import Host
import TestSupport
import Testing
import X86

@testable import Machine

@Suite(.timeLimit(.minutes(1))) struct VirtualCPUTests {
  @Test func readsAreAnsweredAndWritesArrive() throws {
    let seen = Shared<[UInt64]>([])
    func taking(_ exit: VMExit) -> ScriptedEngine.Step {
      { state in
        seen.change { $0.append(state.completion.isValid == 1 ? state.completion.data : ~0) }
        state.completion.isValid = 0
        return exit
      }
    }
    let test = try TestMachine([
      { _ in .portRead(port: 0x12, size: 1) },
      taking(.memoryRead(address: GuestPhysicalAddress(0xfec0_0020), size: 4)),
      taking(.memoryWrite(address: GuestPhysicalAddress(0xfec0_0030), size: 8, value: 7)),
      { _ in .msrRead(index: 0x1b) }, taking(.timeStampRead), taking(.randomRead(size: 2)), taking(.budgetSpent),
      powerOff,
    ])
    test.obeyRequests()
    #expect(try test.run() == .poweredOff)
    let values = seen.current
    #expect(values.count == 5)
    #expect(Array(values[..<3]) == [2, 0x5566_7720, 0xfee0_0900])
    #expect(values[3] > 0 && values[3] < 1 << 40)
    #expect(values[4] < 1 << 16)
    #expect(test.device.accesses[2] == .write(region: 1, offset: 0x30, size: 8, value: 7))
  }

  @Test func unknownRegistersAreRefused() throws {
    let refusals = Shared<[UInt8]>([])
    let note: ScriptedEngine.Step = { state in
      refusals.change { $0.append(state.completion.isRefused) }
      return .budgetSpent
    }
    let test = try TestMachine([
      { _ in .msrRead(index: 0xdead) }, note, { _ in .msrWrite(index: 0xdead, value: 1) }, note,
      { _ in .msrWrite(index: 0x1b, value: 1) }, note, powerOff,
    ])
    test.obeyRequests()
    #expect(try test.run() == .poweredOff)
    #expect(refusals.current == [1, 1, 0])
    #expect(test.controller.registers[0x1b] == 1)
  }

  @Test func interruptIsInjectedWhenAllowedAndReportedWhenNot() throws {
    let windows = Shared<[UInt8]>([])
    let note: ScriptedEngine.Step = { state in
      windows.change { $0.append(state.wantsInterruptWindow) }
      return .budgetSpent
    }
    let test = try TestMachine([
      { _ in .portWrite(port: 0x10, size: 1, value: 1) },  // Raises vectors 0x30 and 0x31 with IF clear.
      note, note, enableInterrupts, note, note, powerOff,
    ])
    test.obeyRequests()
    let obey = test.device.onWrite
    test.device.onWrite = { value in
      if value == 1 {
        test.controller.raise(0x30)
        test.controller.raise(0x31)
      }
      obey?(value)
    }
    #expect(try test.run() == .poweredOff)
    #expect(test.engine.delivered == [0x30, 0x31])
    #expect(windows.current == [1, 1, 1, 0])
  }

  @Test func shadowAndTaskPriorityHoldInterruptsBack() throws {
    let counts = Shared<[Int]>([])
    let test = try TestMachine([
      { state in
        state.rflags |= 0x200
        state.cr8 = 3
        return .portWrite(port: 0x10, size: 1, value: 1)
      },
      { state in
        counts.change { $0.append(Int(state.interruptPending) + Int(state.wantsInterruptWindow)) }
        state.cr8 = 2
        state.interruptShadow = .STI
        return .taskPriorityChanged
      },
      { state in
        counts.change { $0.append(Int(state.interruptPending)) }
        return .budgetSpent
      }, { _ in .budgetSpent }, powerOff,
    ])
    test.obeyRequests()
    let obey = test.device.onWrite
    test.device.onWrite = { value in
      if value == 1 { test.controller.raise(0x31) }
      obey?(value)
    }
    #expect(try test.run() == .poweredOff)
    // Nothing at first: the vector's class is not above CR8.
    #expect(counts.current.first == 0)
    #expect(test.engine.delivered == [0x31])
  }

  /// A processor has the pins' new levels before its next instruction; reset takes them back.
  @Test func pinsReachTheState() throws {
    let seen = Shared<[[UInt8]]>([])
    let note: ScriptedEngine.Step = { state in
      seen.change { $0.append([state.isA20Masked, state.ignoresNumericErrors]) }
      return .portWrite(port: 0x10, size: 1, value: UInt32(seen.current.count))
    }
    let test = try TestMachine([note, note, note, requestReset, note, powerOff])
    test.obeyRequests()
    let (obey, router) = (test.device.onWrite, test.machine.interruptRouter)
    test.device.onWrite = { value in
      switch value {
      case 1: router.setAddressLine20(isOpen: false)
      case 2:
        router.setAddressLine20(isOpen: true)
        router.ignoreNumericErrors()
      case 3: router.setAddressLine20(isOpen: false)
      default: obey?(value)
      }
    }
    #expect(try test.run() == .poweredOff)
    #expect(seen.current == [[0, 0], [1, 0], [0, 1], [0, 0]])
  }

  /// A timer of its own wakes a processor that has nothing to do, without the event loop.
  @Test func sleepingProcessorWaitsForItsTimer() throws {
    let test = try TestMachine([enableInterrupts, halt, halt, powerOff])
    test.obeyRequests()
    var fired = 0
    var timer: (any ClockTimer)?
    timer = test.machine.clock.makeTimer("timer", processor: 0) {
      fired += 1
      test.controller.raise(0x30 + UInt8(fired))
      timer?.arm(at: test.machine.clock.now + 10_000_000)
    }
    test.machine.lock.withLock { timer?.arm(at: 10_000_000) }
    test.loop.stop()
    #expect(try test.run() == .poweredOff)
    #expect(test.engine.delivered == [0x31, 0x32])
  }

  /// Registers that the interrupt controller does not know may be the clock's.
  @Test func clockHasRegisters() throws {
    let answers = Shared<[UInt64]>([])
    let note: (CPUState) -> Void = { state in
      answers.change { $0.append(state.completion.isRefused != 0 ? .max : state.completion.data) }
    }
    let test = try TestMachine([
      { _ in .msrWrite(index: 0x12, value: 5) },
      { state in
        note(state)
        return .msrRead(index: 0x12)
      },
      { state in
        note(state)
        return .msrRead(index: 0x13)
      },
      { state in
        note(state)
        state.tscOffset &+= 77
        return .timeStampMoved
      }, powerOff,
    ])
    test.obeyRequests()
    #expect(try test.run() == .poweredOff)
    #expect(answers.current == [0, 5, .max])
    #expect(test.clock.timeStampOffset == 77 && test.controller.timeStampOffset == 77)
  }

  @Test func numericErrorGoesOut() throws {
    let levels = Shared<[Bool]>([])
    let test = try TestMachine([{ _ in .numericError }, powerOff])
    test.obeyRequests()
    test.machine.numericErrorLine = InterruptLine { level in levels.change { $0.append(level) } }
    #expect(try test.run() == .poweredOff)
    #expect(levels.current == [true])
  }

  @Test func haltedProcessorWakesForAnInterrupt() throws {
    let test = try TestMachine([enableInterrupts, halt, powerOff])
    test.obeyRequests()
    let idle = Shared(0)
    test.machine.onIdle = { idle.change { $0 += 1 } }
    try test.machine.start()
    #expect(idle.wait { $0 == 1 })
    test.machine.lock.withLock { test.controller.raise(0x20) }
    #expect(test.wait() == .poweredOff)
    #expect(test.engine.delivered == [0x20])
    #expect(test.machine.cpus[0].statistics.total(.halt).count == 1)
  }

  @Test func haltWithInterruptsOffWakesForNMIOnly() throws {
    let pending = Shared<UInt8>(0)
    let test = try TestMachine([
      halt,
      { state in
        pending.change { $0 = state.nmiPending }
        return powerOff(&state)
      },
    ])
    test.obeyRequests()
    let idle = Shared(0)
    test.machine.onIdle = { idle.change { $0 += 1 } }
    try test.machine.start()
    #expect(idle.wait { $0 == 1 })
    test.machine.lock.withLock { test.controller.raise(0x20) }
    #expect(idle.wait { $0 == 2 })
    test.machine.lock.withLock { test.machine.interruptRouter.nonMaskableInterrupt(cpu: 0) }
    #expect(test.wait() == .poweredOff)
    #expect(pending.current == 1)
    #expect(test.engine.delivered.isEmpty)
  }

  /// Two at once are both taken, more are lost; behind one that is handled waits one.
  @Test(arguments: [(0, 1, 1), (0, 3, 2), (1, 1, 1), (1, 2, 1)] as [(UInt8, Int, UInt8)])
  func nonMaskableInterruptsAreCounted(isBlocked: UInt8, count: Int, expected: UInt8) throws {
    let pending = Shared<UInt8>(9)
    let test = try TestMachine([
      { state in
        state.nmiBlocked = isBlocked
        return .portWrite(port: 0x10, size: 1, value: 1)
      },
      { state in
        pending.change { $0 = state.nmiPending }
        return powerOff(&state)
      },
    ])
    test.obeyRequests()
    let obey = test.device.onWrite
    let router = test.machine.interruptRouter
    test.device.onWrite = { value in
      if value == 1 { for _ in 0..<count { router.nonMaskableInterrupt(cpu: 0) } }
      obey?(value)
    }
    #expect(try test.run() == .poweredOff)
    #expect(pending.current == expected)
  }

  @Test func secondProcessorStartsBySIPI() throws {
    let start = Shared<[UInt64]>([])
    let test = try TestMachine(
      [{ _ in .portWrite(port: 0x10, size: 1, value: 1) }],
      [
        { state in
          start.change { $0 = [state.rip, state.segments.1.base, UInt64(state.segments.1.selector)] }
          return powerOff(&state)
        }
      ])
    test.obeyRequests()
    let obey = test.device.onWrite
    let router = test.machine.interruptRouter
    test.device.onWrite = { value in
      if value == 1 {
        router.initialize(cpu: 1)
        router.startUp(cpu: 1, vector: 0x9a)
        // There are only two.
        router.startUp(cpu: 2, vector: 0)
        router.nonMaskableInterrupt(cpu: -1)
      }
      obey?(value)
    }
    #expect(try test.run() == .poweredOff)
    #expect(start.current == [0, 0x9a000, 0x9a00])
    #expect(test.clock.initializations == 1)
  }

  @Test func interruptControllerIsSeenWhereItsPageIs() throws {
    let priorities = Shared<[UInt64]>([])
    let test = try TestMachine([
      { state in
        state.cr8 = 5
        return .memoryRead(address: GuestPhysicalAddress(0xfee0_0080), size: 4)
      },
      { state in
        priorities.change { $0 = [state.completion.data] }
        return .memoryWrite(address: GuestPhysicalAddress(0xfee0_0080), size: 4, value: 0x70)
      },
      { state in
        priorities.change { $0.append(state.cr8) }
        return .memoryRead(address: GuestPhysicalAddress(0xfee0_1080), size: 4)
      }, powerOff,
    ])
    test.obeyRequests()
    #expect(try test.run() == .poweredOff)
    #expect(priorities.current == [0x50, 7])
    #expect(test.controller.accesses == [0x80, 0, 0x80, 0x70])
  }

  @Test func sleepingProcessorKeepsTheEnginesInvalidation() throws {
    let attention = Shared<[UInt32]>([])
    let test = try TestMachine([
      halt,
      { state in
        attention.change { $0.append(state.engine.attention.map { attentionLoad($0) } ?? 0) }
        return powerOff(&state)
      },
    ])
    test.engine.leavesInvalidation = true
    test.obeyRequests()
    let idle = Shared(0)
    test.machine.onIdle = { idle.change { $0 += 1 } }
    try test.machine.start()
    #expect(idle.wait { $0 == 1 })
    test.machine.cpus[0].raise(.invalidate)
    #expect(idle.wait { $0 == 2 })
    test.machine.lock.withLock { test.machine.interruptRouter.nonMaskableInterrupt(cpu: 0) }
    #expect(test.wait() == .poweredOff)
    #expect(attention.current == [4])
  }

  /// What an engine asks without returning is done as its exits are, and counted among them.
  @Test func accessesAreAnsweredInsideARun() throws {
    let seen = Shared<[UInt64]>([])
    let machine = Shared<TestMachine?>(nil)
    let test = try TestMachine([
      { state in
        let responder = try #require(machine.current?.engine.responder)
        for exit in [
          .portRead(port: 0x12, size: 1), .memoryRead(address: GuestPhysicalAddress(0xfec0_0020), size: 4),
          .msrRead(index: 0x1b),
        ] as [VMExit] {
          responder.respond(to: exit)
          seen.change { $0.append(state.completion.isValid == 1 ? state.completion.data : ~0) }
          state.completion.isValid = 0
        }
        responder.respond(to: .portWrite(port: 0x11, size: 1, value: 3))
        return .budgetSpent
      }, powerOff,
    ])
    machine.change { $0 = test }
    defer { machine.change { $0 = nil } }
    test.obeyRequests()
    #expect(try test.run() == .poweredOff)
    #expect(seen.current == [2, 0x5566_7720, 0xfee0_0900])
    #expect(test.device.accesses.contains(.write(region: 0, offset: 1, size: 1, value: 3)))
    #expect(test.machine.cpus[0].statistics.total(.portRead).count == 1)
    #expect(test.machine.cpus[0].statistics.total(.memoryRead).count == 1)
  }

  /// Whoever watches accesses finds the state whole: then they are exits.
  @Test(arguments: [(EventMask.exit, false), (.memoryAccess, false), (.portAccess, false), (.interrupt, true)])
  func watchedAccessesAreExits(watched: EventMask, expected: Bool) throws {
    let seen = Shared<[Bool]>([])
    let machine = Shared<TestMachine?>(nil)
    let test = try TestMachine([
      { _ in
        seen.change { $0.append(machine.current?.engine.responder != nil) }
        return .budgetSpent
      }, powerOff,
    ])
    machine.change { $0 = test }
    defer { machine.change { $0 = nil } }
    test.obeyRequests()
    let trap = test.machine.events.subscribe(to: watched) { _ in }
    #expect(try test.run() == .poweredOff)
    #expect(seen.current == [expected])
    withExtendedLifetime(trap) {}
  }

  /// Engines know the register with the processor's number from the start, and after each write that may change it.
  @Test func theNumberRegisterIsKnown() throws {
    let seen = Shared<[UInt64]>([])
    func noting(_ exit: VMExit) -> ScriptedEngine.Step {
      { state in
        seen.change { $0 += [state.engine.numberAddress, UInt64(state.engine.number)] }
        return exit
      }
    }
    let test = try TestMachine([
      noting(.memoryWrite(address: GuestPhysicalAddress(0xfee0_0020), size: 4, value: 5)),
      noting(.portWrite(port: 0x11, size: 1, value: 1)), noting(.msrWrite(index: 0x1b, value: 0)),
      noting(.budgetSpent), powerOff,
    ])
    test.obeyRequests()
    let obey = test.device.onWrite
    test.device.onWrite = { value in
      if value == 1 { test.controller.page = nil }
      obey?(value)
    }
    #expect(try test.run() == .poweredOff)
    #expect(seen.current == [0xfee0_0020, 0, 0xfee0_0020, 5, 0xfee0_0020, 5, ~0, 0])
  }

  @Test func engineFailureEndsTheMachine() throws {
    let test = try TestMachine([{ _ in throw HostFailure("think", code: EIO) }])
    #expect(try test.run() == .failed("the engine cannot go on: could not think: Input/output error"))
  }

  @Test func eventsReachSubscribers() throws {
    let test = try TestMachine([{ _ in .portRead(port: 0x12, size: 1) }, powerOff])
    test.obeyRequests()
    let seen = Shared<[MachineEvent]>([])
    let trap = test.machine.events.subscribe(to: [.portAccess, .lifecycle]) { event in
      seen.change { $0.append(event) }
    }
    #expect(try test.run() == .poweredOff)
    #expect(
      seen.current == [
        .lifecycle(.started), .portAccess(cpu: 0, port: 0x12, size: 1, value: 2, isWrite: false),
        .portAccess(cpu: 0, port: 0x1f, size: 1, value: 0xff, isWrite: true), .lifecycle(.ended(.poweredOff)),
      ])
    withExtendedLifetime(trap) {}
  }

  @Test func idleProcessorUsesNoTime() throws {
    let test = try TestMachine([halt])
    try test.machine.start()
    usleep(20_000)
    var before = timespec()
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &before)
    let stats = test.machine.cpus[0].statistics.total(.attention).count
    usleep(100_000)
    #expect(test.machine.cpus[0].statistics.total(.attention).count == stats)
    test.machine.end()
    #expect(test.wait() == .stopped)
  }

  @Test func exitCostsLittle() throws {
    let rounds = 200_000
    let test = try TestMachine(
      Array(repeating: { _ in .portWrite(port: 0x11, size: 1, value: 3) }, count: rounds) + [powerOff])
    test.obeyRequests()
    test.device.accesses.reserveCapacity(rounds + 1)
    let start = MonotonicTime.now
    #expect(try test.run() == .poweredOff)
    let each = (MonotonicTime.now - start) / UInt64(rounds)
    print("exit with scripted engine and recording device: \(each) ns")
    // Generous: the machine may be busy. What it must not be is microseconds.
    #expect(each < 2000)
    #expect(test.machine.cpus[0].statistics.total(.portWrite).count == UInt64(rounds + 1))
  }
}
