/// Pins by which a PC's chip set reaches the processors and that are no interrupts. Under the machine lock; a processor
/// that executes the access which changes one has it before its next instruction, others soon.
extension InterruptRouter {
  /// A20M#: while it is asserted, every physical address has bit 20 clear, as on the first PC, whose processor had no such
  /// line. Engines take it from `CPUState.isA20Masked`, which reset clears.
  public func setAddressLine20(isOpen: Bool) {
    for cpu in cpus {
      cpu.signals.addressLine20 = isOpen
      cpu.raise(.interrupt)
    }
  }

  /// IGNNE#: an interrupt handler for numeric errors may use x87 instructions. Ends with the error itself.
  public func ignoreNumericErrors() {
    for cpu in cpus {
      cpu.signals.ignoresNumericErrors = true
      cpu.raise(.interrupt)
    }
  }
}
