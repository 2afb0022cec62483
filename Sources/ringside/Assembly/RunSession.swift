import ArgumentParser
import Devices
import Glibc
import Host
import Lockstep
import Logging
import Machine
import Synchronization

/// One run of a machine, from the terminal's raw mode to the exit status.
///
/// Threads: the main thread builds, starts and waits; the event loop's handles keys and signals; the machine has its own.
/// Whatever ends the run asks the machine to end and leaves the rest to the main thread, so everything is put back in one
/// place and one order: output written out, terminal restored, then messages.
final class RunSession: Sendable {
  private static let endingSignals = [SIGINT, SIGTERM, SIGHUP, SIGQUIT]
  private static let jobSignals = [SIGTSTP, SIGCONT]
  /// Presses the machine's power button.
  private static let buttonSignals = [SIGUSR1]
  private static let allSignals = endingSignals + jobSignals + buttonSignals
  /// How long a reader of the output may sleep once the user wants to leave, in nanoseconds.
  private static let patience: UInt64 = 1_000_000_000

  private let machine = Mutex<VirtualMachine?>(nil)
  private typealias Endpoint = any SerialEndpoint & Sendable
  /// The host's ends of the serial ports and of the console, as far as they lead somewhere.
  private let endpoints = Mutex<[Endpoint]>([])
  private let powerButton = Mutex<PowerButton?>(nil)
  /// The signal that ended the run.
  private let signal = Mutex<Int32?>(nil)
  private let arguments: RecordedArguments
  /// Where the machine goes on; nil: it starts.
  private let snapshot: SnapshotFile?
  /// The disks are as they were already.
  private let isClone: Bool

  /// `arguments` are what `snapshot` needs to be put together again.
  init(arguments: RecordedArguments, snapshot: SnapshotFile? = nil, isClone: Bool = false) {
    self.arguments = arguments
    self.snapshot = snapshot
    self.isClone = isClone
  }

  /// Signals become events: to be called before there are other threads.
  static func prepare() { SignalWatch.block(allSignals) }

  /// Builds the machine, runs it and returns the exit status.
  func run(
    _ configuration: MachineConfiguration, serial: [SerialTarget], console: SerialTarget?, display: DisplaySession,
    firmwareLog: String?, control: String?, printsStatistics: Bool, log: Logger
  ) throws -> Int32 {
    let loop = try EventLoop(name: "events")
    let signals = try SignalWatch(Self.allSignals, on: loop) { [self] in received($0) }
    defer { withExtendedLifetime(signals) {} }
    let debugOutput = try BatchingWriter(
      descriptor: StandardDescriptors.error, name: "standard error", onRoom: {}, onFailure: { _ in })

    let firmwareOutput = try firmwareLog.map { try LogFile(path: $0) }

    let builder = try configuration.makeAssembly(
      loop: loop, log: log, debugConsole: { _ = debugOutput.offer($0) },
      firmwareLog: firmwareOutput.map { output in { output.write($0) } })
    let machine = builder.machine
    // A signal that comes while an endpoint's file is opened, which may wait (a FIFO), finds no machine to end.
    var lines: [(port: any CharacterPort, endpoint: Endpoint)] = []
    func connect(_ port: (any CharacterPort)?, to target: SerialTarget?) throws {
      guard let port, let target, let endpoint = try makeEndpoint(target, loop: loop) else { return }
      port.backend = endpoint
      lines.append((port, endpoint))
    }
    for (port, target) in zip(builder.serialPorts, serial) { try connect(port, to: target) }
    try connect(builder.console, to: console)
    let endpoints = lines.map(\.endpoint)
    self.endpoints.withLock { $0 = endpoints }
    self.machine.withLock { $0 = machine }
    powerButton.withLock { $0 = builder.powerButton }
    machine.onIdle = {
      for endpoint in endpoints { endpoint.flush() }
      debugOutput.flush()
    }

    let outcome: MachineOutcome
    do {
      for (port, endpoint) in lines { try endpoint.start(SerialLine(port: port, machine: machine)) }
      if self.console?.isInteractive == true {
        Ringside.say("ringside: booting \(configuration.guest.name); Ctrl-a x ends, Ctrl-a h helps\n")
      }
      try start(machine)
      let balloon = builder.balloon.map { BalloonHandle(machine, $0) }
      let server = try control.map { path in
        try ControlServer(path: path, loop: loop) { [self] in try perform($0, on: machine, balloon) }
      }
      defer { withExtendedLifetime(server) {} }
      try display.start(builder)
      outcome = closeDisks(machine, lastComparison(machine, machine.wait()))
    } catch {
      for endpoint in endpoints { try? endpoint.finish(patience: Self.patience) }
      throw error
    }
    let result = display.finish(finishOutput(outcome, endpoints))
    _ = try? debugOutput.finish(patience: Self.patience)
    firmwareOutput?.finish(patience: Self.patience)
    loop.stop()
    report(result)
    if printsStatistics { Ringside.say(statistics(machine)) }
    if let signal = signal.withLock({ $0 }) { SignalWatch.end(by: signal) }
    return ExitStatus.of(result)
  }

  /// What lockstep finds when the guest has ended takes the place of the guest's own end.
  private func lastComparison(_ machine: VirtualMachine, _ outcome: MachineOutcome) -> MachineOutcome {
    if case .failed = outcome { return outcome }
    return (machine.cpus[0].engine as? LockstepEngine)?.finish().map { .failed($0) } ?? outcome
  }

