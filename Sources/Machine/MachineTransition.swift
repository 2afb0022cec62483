/// A change of the whole machine that waits for its processors to park.
enum MachineTransition: Sendable {
  case reset
  case suspend
  case wake
  case end(MachineOutcome)
}
