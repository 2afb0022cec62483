import Machine
import TestSupport
import Testing

@Suite struct EventStreamTests {
  @Test func subscribersGetWhatTheyAskedForUntilReleased() {
    let stream = EventStream()
    let seen = Shared<[MachineEvent]>([])
    #expect(!stream.wants(.all))
    var trap: Trap? = stream.subscribe(to: [.shutdown, .interrupt]) { event in seen.change { $0.append(event) } }
    #expect(trap != nil)
    #expect(stream.wants(.shutdown) && !stream.wants(.exit))
    stream.publish(.shutdown(cpu: 1))
    stream.publish(.exit(cpu: 0, .halt))
    #expect(seen.current == [.shutdown(cpu: 1)])
    trap = nil
    #expect(!stream.wants(.all))
    stream.publish(.shutdown(cpu: 2))
    #expect(seen.current.count == 1)
  }

  @Test func releasingOneLeavesTheOthers() {
    let stream = EventStream()
    let seen = Shared<[Int]>([])
    var traps: [Trap] = (0..<3).map { index in
      stream.subscribe(to: .exit) { _ in seen.change { $0.append(index) } }
    }
    traps.remove(at: 1)
    stream.publish(.exit(cpu: 0, .yield))
    #expect(seen.current == [0, 2])
    #expect(stream.wants(.exit))
  }
}
