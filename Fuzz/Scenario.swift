import CHost
import Machine
import Memory
import Processor
import TestSupport
import X86

/// A guest made of a number: its processor, mode, tables, code, data and what happens to it from outside.
struct Scenario: Sendable {
  /// What is done to a guest after so many instructions.
  struct Disturbance: Sendable {
    enum Kind: Sendable {
      case interrupt(UInt8)
      case nonMaskableInterrupt
      case debugTrap(UInt32)
      case interruptWindow
      /// Bytes in memory change as if a device had written them.
      case outsideWrite(UInt64, [UInt8])
    }

    var time: Int
    var kind: Kind
  }

  let seed: UInt64
  let mode: GuestMode
  let paging: GuestMode.Paging
  let ring: Int
  let model: CPUModel
  let modelText: String
  /// Its page tables are anything, or it sees them: what it does depends on when translations are forgotten.
  let isChaotic: Bool
  let disturbances: [Disturbance]
  /// Every second guest's code is translated.
  var translation: TranslationOptions? {
    guard seed % 2 == 0 else { return nil }
    var options = TranslationOptions.eager
    options.interpretsUnmatchedFlags = true
    return options
  }
  private let random: SeededRandom

  /// Instructions and exceptions that the guest may have.
  static let duration = 600

  init(seed: UInt64) {
    self.seed = seed
    var random = SeededRandom(seed: seed &* 0x1234_5678_9abc_def1)
    mode = random.pick(GuestMode.allCases)
    paging = mode.paging(&random)
    ring = mode.ring(&random)
    let levels =
      mode.isLong ? ["max", "max", "x86-64-v3", "x86-64-v2", "x86-64-v1"] : CPUSpecification.modelNames + ["max"]
    let level = paging == .fiveLevel ? "max" : paging == .pae ? random.pick(["max", "x86-64-v1"]) : random.pick(levels)
    modelText = level + (random.oneIn(2) ? ",vendor=amd" : "")
    model = CPUModel((try? CPUSpecification(modelText)) ?? .standard)
    isChaotic = random.oneIn(3)
    var disturbances: [Disturbance] = []
    for _ in 0..<random.below(8) {
      let kind: Disturbance.Kind =
        switch random.below(8) {
        case 0, 1, 2: .interrupt(random.byte())
        case 3: .nonMaskableInterrupt
        case 4: .debugTrap(UInt32(truncatingIfNeeded: random.next() & 0xe00f))
        case 5: .interruptWindow
        default:
          .outsideWrite(UInt64(Layout.code + random.below(Layout.codeSize - 16)), (0..<4).map { _ in random.byte() })
        }
      disturbances.append(Disturbance(time: random.below(Self.duration), kind: kind))
    }
    self.disturbances = disturbances.sorted { $0.time < $1.time }
    self.random = random
  }

  var title: String {
    "seed \(seed): \(mode), \(paging) paging, ring \(ring), \(modelText)\(isChaotic ? ", chaotic" : "")"
  }

  /// The answer to exit number `number`, which asks for a value.
  func answer(_ number: Int) -> UInt64 {
    var random = SeededRandom(seed: seed ^ UInt64(number) &* 0x9e37_79b9)
    return random.operand()
  }

  // MARK: The guest

  /// Puts the guest into an empty memory and a processor that has been powered up.
  func install(in memory: GuestMemory, _ cpu: inout CPUState) {
    var random = random
    let tables = ScenarioTables(mode: mode, ring: ring, memory: memory)
    let generator = CodeGenerator(bits: mode.codeBits, seed: random.next())
    let starts = installCode(generator, memory)
    tables.installHandlers(starts, &random)
    tables.installDescriptors(&random)
    for place in stride(from: Layout.data, to: Layout.data + Layout.dataSize, by: 8) {
      _ = memory.store(random.oneIn(2) ? random.operand() : random.next(), at: GuestPhysicalAddress(UInt64(place)))
    }
    let root = installPageTables(memory, &random)
    ScenarioState(self, root: root).apply(to: &cpu, starts: starts, &random)
  }

  private func installCode(_ generator: CodeGenerator, _ memory: GuestMemory) -> [UInt64] {
    var generator = generator
    let (bytes, starts) = generator.code(count: Layout.codeSize)
    _ = bytes.withUnsafeBytes { memory.write(GuestPhysicalAddress(UInt64(Layout.code)), from: $0) }
    return starts.map { UInt64(Layout.code + $0) }
  }

  private func installPageTables(_ memory: GuestMemory, _ random: inout SeededRandom) -> UInt64 {
    guard var tables = PageTables(paging, memory) else { return 0 }
    let base = PageTables.Flag.present | PageTables.Flag.writable
    let lastPage = isChaotic ? Layout.memorySize : Layout.tables
    for page in stride(from: 0, to: lastPage, by: 0x1000) {
      let isData = page >= UInt64(Layout.data) && page < UInt64(Layout.data + Layout.dataSize)
      let isTable = page < UInt64(Layout.code)
      var flags = base | (ring == 3 && !isTable ? PageTables.Flag.user : 0)
      var physical = page
      if isData || isChaotic, random.oneIn(isTable ? 60 : 8) { (physical, flags) = oddPage(page, flags, &random) }
      tables.map(page, to: physical, flags)
    }
    // The same memory elsewhere, by large pages too.
    let user = ring == 3 ? PageTables.Flag.user : 0
    for linear in [0x40_0000, 0x8000_0000, 0xffff_e000, 0x7fff_ffff_e000, 0xffff_8000_0000_0000] as [UInt64] {
      guard mode.isLong || linear >> 32 == 0 else { continue }
      tables.map(linear, to: UInt64(Layout.data), base | user)
      tables.map(linear &+ 0x1000, to: UInt64(Layout.code), base | user)
    }
    if isChaotic {
      tables.map(0x80_0000, to: 0, base | user, isLarge: true)
      tables.disturb(&random)
    }
    return tables.root
  }

  private func oddPage(_ page: UInt64, _ flags: UInt64, _ random: inout SeededRandom) -> (UInt64, UInt64) {
    switch random.below(7) {
    case 0: (page, flags & ~PageTables.Flag.present)
    case 1: (page, flags & ~PageTables.Flag.writable)
    case 2: (page, flags ^ PageTables.Flag.user)
    case 3: (UInt64(Layout.data) + page & 0xf000, flags)
    case 4: (Layout.device, flags)
    case 5: (page, paging == .twoLevel || random.oneIn(2) ? flags : flags | PageTables.Flag.noExecute)
    default: (page, paging == .twoLevel ? flags : flags | random.next() & 15 << 59)
    }
  }
}
