import Machine

/// A drive to be put behind a controller, by its cable.
public struct ATADrive {
  enum State: Codable, Equatable {
    case disk(ATADisk.State)
    case opticalDisc(ATAPIDrive.State)
  }

  /// How a drive is connected, which it tells its host.
  public enum Cable: Sendable {
    case parallel
    case serial
  }

  let device: any ATADevice

  /// A hard disk. `serial` has up to 20 characters of ASCII; more are cut off.
  public static func disk(_ backend: any BlockBackend, serial: String, cable: Cable) -> ATADrive {
    ATADrive(device: ATADisk(backend, serial: serial, cable: cable))
  }

  /// A CD-ROM or DVD-ROM drive with a disc in it.
  public static func opticalDrive(_ backend: any BlockBackend, serial: String, cable: Cable) -> ATADrive {
    ATADrive(device: ATAPIDrive(backend, serial: serial, cable: cable))
  }
}
