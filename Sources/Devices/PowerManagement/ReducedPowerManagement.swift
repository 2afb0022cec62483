import Machine

/// Power management of a machine without ACPI's fixed hardware (ACPI 6.5, 4.8.3.7 and 4.8.3.6): a sleep register that
/// switches the machine off, a reset register, and a power button that is an interrupt and nothing else.
///
/// Region 0: three ports, sleep control, sleep status and reset. Interrupt line: the button's, an edge.
public final class ReducedPowerManagement: Device {
  /// There is nothing to remember.
  public struct State: Codable, Equatable, Sendable {}

  /// What the tables of the firmware must say.
  public enum Value {
    public static let reset: UInt8 = 1
    /// SLP_TYP.
    public static let softOff: UInt8 = 5
  }

  public static let portCount: UInt16 = 3

  private enum Register {
    static let sleepControl: UInt64 = 0
    static let reset: UInt64 = 2
  }

  /// Bits of the sleep control register: SLP_TYP, and the one that enters the state.
  private enum SleepControl {
    static let typeShift: UInt8 = 2
    static let typeMask: UInt8 = 7
    static let enable: UInt8 = 1 << 5
  }

  public let name = "power"
  private let button: InterruptLine
  private var platform: DevicePlatform?
  private var errors = GuestErrorLog(device: "power")

  public init(button: InterruptLine) { self.button = button }

  public func attach(to platform: DevicePlatform) {
    self.platform = platform
    errors.start(platform.log)
  }

  public func reset() { button.set(false) }

  /// Somebody pressed and released the power button: an operating system that wants to know shuts down.
  public func pressPowerButton() {
    guard let platform, !platform.inputs.receive([1], source: "\(name) button").isEmpty else { return }
    button.pulse()
  }

  /// The machine never wakes from anything, and what was written is not kept: all registers read as zero.
  public func read(region: Int, offset: UInt64, size: Int) -> UInt64 { 0 }

  public func write(region: Int, offset: UInt64, size: Int, value: UInt64) {
    ByteCycles.write(offset: offset, size: size, value: value) { offset, byte in
      switch offset {
      case Register.sleepControl where byte & SleepControl.enable != 0:
        let type = byte >> SleepControl.typeShift & SleepControl.typeMask
        if type == Value.softOff {
          platform?.request(.powerOff)
        } else {
          errors.note("sleep type \(type) is not offered")
        }
      case Register.reset where byte == Value.reset: platform?.request(.reset)
      default: break
      }
    }
  }

  public func save() -> State { State() }

  public func restore(_ state: State) {}
}
