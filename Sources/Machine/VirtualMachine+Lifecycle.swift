import CHost
import Host
import Logging

extension VirtualMachine {
  /// Brings everything to its power-on state, loads the guest and lets it run; or goes on from a saved state, whose memory
  /// is there already. Once.
  public func start(from snapshot: MachineSnapshot? = nil) throws {
    precondition(!cpus.isEmpty, "a machine has at least one processor")
    if let snapshot { try check(snapshot) }
    try lock.withLock {
      if let snapshot {
        powerUp()
        takeOver(snapshot)
      } else {
        try powerOn()
      }
      startClock()
      if snapshot != nil {
        paravirtualClock?.resume()
        onRestore?()
      }
    }
    events.publish(.lifecycle(.started))
    control.lock()
    defer { control.unlock() }
    precondition(!isStarted, "a machine starts once")
    isStarted = true
    for cpu in cpus {
      // The thread keeps machine and processor alive.
      threads.append(try HostThread.start("cpu\(cpu.index)") { [self] in withExtendedLifetime(self) { cpu.run() } })
    }
  }

  /// Waits until the machine has ended and its processors' threads with it.
  public func wait() -> MachineOutcome {
    control.lock()
    while true {
      if let outcome {
        control.unlock()
        for thread in threads { thread.join() }
        return outcome
      }
      control.wait()
    }
  }

  /// Whether the run is over: `wait` returns at once, but for the time that threads take to end.
  public var hasEnded: Bool { control.withLock { outcome != nil } }

  /// Stops guest code and guest time. Returns when nothing runs any more. Not under the machine lock, nor on a
  /// processor's thread. False: it had been paused before, or is none to be paused.
  @discardableResult
  public func pause() -> Bool {
    control.lock()
    guard isStarted, outcome == nil, !pauseIsWanted else {
      control.unlock()
      return false
    }
    pauseIsWanted = true
    for cpu in cpus { cpu.raise(.stop) }
    while parkedCount < cpus.count, outcome == nil { control.wait() }
    drainDisks()
    lock.withLock { clock.pause() }
    control.unlock()
    events.publish(.lifecycle(.paused))
    return true
  }

  /// Goes on after `pause`. For the guest, no time has passed. False: it was not paused.
  @discardableResult
  public func resume() -> Bool {
    control.lock()
    guard pauseIsWanted, outcome == nil else {
      control.unlock()
      return false
    }
    pauseIsWanted = false
    lock.withLock {
      startClock()
      paravirtualClock?.resume()
    }
    wakeAll()
    control.unlock()
    events.publish(.lifecycle(.resumed))
    return true
  }

  /// Lets time run; for the guest's time-stamp counters, none has passed. Under the machine lock, no processor running.
  private func startClock() {
    let before = clock.timeStampOffset
    clock.start()
    for cpu in cpus { cpu.state.pointee.tscOffset &+= clock.timeStampOffset &- before }
  }

  /// Resets the machine as its reset button would. Any thread.
  public func reset() { ask(for: .reset) }

  /// Ends the run; `wait` returns `outcome` unless another end came first. Any thread.
  public func end(_ outcome: MachineOutcome = .stopped) { ask(for: .end(outcome)) }

  /// What a device asks for. Any thread, also under the machine lock.
  func request(_ request: MachineRequest) {
    switch request {
    case .powerOff: end(.poweredOff)
    case .reset: if endsOnReset { end(.resetRequested) } else { reset() }
    case .exit(let status): end(.exited(status: status))
    case .failure(let failure): respond(to: failure)
    case .suspend: ask(for: .suspend)
    case .wake: ask(for: .wake)
    }
  }

  private func respond(to failure: GuestFailure) {
    if events.wants(.failure) { events.publish(.failure(failure)) }
    let response: FailureResponse =
      switch failure {
      case .panic: panicResponse
      case .crashKernelLoaded: .none
      case .watchdog: watchdogResponse
      }
    // A run that ends says why then.
    if response != .end { log.warning("\(failure.description)") }
    switch response {
    case .none: break
    case .reset: request(.reset)
    case .powerOff: request(.powerOff)
    case .end: end(.guestFailed(failure))
    case .pause:
      log.warning("the machine is paused")
      // Whoever pauses waits for all processors, and this may be one of them.
      _ = try? HostThread.start("pause") { [self] in pause() }
    }
  }

