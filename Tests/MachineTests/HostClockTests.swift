import CHost
import Glibc
import Host
import Machine
import TestSupport
import Testing

@Suite(.timeLimit(.minutes(1))) struct HostClockTests {
  private let loop: EventLoop
  private let lock = Monitor()
  private let clock: HostClock

  init() throws {
    loop = try EventLoop(name: "test")
    clock = try HostClock(
      loop: loop, lock: lock, frequency: TimeStampFrequency(hertz: 1_000_000_000, source: .measured))
  }

  @Test func timeStandsStillUntilStartedAndWhilePaused() {
    defer { loop.stop() }
    #expect(clock.now == 0)
    #expect(clock.timeStamp == 0)
    clock.start()
    usleep(5000)
    #expect(clock.now >= 5_000_000)
    #expect(clock.timeStamp > 0)
    clock.pause()
    let (time, stamp) = (clock.now, clock.timeStamp)
    usleep(20_000)
    #expect(clock.now == time && clock.timeStamp == stamp)
    clock.start()
    #expect(clock.now >= time && clock.now < time + 15_000_000)
    #expect(clock.timeStamp >= stamp)
    // An engine's way to the same number.
    let direct = hostTimeStamp() &+ clock.timeStampOffset
    #expect(direct <= clock.timeStamp && clock.timeStamp &- direct < 1_000_000_000)
  }

  @Test func timersFireInOrderAndOnce() {
    defer { loop.stop() }
    let fired = Shared<[String]>([])
    lock.lock()
    let late = clock.makeTimer("late") { fired.change { $0.append("late") } }
    let early = clock.makeTimer("early") { fired.change { $0.append("early") } }
    let never = clock.makeTimer("never") { fired.change { $0.append("never") } }
    late.arm(at: 20_000_000)
    early.arm(at: 10_000_000)
    never.arm(at: 15_000_000)
    never.cancel()
    #expect(never.deadline == nil && late.deadline == 20_000_000)
    clock.start()
    lock.unlock()
    #expect(fired.wait { $0.count == 2 })
    usleep(20_000)
    #expect(fired.current == ["early", "late"])
    #expect(lock.withLock { late.deadline } == nil)
  }

  @Test func pastDeadlineFiresSoonButNotInside() {
    defer { loop.stop() }
    let fired = Shared(0)
    clock.start()
    lock.lock()
    let timer = clock.makeTimer("past") { fired.change { $0 += 1 } }
    timer.arm(at: 0)
    usleep(5000)
    // The lock is held: it cannot have fired.
    #expect(fired.current == 0)
    lock.unlock()
    #expect(fired.wait { $0 == 1 })
  }

  @Test func firedTimerMayMoveOthersAndItself() {
    defer { loop.stop() }
    let fired = Shared<[String]>([])
    lock.lock()
    clock.start()
    let other = clock.makeTimer("other") { fired.change { $0.append("other") } }
    var timer: (any ClockTimer)?
    timer = clock.makeTimer("again") {
      fired.change { $0.append("again") }
      other.cancel()
      if fired.current.count < 3 { timer?.arm(at: 0) }
    }
    let now = clock.now
    timer?.arm(at: now + 1)
    other.arm(at: now + 2)
    lock.unlock()
    #expect(fired.wait { $0 == ["again", "again", "again"] })
  }

  @Test func nothingFiresWhilePaused() {
    defer { loop.stop() }
    let fired = Shared(0)
    lock.lock()
    clock.start()
    let timer = clock.makeTimer("paused") { fired.change { $0 += 1 } }
    timer.arm(at: clock.now + 10_000_000)
    clock.pause()
    lock.unlock()
    usleep(30_000)
    #expect(fired.current == 0)
    lock.withLock { clock.start() }
    #expect(fired.wait { $0 == 1 })
  }

  /// While a processor sleeps and waits for its timers itself, the host timer runs for the others only.
  @Test func entrustedTimersWaitForTheirProcessor() {
    defer { loop.stop() }
    let fired = Shared<[String]>([])
    lock.lock()
    clock.start()
    let own = clock.makeTimer("own", processor: 1) { fired.change { $0.append("own") } }
    let other = clock.makeTimer("other", processor: 0) { fired.change { $0.append("other") } }
    let now = clock.now
    own.arm(at: now + 5_000_000)
    other.arm(at: now + 10_000_000)
    let deadline = clock.entrust(to: 1)
    #expect(deadline >= MonotonicTime.now - 5_000_000 && deadline <= MonotonicTime.now + 5_000_000)
    lock.unlock()
    #expect(fired.wait { $0.contains("other") })
    // Whoever comes by lets all run out that are due.
    #expect(Set(fired.current) == ["own", "other"])
    lock.withLock {
      own.arm(at: clock.now + 3_000_000)
      _ = clock.entrust(to: 1)
    }
    usleep(20_000)
    #expect(fired.current.count == 2)
    lock.withLock { clock.takeBack(from: 1) }
    #expect(fired.current.last == "own" && fired.current.count == 3)
  }

  @Test func entrustedTimersComeBackAndMove() {
    defer { loop.stop() }
    let fired = Shared(0)
    lock.lock()
    clock.start()
    let timer = clock.makeTimer("timer", processor: 0) { fired.change { $0 += 1 } }
    // Nothing to wait for, or too long.
    #expect(clock.entrust(to: 0) == .max)
    timer.arm(at: clock.now + 3_600_000_000_000)
    #expect(clock.entrust(to: 0) == .max)
    timer.arm(at: clock.now + 10_000_000)
    #expect(clock.entrust(to: 0) != .max)
    clock.takeBack(from: 0)
    lock.unlock()
    #expect(fired.wait { $0 == 1 })
    // The processor does not know of a time before the one that it waits for.
    lock.withLock {
      timer.arm(at: clock.now + 19_000_000)
      #expect(clock.entrust(to: 0) != .max)
      timer.arm(at: clock.now + 1_000_000)
    }
    #expect(fired.wait { $0 == 2 })
    lock.withLock {
      clock.pause()
      timer.arm(at: clock.now)
      #expect(clock.entrust(to: 0) == .max)
    }
  }

  @Test func deadlineBeyondAllTimeIsHarmless() {
    defer { loop.stop() }
    lock.lock()
    clock.start()
    let timer = clock.makeTimer("never") {}
    timer.arm(at: .max)
    lock.unlock()
    usleep(5000)
    #expect(lock.withLock { timer.deadline } == .max)
  }
}
