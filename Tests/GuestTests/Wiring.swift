/// What a child process gets as its standard streams.
struct Wiring: Sendable {
  enum Input: Sendable {
    /// What the test types.
    case typed
    case null
    case closed
  }

  enum Output: Sendable {
    /// Kept, for the test to look at.
    case captured
    case closed
    case file(String)
  }

  var input = Input.typed
  var output = Output.captured
  var errors = Output.captured
  /// Input and output are a terminal instead, and the child is the leader of its session; errors are as above.
  var isTerminal = false

  /// Pipes for everything.
  static let pipes = Wiring()
  static let terminal = Wiring(isTerminal: true)
  /// Nothing to read.
  static let batch = Wiring(input: .null)
}
