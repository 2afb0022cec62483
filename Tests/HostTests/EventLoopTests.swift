import Glibc
import Host
import TestSupport
import Testing

@Suite(.timeLimit(.minutes(1))) struct EventLoopTests {
  @Test func readableDescriptorCallsItsHandler() throws {
    let loop = try EventLoop(name: "test")
    defer { loop.stop() }
    let pipe = Pipe()
    let seen = Shared<[UInt8]>([])
    let watch = try loop.watch(pipe.readEnd, for: .readable) { _ in
      let bytes = pipe.receive(1)
      seen.change { $0 += bytes }
    }
    pipe.send([1, 2, 3])
    #expect(seen.wait { $0 == [1, 2, 3] })
    watch.cancel()
    pipe.send([4])
    usleep(20_000)
    #expect(seen.current == [1, 2, 3])
  }

  @Test func releasingAWatchEndsIt() throws {
    let loop = try EventLoop(name: "test")
    defer { loop.stop() }
    let pipe = Pipe()
    let calls = Shared(0)
    var watch: EventWatch? = try loop.watch(pipe.readEnd, for: .readable) { _ in calls.change { $0 += 1 } }
    #expect(watch != nil)
    watch = nil
    pipe.send([1])
    usleep(20_000)
    #expect(calls.current == 0)
  }

  @Test func workRunsInOrderOnTheLoop() throws {
    let loop = try EventLoop(name: "test")
    defer { loop.stop() }
    let order = Shared<[Int]>([])
    for index in 0..<100 { loop.perform { order.change { $0.append(index) } } }
    #expect(order.wait { $0 == Array(0..<100) })
  }

  @Test func timerFiresOnceForEachTimeItIsArmed() throws {
    let loop = try EventLoop(name: "test")
    defer { loop.stop() }
    let fired = Shared<[UInt64]>([])
    let timer = try HostTimer(on: loop) { fired.change { $0.append(MonotonicTime.now) } }
    let deadline = MonotonicTime.now + 20_000_000
    timer.arm(at: deadline)
    #expect(fired.wait { $0.count == 1 })
    #expect(fired.current[0] >= deadline)
    usleep(30_000)
    #expect(fired.current.count == 1)
    // The past fires at once; a disarmed timer not at all.
    timer.arm(at: 1)
    #expect(fired.wait { $0.count == 2 })
    timer.arm(at: MonotonicTime.now + 20_000_000)
    timer.disarm()
    usleep(40_000)
    #expect(fired.current.count == 2)
  }

  @Test func signalsArriveAsEvents() throws {
    let seen = Shared<[Int32]>([])
    let loops = Shared<EventLoop?>(nil)
    // Blocked in a thread of its own, whose loop thread inherits that: the test process stays as it is.
    let thread = try HostThread.start("signals") {
      SignalWatch.block([SIGUSR1])
      loops.change { $0 = try? EventLoop(name: "test") }
    }
    thread.join()
    let loop = try #require(loops.current)
    defer { loop.stop() }
    let watch = try SignalWatch([SIGUSR1], on: loop) { number in seen.change { $0.append(number) } }
    loop.perform { pthread_kill(pthread_self(), SIGUSR1) }
    #expect(seen.wait { $0 == [SIGUSR1] })
    withExtendedLifetime(watch) {}
  }
}
