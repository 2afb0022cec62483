extension PowerManagement {
  /// Offsets in region 0 (82371AB datasheet, 7.2). Two-byte registers unless noted.
  enum Register {
    static let pm1Status: UInt64 = 0x00
    static let pm1Enable: UInt64 = 0x02
    static let pm1Control: UInt64 = 0x04
    /// Four bytes, read-only.
    static let timer: UInt64 = 0x08
    static let generalStatus: UInt64 = 0x0c
    static let generalEnable: UInt64 = 0x0e
  }

  /// Bits of the PM1 status and enable registers (ACPI 6.5, 4.8.3.1).
  enum PM1Event {
    static let timer: UInt16 = 1 << 0
    static let global: UInt16 = 1 << 5
    static let powerButton: UInt16 = 1 << 8
    static let realTimeClock: UInt16 = 1 << 10
    /// Status only: the machine woke.
    static let wake: UInt16 = 1 << 15
    /// What can raise the interrupt.
    static let enables = timer | global | powerButton | realTimeClock
    /// What ends a suspension, if it is enabled.
    static let wakes = powerButton | realTimeClock
  }

  /// Bits of the PM1 control register (ACPI 6.5, 4.8.3.2).
  enum PM1Control {
    static let interruptEnable: UInt16 = 1 << 0
    static let busMasterReload: UInt16 = 1 << 1
    static let sleepType: UInt16 = 7 << 10
    /// Write-only: enter the state in `sleepType`.
    static let sleepEnable: UInt16 = 1 << 13
    static let kept = interruptEnable | busMasterReload | sleepType
  }

  public struct State: Codable, Equatable, Sendable {
    /// Without the timer bit, which follows from `timerCarries`.
    var pm1Status: UInt16 = 0
    var pm1Enable: UInt16 = 0
    var pm1Control: UInt16 = 0
    /// Changes of the timer's top bit since the machine started, when the timer's status bit was last cleared.
    var timerCarries: UInt64 = 0
    var generalStatus: UInt16 = 0
    var generalEnable: UInt16 = 0
    /// The SMI command port and the scratch port beside it.
    var command: UInt8 = 0
    var commandData: UInt8 = 0
    /// Suspended to RAM.
    var isAsleep = false
    /// PM1 events that ended a suspension: they are still to be seen after the reset that goes with it.
    var wakeCauses: UInt16 = 0

    public init() {}
  }
}
