import Machine
import X86

/// An interrupt controller of one processor: a list of vectors, first come, first served.
final class FakeInterruptController: InterruptController, Device {
  weak var target: (any InterruptTarget)?
  var pending: [UInt8] = []
  var taskPriority: UInt64 = 0
  var registers: [UInt32: UInt64] = [0x1b: 0xfee0_0900]

  func raise(_ vector: UInt8) {
    pending.append(vector)
    target?.interruptsChanged(cpu: 0)
  }

  func pendingVector(cpu: Int) -> UInt8? { pending.first.flatMap { UInt64($0 >> 4) > taskPriority ? $0 : nil } }

  func acknowledge(cpu: Int) -> UInt8? { pendingVector(cpu: cpu) == nil ? nil : pending.removeFirst() }

  func readMSR(_ index: UInt32, cpu: Int) -> UInt64? { registers[index] }

  func writeMSR(_ index: UInt32, value: UInt64, cpu: Int) -> Bool {
    guard registers[index] != nil else { return false }
    registers[index] = value
    return true
  }

  var currentCPU = 0
  var timeStampOffset: UInt64 = 0
  /// The registers' page, with offset and value of each access.
  var page: UInt64? = 0xfee0_0000
  var accesses: [UInt64] = []
  var number: UInt32 = 0

  func registerPage(cpu: Int) -> UInt64? { page }
  /// At offset 0x20, as in a local APIC.
  func numberRegister(cpu: Int) -> NumberRegister? {
    page.map { NumberRegister(address: GuestPhysicalAddress($0 | 0x20), value: number) }
  }

  func setTimeStampOffset(_ offset: UInt64, cpu: Int) { timeStampOffset = offset }

  let name = "controller"
  func attach(to platform: DevicePlatform) {}
  func reset() {}
  func save() -> Int { 0 }
  func restore(_ state: Int) {}

  func read(region: Int, offset: UInt64, size: Int) -> UInt64 {
    accesses += [offset, UInt64(currentCPU)]
    return taskPriority << 4
  }

  /// Offset 0x80 is the task priority, as in a local APIC.
  func write(region: Int, offset: UInt64, size: Int, value: UInt64) {
    accesses += [offset, value]
    if offset == 0x80 { taskPriority = value >> 4 }
    if offset == 0x20 { number = UInt32(truncatingIfNeeded: value) }
  }

  func setTaskPriority(_ cr8: UInt64, cpu: Int) { taskPriority = cr8 }
  func taskPriority(cpu: Int) -> UInt64 { taskPriority }
}
