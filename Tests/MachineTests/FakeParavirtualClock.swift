import Machine

/// A clock with one register, number 0x12.
final class FakeParavirtualClock: ParavirtualClock {
  var register: UInt64 = 0
  var timeStampOffset: UInt64 = 0
  var initializations = 0
  var resumptions = 0

  func readMSR(_ index: UInt32, cpu: Int) -> UInt64? { index == 0x12 ? register : nil }

  func writeMSR(_ index: UInt32, value: UInt64, cpu: Int) -> Bool {
    guard index == 0x12 else { return false }
    register = value
    return true
  }

  func setTimeStampOffset(_ offset: UInt64, cpu: Int) { timeStampOffset = offset }
  func initialize(cpu: Int) { initializations += 1 }
  func resume() { resumptions += 1 }
}
