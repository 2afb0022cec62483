import Machine

/// An interrupt controller of one processor: a list of vectors, first come, first served.
final class FakeInterruptController: InterruptController {
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

  func setTaskPriority(_ cr8: UInt64, cpu: Int) { taskPriority = cr8 }
  func taskPriority(cpu: Int) -> UInt64 { taskPriority }
}