  /// A processor has shut down by a triple fault: on a PC, that resets the machine.
  func shutDown(_ cpu: VirtualCPU) {
    if events.wants(.shutdown) { events.publish(.shutdown(cpu: cpu.index)) }
    let dump = RegisterDump(cpu.state.pointee, cpu: cpu.index).description
    guard !endsOnReset else { return end(.crashed(dump)) }
    log.warning("triple fault on processor \(cpu.index): the machine is reset\n\(dump)")
    reset()
  }

  private func ask(for wanted: MachineTransition) {
    transition.withLock {
      // An end is final.
      if case .end = $0 { return }
      $0 = wanted
    }
    for cpu in cpus { cpu.raise(.stop) }
  }

  /// A processor stops here for as long as the machine is paused or about to change. False: it has ended. On the
  /// processor's thread, without locks.
  ///
  /// A parked processor sleeps on its attention word, so that `ask` can wake it under any lock.
  func park(_ cpu: VirtualCPU) -> Bool {
    control.lock()
    parkedCount += 1
    control.broadcast()
    while outcome == nil {
      // Taken before anything is looked at: what changes from here on raises it again.
      _ = cpu.takeAttention()
      let wanted = transition.withLock { $0 }
      if let wanted, parkedCount == cpus.count {
        perform(wanted)
      } else if wanted == nil, !pauseIsWanted {
        break
      } else {
        control.unlock()
        cpu.sleepUntilAttention()
        control.lock()
      }
    }
    parkedCount -= 1
    defer { control.unlock() }
    return outcome == nil
  }

  /// Lets the disks finish: afterwards nothing of theirs changes guest memory. No processor runs.
  private func drainDisks() {
    for disk in disks { disk.drain() }
  }

  /// Carries out what was asked for; all processors are parked, `control` is held.
  private func perform(_ wanted: MachineTransition) {
    drainDisks()
    var result: MachineOutcome?
    switch wanted {
    case .end(let outcome): result = outcome
    case .reset:
      log.info("the machine is reset")
      transition.withLock { if case .reset = $0 { $0 = nil } }
      do {
        try lock.withLock { try powerOn() }
        events.publish(.lifecycle(.reset))
      } catch {
        result = .failed("the guest could not be loaded again after a reset: \(error)")
      }
    case .suspend:
      log.info("the machine is suspended to memory")
      transition.withLock { if case .suspend = $0 { $0 = nil } }
      lock.withLock {
        interruptController?.reset()
        for cpu in cpus { powerUp(cpu, isBootstrap: false) }
      }
    case .wake:
      // Also where the suspension itself has not come to pass, because what ends it was there already.
      log.info("the machine wakes up")
      transition.withLock { if case .wake = $0 { $0 = nil } }
      do {
        try lock.withLock {
          powerUp()
          try onWake?()
        }
      } catch {
        result = .failed("the guest could not be loaded again after its suspension: \(error)")
      }
    }
    if let result {
      lock.withLock { clock.pause() }
      outcome = result
      events.publish(.lifecycle(.ended(result)))
    }
    wakeAll()
  }

  /// Lets those who are parked or wait for something see what has changed. Under `control`.
  private func wakeAll() {
    for cpu in cpus { cpu.raise(.stop) }
    control.broadcast()
  }

  /// Power-on state everywhere, and the guest loaded. Under the machine lock, no processor running.
  private func powerOn() throws {
    powerUp()
    try reload?()
  }

  private func powerUp() {
    for device in devices { device.reset() }
    for cpu in cpus { powerUp(cpu, isBootstrap: cpu.index == 0) }
  }

  /// A processor that is none's bootstrap processor waits, without its state.
  private func powerUp(_ cpu: VirtualCPU, isBootstrap: Bool) {
    cpu.signals = ProcessorSignals()
    cpu.state.pointee.powerUp(isBootstrap: isBootstrap)
    cpu.state.pointee.tscOffset = clock.timeStampOffset
    cpu.stateHasChanged = true
  }
}
