import Machine

/// The parts of a machine that interrupts come by, where every processor looks for them.
extension VirtualMachine {
  /// Adds the local APICs, and KVM's hypercalls that go to them.
  public func addInterruptFabric(_ fabric: InterruptFabric) throws(BusConflict) {
    add(fabric)
    interruptController = fabric
    hypercalls = KVMHypercalls(fabric)
    let page = InterruptFabric.defaultAddress
    try bus.map(fabric, region: 0, memory: page..<(page + InterruptFabric.pageSize))
  }

  public func addIOAPIC(_ ioAPIC: IOAPIC) throws(BusConflict) {
    add(ioAPIC)
    let registers = IOAPIC.defaultAddress
    try bus.map(ioAPIC, region: 0, memory: registers..<(registers + IOAPIC.pageSize))
  }
}
