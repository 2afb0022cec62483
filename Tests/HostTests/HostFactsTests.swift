import CHost
import Glibc
import Testing

@testable import Host

@Suite struct HostFactsTests {
  @Test func memoryTableIsParsed() {
    let table = MemoryFacts.parse("MemTotal:       24684032 kB\nHugePages_Total:       3\nbroken\nMemFree: x kB\n")
    let expected: [Substring: UInt64] = ["MemTotal": 24_684_032 * 1024, "HugePages_Total": 3]
    #expect(table == expected)
    #expect(MemoryFacts.chosen("always [madvise] never\n") == "madvise")
    #expect(MemoryFacts.chosen("") == nil)
  }

  @Test func thisHostHasMemoryAndAProcessor() {
    let memory = MemoryFacts.read()
    #expect(memory.total > 0 && memory.available > 0)
    let processor = ProcessorFacts.read()
    #expect(!processor.name.isEmpty && processor.vendor.count == 12 && processor.count >= 1)
    #expect(processor.features.contains(.cmpxchg16b))
  }

  @Test func timeStampFrequencyMatchesTheClock() {
    let frequency = TimeStampFrequency.find()
    #expect(frequency == .find() || frequency.source == .measured)
    let (start, ticks) = (MonotonicTime.now, hostTimeStamp())
    usleep(50_000)
    let (elapsed, counted) = (MonotonicTime.now - start, frequency.nanoseconds(hostTimeStamp() - ticks))
    let difference = elapsed > counted ? elapsed - counted : counted - elapsed
    // Half a percent, and a preemption between the two readings.
    #expect(difference < elapsed / 200 + 2_000_000)
  }

  @Test func ticksBecomeNanosecondsWithoutOverflow() {
    let frequency = TimeStampFrequency(hertz: 2_500_000_000, source: .measured)
    #expect(frequency.nanoseconds(2_500_000_000) == 1_000_000_000)
    #expect(frequency.nanoseconds(.max) == 7_378_697_629_483_820_646)
    #expect(TimeStampFrequency(hertz: 1, source: .measured).nanoseconds(.max) == .max)
  }

  @Test func virtualizationProbeComesToAVerdict() {
    switch KVMFacts.probe().verdict {
    case .absent, .refused: break
    case .wrongVersion(let version): #expect(version != KVMFacts.version)
    case .works(let speed): #expect(speed > 1000)
    }
  }

  @Test func writingToAFullDeviceFails() {
    let full = open("/dev/full", O_WRONLY)
    defer { close(full) }
    #expect(throws: HostFailure.self) { try StandardDescriptors.write("x", to: full) }
  }
}
