import CHost
import Machine
import X86

/// The hypercalls of KVM (Linux, Documentation/virt/kvm/x86/hypercalls.rst) that need nothing but interrupt controllers,
/// so that guests that have been told of them elsewhere, and test suites, get answers that they understand.
///
/// The number is in RAX, arguments are in RBX, RCX, RDX and RSI; the result goes to RAX. Outside 64-bit mode all of them
/// have 32 bits.
public final class KVMHypercalls: HypercallInterface {
  private enum Number {
    /// The exit that the call makes is all it is for.
    static let pollInterrupts: UInt64 = 1
    static let sendInterrupts: UInt64 = 10
    static let yield: UInt64 = 11
  }

  /// Results below zero.
  private enum Failure {
    static let notPermitted: Int64 = -1
    static let invalid: Int64 = -22
    static let unknown: Int64 = -1000
  }

  private let fabric: InterruptFabric

  public init(_ fabric: InterruptFabric) { self.fabric = fabric }

  public func hypercall(_ state: inout CPUState, cpu: Int) {
    let isWide =
      state.efer & EFER.lma != 0 && state.segments.1.attributes & SegmentAttributes.long != 0
    let mask: UInt64 = isWide ? .max : 0xffff_ffff
    let result: Int64
    if state.cpl != 0 {
      result = Failure.notPermitted
    } else {
      switch state.gpr.0 & mask {
      case Number.pollInterrupts, Number.yield: result = 0
      case Number.sendInterrupts:
        result = sendInterrupts(
          low: state.gpr.3 & mask, high: state.gpr.1 & mask, lowest: state.gpr.2 & mask,
          command: state.gpr.6 & mask, width: isWide ? 64 : 32)
      default: result = Failure.unknown
      }
    }
    state.gpr.0 = UInt64(bitPattern: result) & mask
  }

  /// Sends an interrupt to the processors in a set: bit n of `low` and, `width` bits further, of `high` stands for APIC
  /// ID `lowest` + n. Returns how many took it.
  private func sendInterrupts(low: UInt64, high: UInt64, lowest: UInt64, command: UInt64, width: UInt64) -> Int64 {
    // Neither a destination nor a shorthand: the set is the destination.
    guard command & 0xc0800 == 0 else { return Failure.invalid }
    var count: Int64 = 0
    for (bits, first) in [(low, 0), (high, width)] {
      var rest = bits
      while rest != 0 {
        let bit = UInt64(rest.trailingZeroBitCount)
        rest &= rest - 1
        let (destination, overflow) = lowest.addingReportingOverflow(first + bit)
        guard !overflow, destination < UInt64(fabric.cpuCount) else { continue }
        let message = InterruptMessage(
          vector: UInt8(truncatingIfNeeded: command),
          deliveryMode: .init(bits: UInt32(truncatingIfNeeded: command >> 8)),
          destination: UInt32(truncatingIfNeeded: destination), isLogical: false, isLevelTriggered: false,
          hasWideDestination: true)
        if fabric.send(message) { count += 1 }
      }
    }
    return count
  }
}
