import CHost
import Machine
import Memory
import X86

/// A guest that runs: drives its engine by the contract, answers its exits by number, and looks at the state after each.
final class GuestRun {
  let scenario: Scenario
  let bench: GuestBench
  private(set) var exits: [VMExit] = []
  /// Whether the guest has not changed what its translations rest on.
  private(set) var keepsPaging = true
  private(set) var hasEnded = false
  private let paging: (UInt64, UInt64, UInt64, UInt64)

  private static let pagingControls =
    CR4.pse | CR4.pae | CR4.pge | CR4.pcide | CR4.smep | CR4.smap | CR4.la57 | CR4.pke | CR4.pks

  init(_ scenario: Scenario) throws {
    self.scenario = scenario
    bench = GuestBench(memory: try GuestMemory(size: Layout.memorySize), scenario: scenario)
    scenario.install(in: bench.memory, &bench.cpu.pointee)
    paging = Self.paging(bench.cpu.pointee)
    if let violation = Invariants.violation(bench.cpu.pointee) {
      throw GuestFailure("the guest's first state is not possible: \(violation)")
    }
    bench.engine.stateChanged(&bench.cpu.pointee)
  }

  private static func paging(_ cpu: CPUState) -> (UInt64, UInt64, UInt64, UInt64) {
    (cpu.cr0 & CR0.pg, cpu.cr3, cpu.cr4 & pagingControls, cpu.efer & EFER.nxe)
  }

  /// Runs up to `budget` instructions and exceptions. False if an exit came first; it has been answered.
  func run(_ budget: Int) throws -> Bool {
    let before = bench.cpu.pointee.instructionCount
    let start = budget == 1 ? bench.snapshot : []
    let exit = try bench.engine.run(&bench.cpu.pointee, budget: UInt64(budget))
    let spent = bench.cpu.pointee.instructionCount &- before
    if spent > UInt64(budget) { throw GuestFailure("\(spent) instructions ran, and the budget was \(budget)") }
    if let violation = Invariants.violation(bench.cpu.pointee) {
      let place = start.isEmpty ? "" : " after \(StateDifference.place(start, bench.memory))"
      throw GuestFailure("\(violation), at exit \(exit)\(place)")
    }
    if bench.hasLostCanary { throw GuestFailure("memory around the state was written, at exit \(exit)") }
    keepsPaging = keepsPaging && Self.paging(bench.cpu.pointee) == paging
    guard exit != .budgetSpent else { return true }
    exits.append(exit)
    answer(exit)
    return false
  }

  private func answer(_ exit: VMExit) {
    let value = scenario.answer(exits.count)
    switch exit {
    case .portRead, .memoryRead, .timeStampRead, .randomRead:
      bench.cpu.pointee.completion = ExitCompletion(data: value, isValid: 1, isRefused: 0, reserved: (0, 0, 0, 0, 0, 0))
    case .msrRead, .msrWrite:
      bench.cpu.pointee.completion = ExitCompletion(
        data: value, isValid: 1, isRefused: UInt8(value & 1), reserved: (0, 0, 0, 0, 0, 0))
    case .halt:
      if value & 1 == 0 || bench.cpu.pointee.activity != .halted {
        bench.cpu.pointee.activity = .running
      } else {
        bench.cpu.pointee.nmiPending = 1
        bench.cpu.pointee.nmiBlocked = 0
      }
    case .shutdown: hasEnded = true
    default: break
    }
  }

  func disturb(_ disturbance: Scenario.Disturbance) {
    switch disturbance.kind {
    case .interrupt(let vector):
      bench.cpu.pointee.interruptPending = 1
      bench.cpu.pointee.interruptVector = vector
    case .nonMaskableInterrupt: bench.cpu.pointee.nmiPending = 1
    case .debugTrap(let bits): bench.cpu.pointee.pendingDebug = bits
    case .interruptWindow: bench.cpu.pointee.wantsInterruptWindow = 1
    case .outsideWrite(let address, let bytes):
      _ = bytes.withUnsafeBytes { bench.memory.write(GuestPhysicalAddress(address), from: $0) }
    }
  }
}
