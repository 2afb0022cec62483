import Testing

@testable import fuzz

/// A few random guests, always the same ones; `make fuzz` runs others, for as long as one likes.
@Suite(.serialized) struct FuzzTests {
  @Test(arguments: 1...6) func guestsKeepToTheRules(part: UInt64) throws {
    for seed in part * 1_000_000..<part * 1_000_000 + 32 {
      let kind = FuzzKind.of(seed)
      #expect(throws: Never.self, "\(kind.command(seed))") { _ = try kind.run(seed) }
    }
  }

  /// More images and devices: they take little time.
  @Test(arguments: [FuzzKind.image, .device]) func filesAndDriversAreWithstood(kind: FuzzKind) throws {
    for seed in 7_000_000..<7_000_110 as Range<UInt64> {
      #expect(throws: Never.self, "\(kind.command(seed))") { _ = try kind.run(seed) }
    }
  }

  /// Guests are numbers: the same number gives the same guest, in each of its parts.
  @Test func guestsAreRepeatable() throws {
    for seed in 1...20 as ClosedRange<UInt64> {
      let (first, second) = (try GuestRun(Scenario(seed: seed)), try GuestRun(Scenario(seed: seed)))
      #expect(first.bench.snapshot == second.bench.snapshot)
      #expect(StateDifference.between(first.bench.memory, second.bench.memory) == nil)
    }
  }

  /// A difference is found: one guest runs with another register.
  @Test func differencesAreSeen() throws {
    let (first, second) = (try GuestRun(Scenario(seed: 3)), try GuestRun(Scenario(seed: 3)))
    second.bench.cpu.pointee.gpr.3 ^= 1
    let text = try #require(StateDifference.between(first.bench.snapshot, second.bench.snapshot))
    #expect(text.contains("rbx"))
    #expect(second.bench.memory.fill(.init(UInt64(Layout.data)), count: 1, with: 1))
    #expect(StateDifference.between(first.bench.memory, second.bench.memory) != nil)
  }
}
