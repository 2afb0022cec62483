import Machine
import X86

extension InterruptFabric: InterruptController {
  public func pendingVector(cpu: Int) -> UInt8? {
    let apic = apics[cpu]
    if presentsExternal(apic), let externalController { return externalController.vector }
    return apic.deliverableVector
  }

  public func acknowledge(cpu: Int) -> UInt8? {
    let apic = apics[cpu]
    if presentsExternal(apic), let externalController {
      apic.registers.externalRequested = false
      return externalController.acknowledge()
    }
    return apic.acknowledge()
  }

  private func presentsExternal(_ apic: LocalAPIC) -> Bool {
    line0Level && apic.passesExternal || apic.registers.externalRequested
  }

  public func numberRegister(cpu: Int) -> NumberRegister? {
    guard let page = registerPage(cpu: cpu), let value = apics[cpu].read(register: APICRegister.id) else { return nil }
    return NumberRegister(address: GuestPhysicalAddress(page | UInt64(APICRegister.id << 4)), value: value)
  }

  public func readMSR(_ index: UInt32, cpu: Int) -> UInt64? {
    apics[cpu].readMSR(index)
  }

  public func writeMSR(_ index: UInt32, value: UInt64, cpu: Int) -> Bool {
    apics[cpu].writeMSR(index, value)
  }

  public func setTaskPriority(_ cr8: UInt64, cpu: Int) {
    apics[cpu].setTaskPriority(UInt8(truncatingIfNeeded: cr8 & 15) << 4)
  }

  public func taskPriority(cpu: Int) -> UInt64 {
    UInt64(apics[cpu].registers.taskPriority >> 4)
  }
}
