import Machine

/// A device that notes what it is asked and answers with numbers that tell what was read.
final class RecordingDevice: Device {
  struct State: Codable, Equatable {
    var value: UInt64 = 0
    var resets = 0
  }

  enum Access: Equatable {
    case read(region: Int, offset: UInt64, size: Int)
    case write(region: Int, offset: UInt64, size: Int, value: UInt64)
  }

  let name: String
  var state = State()
  var accesses: [Access] = []
  var platform: DevicePlatform?
  /// Called by writes, under the machine lock.
  var onWrite: ((UInt64) -> Void)?
  var answer: UInt64?

  init(_ name: String) { self.name = name }

  func attach(to platform: DevicePlatform) { self.platform = platform }

  func reset() {
    state.value = 0
    state.resets += 1
  }

  func read(region: Int, offset: UInt64, size: Int) -> UInt64 {
    accesses.append(.read(region: region, offset: offset, size: size))
    return answer ?? (0x1122_3344_5566_7700 + offset) & (size == 8 ? ~0 : 1 << UInt64(size * 8) - 1)
  }

  func write(region: Int, offset: UInt64, size: Int, value: UInt64) {
    accesses.append(.write(region: region, offset: offset, size: size, value: value))
    state.value = value
    onWrite?(value)
  }

  func save() -> State { state }
  func restore(_ state: State) { self.state = state }
}
