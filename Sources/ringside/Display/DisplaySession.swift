import Devices
import Glibc
import Host
import Machine

/// The host's side of a guest's display and keyboard while it runs: keeps the screen in a file, and types what is to be
/// typed, on a thread of its own. It looks at the screen a few times a second, under the machine lock, and does everything
/// else without.
final class DisplaySession: @unchecked Sendable {
  /// Nanoseconds between two looks at the screen, and between two keys, which a BIOS takes at its own pace.
  private static let interval: UInt64 = 200_000_000
  private static let typingInterval: UInt64 = 30_000_000

  private let file: ScreenFile?
  private var keys: [KeySequence.Step]
  private var machine: VirtualMachine?
  private var display: VGA?
  private var keyboard: KeyboardController?
  private var thread: HostThread?

  /// Guards everything below.
  private let monitor = Monitor()
  private var isEnding = false
  private var failure: HostFailure?

  /// `file` gets the screen; `keys` are typed.
  init(file: String?, keys: KeySequence?) {
    self.file = file.map { ScreenFile(path: $0) }
    self.keys = keys?.steps ?? []
  }

  /// Begins, if there is anything to do. The machine runs.
  func start(_ assembly: any MachineAssembly) throws(HostFailure) {
    guard file != nil || !keys.isEmpty else { return }
    machine = assembly.machine
    display = assembly.display
    keyboard = assembly.keys
    thread = try HostThread.start("display") { [self] in run() }
  }

  /// The machine has ended: the file gets its last screen. The outcome is as it was, unless the file could not be written.
  func finish(_ outcome: MachineOutcome) -> MachineOutcome {
    guard let thread else { return outcome }
    monitor.withLock {
      isEnding = true
      monitor.broadcast()
    }
    thread.join()
    if case .failed = outcome { return outcome }
    return failure.map { .failed($0.description) } ?? outcome
  }

  private func run() {
    var resume: UInt64 = 0
    var nextLook: UInt64 = 0
    while true {
      let now = MonotonicTime.now
      let isLast = monitor.withLock { isEnding }
      if isLast || now >= nextLook {
        nextLook = now + Self.interval
        look()
      }
      if isLast { return }
      if now >= resume, !keys.isEmpty { resume = now + type() }
      monitor.withLock {
        guard !isEnding else { return }
        _ = monitor.wait(until: min(nextLook, keys.isEmpty ? nextLook : max(resume, now + 1_000_000)))
      }
    }
  }

  private func screen(drawsImages: Bool) -> Screen? {
    guard let machine, let display else { return nil }
    return machine.lock.withLock { display.screen(drawsImages: drawsImages) }
  }

  private func look() {
    guard let file, let screen = screen(drawsImages: file.isPicture) else { return }
    do throws(HostFailure) {
      try file.show(screen)
    } catch {
      monitor.withLock { failure = failure ?? error }
      machine?.end(.failed(error.description))
    }
  }

  /// Does the next step, if it can be done. Returns after how many nanoseconds to go on.
  private func type() -> UInt64 {
    switch keys[0] {
    case .wait(let text):
      guard screen(drawsImages: false)?.shows(text) == true else { return Self.interval / 2 }
      keys.removeFirst()
      return 0
    case .pause(let time):
      keys.removeFirst()
      return time
    case .press(let codes):
      keys.removeFirst()
      machine?.lock.withLock { keyboard?.press(codes) }
      return Self.typingInterval
    }
  }
}
