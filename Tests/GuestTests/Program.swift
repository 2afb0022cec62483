import Glibc

/// The program under test and what it boots: made by `make test` before the tests run.
enum Program {
  /// The folder of Package.swift.
  static let packageRoot: String = {
    var parts = #filePath.split(separator: "/")
    parts.removeLast(3)
    return "/" + parts.joined(separator: "/")
  }()

  /// The program: what RINGSIDE_PROGRAM names, or the release build.
  static let path = getenv("RINGSIDE_PROGRAM").map { String(cString: $0) } ?? packageRoot + "/.build/release/ringside"

  /// The default guest.
  static let guest = packageRoot + "/.guests/default"
  static let kernel = guest + "/vmlinuz"
  static let initialRAMDisk = guest + "/initrd.gz"

  /// A file of another guest that Scripts/make-guest makes.
  static func file(_ name: String, of guest: String) -> String { packageRoot + "/.guests/\(guest)/\(name)" }

  /// Names of the engines that the program offers, as its help lists them: "… (values: auto, interpret, …)".
  static let engines: [String] = {
    guard let help = try? run(["run", "--help"]).output, let option = help.range(of: "--engine"),
      let values = help.range(of: "(values: ", from: option.upperBound),
      let end = help[values.upperBound...].firstIndex(where: { $0 == ")" || $0 == ";" })
    else { return [] }
    let names = help[values.upperBound..<end].split { $0 == "," || $0.isWhitespace }
    return names.map(String.init).filter { $0 != "auto" }
  }()

  /// Runs the program to its end. A program that does not end in time is killed, and the test fails.
  static func run(
    _ arguments: [String], wiring: Wiring = .batch, within limit: Duration = .seconds(60)
  ) throws -> ProgramRun {
    try run([path] + arguments, wiring, limit)
  }

  /// Runs a shell command line of the host to its end.
  static func runOnHost(_ command: String) throws -> ProgramRun {
    try run(["/bin/sh", "-c", command], .batch, .seconds(60))
  }

  private static func run(_ arguments: [String], _ wiring: Wiring, _ limit: Duration) throws -> ProgramRun {
    let process = try ChildProcess(arguments, wiring: wiring)
    let ending = process.waitForEnd(within: limit)
    let run = ProgramRun(
      arguments: arguments, ending: ending, output: String(decoding: process.output, as: UTF8.self),
      errors: String(decoding: process.errors, as: UTF8.self))
    guard ending != nil else { throw NotEnded(limit: limit, run: run) }
    return run
  }

  /// A program did not end in time.
  private struct NotEnded: Error, CustomStringConvertible {
    let limit: Duration
    let run: ProgramRun
    var description: String { "did not end within \(limit): \(run)" }
  }
}
