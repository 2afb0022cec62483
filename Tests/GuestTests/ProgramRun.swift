/// One run of a program: what it was given and what became of it.
struct ProgramRun: Sendable, CustomStringConvertible {
  let arguments: [String]
  let ending: Ending?
  let output: String
  let errors: String

  var description: String {
    """
    \(arguments.joined(separator: " "))
    ended: \(ending.map { "\($0)" } ?? "no")
    standard output: \(output.suffix(2000))
    standard error: \(errors.suffix(2000))
    """
  }
}
