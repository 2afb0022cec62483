import Testing

// End-to-end tests: they start the program as a person would, and look at what a person sees: the guest's console,
// messages, the exit status. All run on every engine that the program offers.
//
// One at a time: each guest wants a processor for itself, and the time limits are for a machine that has one left.

@Suite(.serialized) struct GuestTests {
  /// Without it, a missing program would leave the parameterised tests with nothing to run and nothing to say.
  @Test func programIsThere() throws {
    let run = try Program.run(["run", "--help"])
    #expect(run.ending == .status(0), "\(run)")
    #expect(!Program.engines.isEmpty, "the help lists no engines: \(run)")
  }
}
