import ArgumentParser
import Glibc

// Random guests on the engine, through its public contracts; random damage to disk images, and random misuse of devices.
// Each is a number: what it found is found again by `make fuzz SEED=N ARGS='--count 1'`. See `Differential`,
// `ParallelRun`, `MachineRun`, `ImageRun` and `DeviceRun` for what is done with one.

@main struct Fuzz: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "fuzz", abstract: "Runs random guests and checks what must hold of each.",
    discussion: "It ends with status 1 after the first failure, and prints the command that repeats it.")

  @Option(help: "Number of the first guest.")
  var seed: UInt64 = 1
  @Option(help: "How many guests; without it and --time, 1000.")
  var count: UInt64?
  @Option(help: "For how many seconds.")
  var time: Double?
  @Option(help: "What is done: differential, parallel, machine, image, device; by default each in turn.")
  var kind: FuzzKind?
  @Flag(help: "Go on after failures.")
  var keepGoing = false

  func run() throws {
    CrashReport.install()
    var failures = 0
    var instructions = 0
    let start = ContinuousClock.now
    var done: UInt64 = 0
    while true {
      if let time {
        if start.duration(to: .now) >= .seconds(time) { break }
      } else if done >= count ?? 1000 {
        break
      }
      if let count, done >= count { break }
      let seed = seed &+ done
      let kind = kind ?? FuzzKind.of(seed)
      do {
        instructions += try kind.run(seed)
      } catch {
        failures += 1
        print("\(kind.title(seed)): \(error)\n  \(kind.command(seed))")
        if !keepGoing { throw ExitCode(1) }
      }
      done += 1
      if done % 5000 == 0 { print("\(done) guests, \(instructions) instructions, \(failures) failures") }
      fflush(nil)
    }
    print("\(done) guests, \(instructions) instructions, \(failures) failures")
    if failures > 0 { throw ExitCode(1) }
  }
}
