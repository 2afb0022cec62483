import Lockstep
import Machine
import Processor

/// What `--stats` says of translated code.
struct TranslationReport {
  /// Of all virtual processors.
  var statistics: TranslationStatistics
  /// Instructions that ran at all, on each engine that translates.
  var instructionCount: UInt64

  init(statistics: TranslationStatistics, instructionCount: UInt64) {
    self.statistics = statistics
    self.instructionCount = instructionCount
  }

  /// Nil where no engine translates. The machine has ended.
  init?(_ machine: VirtualMachine) {
    var sum = TranslationStatistics()
    var instructions: UInt64 = 0
    var isTranslated = false
    for cpu in machine.cpus {
      let engines = (cpu.engine as? LockstepEngine)?.sides ?? [cpu.engine]
      for case let engine as SoftwareEngine in engines {
        guard let statistics = engine.translationStatistics else { continue }
        isTranslated = true
        sum += statistics
        instructions &+= cpu.state.pointee.instructionCount
      }
    }
    guard isTranslated else { return nil }
    self.init(statistics: sum, instructionCount: instructions)
  }

  var text: String {
    let translated = UInt64(clamping: statistics.instructionCount)
    let interpreted = instructionCount > translated ? instructionCount - translated : 0
    let hundredths = UInt64((Double(interpreted) / Double(max(1, instructionCount)) * 10_000).rounded())
    let share = "\(hundredths / 100).\(hundredths % 100 < 10 ? "0" : "")\(hundredths % 100)"
    return
      "translated \(statistics.blockCount) blocks, at most \(MemorySize(bytes: UInt64(statistics.codeSize))) of code "
      + "at a time, emptied \(statistics.emptyingCount) times; "
      + "\(interpreted) instructions (\(share)%) ran interpreted\n" + leaves
  }

  /// The instructions at which translated code was left most often.
  private var leaves: String {
    let sorted = statistics.leaveCounts.sorted { ($1.value, $0.key) < ($0.value, $1.key) }
    guard !sorted.isEmpty else { return "" }
    let total = sorted.reduce(0) { $0 &+ $1.value }
    let shown = sorted.prefix(Self.shownLeaves).map { "\($0.key) \($0.value)" }.joined(separator: ", ")
    let others = sorted.count > Self.shownLeaves ? " and \(sorted.count - Self.shownLeaves) others" : ""
    return "translated code was left \(total) times for an instruction: \(shown)\(others)\n"
  }

  private static let shownLeaves = 16
}
