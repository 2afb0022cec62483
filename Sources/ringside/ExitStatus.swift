import ArgumentParser
import Machine

/// How the process ends. Bad command lines end with 64 (EX_USAGE), which is the argument parser's.
enum ExitStatus {
  static let success: Int32 = 0
  /// The host, or a file that was to be read, did not play along.
  static let failure: Int32 = 1
  /// The guest crashed, or its watchdog ran out, and that was to end the run.
  static let crash: Int32 = 3

  /// What a machine's end means to whoever started the program.
  static func of(_ outcome: MachineOutcome) -> Int32 {
    switch outcome {
    case .poweredOff, .resetRequested, .stopped: success
    case .crashed, .guestFailed: crash
    case .exited(let status): status
    case .failed: failure
    }
  }
}

/// A command could not do its work; `description` says why, and what would help.
struct CommandFailure: Error, CustomStringConvertible {
  var description: String
}

/// Runs the body of a command; what it throws is reported and becomes the exit status.
func reportingFailures(_ body: () throws -> Void) throws {
  do {
    try body()
  } catch let error as ExitCode {
    throw error
  } catch let error as ValidationError {
    throw error
  } catch {
    Ringside.report("\(error)")
    throw ExitCode(ExitStatus.failure)
  }
}
