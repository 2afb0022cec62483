/// Register numbers of the clock chip and their bits (MC146818A data sheet, figures 8 and 13 to 15).
enum RTCRegister {
  static let second = 0x00
  static let secondAlarm = 0x01
  static let minute = 0x02
  static let minuteAlarm = 0x03
  static let hour = 0x04
  static let hourAlarm = 0x05
  static let weekday = 0x06
  static let day = 0x07
  static let month = 0x08
  static let year = 0x09
  static let a = 0x0a
  static let b = 0x0b
  static let c = 0x0c
  static let d = 0x0d
  /// Not the chip's: where PC firmware keeps the century, and what ACPI's FADT points at.
  static let century = 0x32

  // Register A.
  static let updateInProgress: UInt8 = 0x80
  /// The divider's setting for a 32.768 kHz crystal, and the bits it is in.
  static let running: UInt8 = 0x20
  static let divider: UInt8 = 0x70
  static let rate: UInt8 = 0x0f

  // Register B; the middle three are also the flags of register C.
  static let set: UInt8 = 0x80
  static let periodic: UInt8 = 0x40
  static let alarm: UInt8 = 0x20
  static let updateEnded: UInt8 = 0x10
  static let squareWave: UInt8 = 0x08
  static let binary: UInt8 = 0x04
  static let twentyFourHours: UInt8 = 0x02
  static let interrupts: UInt8 = periodic | alarm | updateEnded

  /// Register C: IRQF.
  static let requested: UInt8 = 0x80
  /// In an hour of the 12-hour format: after noon.
  static let afternoon: UInt8 = 0x80
}