  private func start(_ machine: VirtualMachine) throws {
    guard let snapshot else { return try machine.start() }
    if !isClone { try machine.restoreDisks(snapshot) }
    snapshot.provideContents(to: machine.memory) { [machine] in machine.end(.failed($0.description)) }
    try machine.start(from: snapshot.state(for: machine))
  }

  /// What is asked of the running machine through its control socket.
  private func perform(_ request: ControlRequest, on machine: VirtualMachine, _ balloon: BalloonHandle?) throws {
    switch request {
    case .saveSnapshot(let path):
      // A machine that stood still before goes on standing still.
      let wasRunning = machine.pause()
      defer { if wasRunning { machine.resume() } }
      guard !machine.hasEnded else { throw CommandFailure(description: "the machine has ended") }
      try machine.writeSnapshot(
        to: path, .init(created: UInt64(clamping: time(nil)), arguments: arguments.arguments))
    case .setBalloon(let size):
      guard let balloon else {
        throw CommandFailure(description: "the machine has no balloon: start it with --balloon 0")
      }
      if let problem = size.balloonProblem(memory: MemorySize(bytes: machine.memory.size)) {
        throw CommandFailure(description: problem)
      }
      balloon.setTarget(size)
    case .pause:
      guard machine.pause() else {
        throw CommandFailure(description: "the machine \(machine.hasEnded ? "has ended" : "is paused already")")
      }
    case .resume:
      guard machine.resume() else {
        throw CommandFailure(description: "the machine \(machine.hasEnded ? "has ended" : "is not paused")")
      }
    }
  }

  private func closeDisks(_ machine: VirtualMachine, _ outcome: MachineOutcome) -> MachineOutcome {
    do {
      try machine.closeDisks()
      return outcome
    } catch {
      if case .failed = outcome { return outcome }
      return .failed(error.description)
    }
  }

  /// Lets the guest's last output reach its reader, and gives the terminal back.
  private func finishOutput(_ outcome: MachineOutcome, _ endpoints: [Endpoint]) -> MachineOutcome {
    let isGuestsEnd =
      switch outcome {
      case .stopped, .failed: false
      case .poweredOff, .resetRequested, .crashed, .guestFailed, .exited: true
      }
    var result = outcome
    for endpoint in endpoints {
      do throws(HostFailure) {
        try endpoint.finish(patience: isGuestsEnd ? nil : Self.patience)
      } catch {
        if case .failed = result { continue }
        result = .failed(error.description)
      }
    }
    return result
  }

  private var console: ConsoleEndpoint? {
    endpoints.withLock { $0 }.lazy.compactMap { $0 as? ConsoleEndpoint }.first
  }

  private func report(_ outcome: MachineOutcome) {
    switch outcome {
    case .poweredOff, .resetRequested, .exited, .stopped: break
    case .guestFailed(let failure): Ringside.report(failure.description)
    case .crashed(let dump): Ringside.report("the guest crashed (triple fault)\n\(dump)")
    case .failed(let reason): Ringside.report(reason)
    }
  }

  private func statistics(_ machine: VirtualMachine) -> String {
    let milliseconds = machine.clock.now / 1_000_000
    let instructions = machine.cpus.map(\.state.pointee.instructionCount).reduce(0, &+)
    let lockstep = (machine.cpus[0].engine as? LockstepEngine).map { "\n\($0.statistics)" } ?? ""
    return machine.exitReport.text + lockstep
      + "\nguest time \(milliseconds) ms, \(instructions) instructions, "
      + "\(instructions / max(1, milliseconds) / 1000) million a second\n"
      + (TranslationReport(machine)?.text ?? "")
  }

  private func makeEndpoint(_ target: SerialTarget, loop: EventLoop) throws -> Endpoint? {
    let handlers = SerialHandlers(
      end: { [self] in end(.stopped) }, pressPowerButton: { [self] in pressPowerButton() },
      fail: { [self] in end(.failed($0.description)) })
    return switch target {
    case .stdio: try ConsoleEndpoint(loop: loop, handlers: handlers)
    case .none: nil
    case .file(let path): try FileEndpoint(path: path, handlers: handlers)
    case .unix(let path): try SocketEndpoint(path: path, loop: loop)
    }
  }

  private func pressPowerButton() { powerButton.withLock { $0 }?.press() }

  private func end(_ outcome: MachineOutcome) {
    machine.withLock { $0 }?.end(outcome)
  }

  /// A signal came in; on the event loop's thread.
  private func received(_ number: Int32) {
    switch number {
    case SIGTSTP:
      console?.suspend()
      kill(getpid(), SIGSTOP)
    case SIGCONT: console?.resume()
    case SIGUSR1: pressPowerButton()
    default:
      let isFirst = signal.withLock { signal in
        defer { signal = number }
        return signal == nil
      }
      guard let machine = machine.withLock({ $0 }) else { SignalWatch.end(by: number) }
      machine.end()
      // The guest may have ended already while its output waits for a reader; a second signal waits for nothing.
      if !isFirst || machine.hasEnded {
        for endpoint in endpoints.withLock({ $0 }) { endpoint.abandon() }
      }
    }
  }
}
