import CHost
import Memory
import X86

/// What firmware does when a machine wakes that was suspended to RAM: it goes where the operating system said, in the
/// firmware control structure, before it went to sleep (ACPI 6.5, 5.2.10 and 16.3.2).
extension BootLoader {
  /// Offsets in the firmware control structure.
  private enum ControlStructure {
    static let signature: UInt32 = 0x5343_4146
    static let wakingVector: UInt64 = 12
    static let extendedWakingVector: UInt64 = 24
  }

  /// Sets the boot processor, which is in its power-up state, up to enter the operating system again. False: it has left
  /// no address, and the machine is to boot anew. Guest memory is as the guest left it, and may say anything.
  public static func wake(memory: GuestMemory, state: inout CPUState) -> Bool {
    let structure = ACPITables.controlStructure
    guard memory.load(structure, as: UInt32.self) == ControlStructure.signature,
      let vector = memory.load(structure &+ ControlStructure.wakingVector, as: UInt32.self),
      let extended = memory.load(structure &+ ControlStructure.extendedWakingVector, as: UInt64.self)
    else { return false }
    if extended != 0, extended < 1 << 32 {
      state.enterProtectedMode(memory: memory)
      state.rip = extended
      return true
    }
    guard vector != 0, vector < 1 << 20 else { return false }
    // The address divided by 16 is the segment.
    state.enterRealMode(
      at: RealModeAddress(segment: UInt16(truncatingIfNeeded: vector >> 4), offset: UInt16(vector & 15)),
      stackPointer: 0)
    // Only CS is the firmware's to choose; the others are as after power-up, which some rely on.
    state.clearDataSegments()
    return true
  }
}
