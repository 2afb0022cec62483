import Host
import Processor

/// What `ringside doctor` prints: what this host offers, and what that means for each engine.
struct DoctorReport {
  var processor: ProcessorFacts
  var memory: MemoryFacts
  var timeStamp: TimeStampFrequency
  var kvm: KVMFacts

  /// Looks and tries; takes some milliseconds.
  static func make() -> DoctorReport {
    DoctorReport(processor: .read(), memory: .read(), timeStamp: .find(), kvm: .probe())
  }

  var text: String {
    var lines: [String] = []
    for (title, rows) in [
      ("Processor", processorRows), ("Memory", memoryRows), ("Hardware virtualization", kvmRows),
      ("Engines", engineRows),
    ] {
      if !lines.isEmpty { lines.append("") }
      lines.append(title)
      lines += rows.map { "  " + $0 + String(repeating: " ", count: max(1, 16 - $0.count)) + $1 }
    }
    return lines.joined(separator: "\n") + "\n"
  }

  private typealias Row = (String, String)

  private var processorRows: [Row] {
    let missing = ProcessorFeature.allCases.filter { !processor.features.contains($0) }
    var rows: [Row] = [
      ("model", "\(processor.name) (\(processor.vendor) family \(processor.family), model \(processor.model))"),
      ("processors", "\(processor.count)"),
      ("features", names(ProcessorFeature.allCases.filter(processor.features.contains))),
    ]
    if !missing.isEmpty { rows.append(("without", names(missing))) }
    if let hypervisor = processor.hypervisor { rows.append(("runs under", hypervisor)) }
    let tenths = timeStamp.hertz / 100_000
    rows.append(("flags", flags))
    rows.append(("time stamps", "\(tenths / 10).\(tenths % 10) MHz (\(timeStamp.source.rawValue))"))
    return rows
  }

  /// What the host does with flags that the manuals leave undefined, and whether the interpreter can follow.
  private var flags: String {
    let peculiarities = HostFlags.peculiarities
    let known =
      peculiarities.isEmpty
      ? "undefined ones as AMD's Zen 4 and 5 leave them"
      : "undefined ones as AMD's Zen 4 and 5 leave them, but for " + peculiarities.joined(separator: "; ")
    let unmatched = HostFlags.unmatched
    return unmatched.isEmpty
      ? known
      : known + "; by no rule that is known: " + unmatched.joined(separator: "; ")
        + " (with --lockstep these instructions are not translated)"
  }

  private var memoryRows: [Row] {
    let pages =
      memory.hugePages > 0
      ? "\(memory.freeHugePages) of \(memory.hugePages) free (\(MemorySize(bytes: memory.hugePageSize)) each)" : "none"
    let transparent = memory.transparentHugePages ?? "not offered"
    let shared = memory.sharedTransparentHugePages ?? "not offered"
    return [
      ("total", "\(MemorySize(bytes: memory.total))"),
      ("available", "\(MemorySize(bytes: memory.available)), the most that --memory can be now"),
      ("huge pages", pages),
      ("transparent", "\(transparent); for guest memory: \(shared)"),
    ]
  }

  private var kvmRows: [Row] {
    switch kvm.verdict {
    case .absent: [("/dev/kvm", "absent: the kernel offers no KVM here")]
    case .refused(let failure): [("/dev/kvm", "does not work: \(failure)")]
    case .wrongVersion(let version): [("/dev/kvm", "speaks version \(version) instead of \(KVMFacts.version)")]
    case .works(let speed):
      [
        ("/dev/kvm", "works (version \(KVMFacts.version))"),
        ("speed", "\(millions(speed)) million instructions a second" + (speed < KVMFacts.slow ? ": emulated" : "")),
      ]
    }
  }

  private var engineRows: [Row] {
    EngineKind.allCases.map { engine in (engine.rawValue, engine.verdict) }
  }

  private func names(_ features: [ProcessorFeature]) -> String {
    features.map(\.rawValue).joined(separator: " ")
  }

  private func millions(_ speed: UInt64) -> String {
    let tenths = speed / 100_000
    return tenths < 100 ? "\(tenths / 10).\(tenths % 10)" : "\(tenths / 10)"
  }
}
