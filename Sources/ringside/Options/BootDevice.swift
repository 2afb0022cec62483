import ArgumentParser

/// A kind of device that firmware can boot from.
enum BootDevice: String, CaseIterable, Sendable {
  case disk, cdrom, floppy, network

  /// Without a wish of the user's.
  static let standardOrder: [BootDevice] = [.disk, .cdrom, .floppy]

  /// Its number in a PC's clock memory.
  var number: UInt8 {
    switch self {
    case .floppy: 1
    case .disk: 2
    case .cdrom: 3
    case .network: 4
    }
  }
}

/// What `--boot` says: kinds of devices by commas, the first to be tried first.
struct BootOrder: Equatable {
  var devices: [BootDevice]

  /// Throws with a message that says what is wrong and what would be right.
  init(parsing text: String) throws {
    devices = try text.split(separator: ",", omittingEmptySubsequences: false).map {
      guard let device = BootDevice(rawValue: String($0)) else {
        let all = BootDevice.allCases.map(\.rawValue).joined(separator: ", ")
        throw ValidationError("--boot: '\($0)' is no kind of device: give some of \(all), by commas")
      }
      return device
    }
    guard Set(devices).count == devices.count else { throw ValidationError("--boot: a kind of device is named twice") }
  }
}
