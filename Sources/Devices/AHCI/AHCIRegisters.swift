/// Registers and their bits (Serial ATA AHCI 1.3.1, chapter 3).
enum AHCIRegister {
  /// Offsets of the registers of the whole controller.
  enum Host {
    static let capabilities: UInt64 = 0x00
    static let control: UInt64 = 0x04
    static let interruptStatus: UInt64 = 0x08
    static let portsImplemented: UInt64 = 0x0c
    static let version: UInt64 = 0x10
    static let firstPort: UInt64 = 0x100
    static let portSize: UInt64 = 0x80
  }

  enum HostControl {
    static let reset: UInt32 = 1 << 0
    static let interruptEnable: UInt32 = 1 << 1
    static let isAHCI: UInt32 = 1 << 31
  }

  /// Offsets of a port's registers.
  enum Port {
    static let commandList: UInt64 = 0x00
    static let commandListUpper: UInt64 = 0x04
    static let received: UInt64 = 0x08
    static let receivedUpper: UInt64 = 0x0c
    static let interruptStatus: UInt64 = 0x10
    static let interruptEnable: UInt64 = 0x14
    static let command: UInt64 = 0x18
    static let taskFile: UInt64 = 0x20
    static let signature: UInt64 = 0x24
    static let status: UInt64 = 0x28
    static let control: UInt64 = 0x2c
    static let error: UInt64 = 0x30
    static let active: UInt64 = 0x34
    static let issue: UInt64 = 0x38
  }

  /// PxIS
  enum Interrupt {
    static let registerFIS: UInt32 = 1 << 0
    static let setupFIS: UInt32 = 1 << 1
    static let setDeviceBitsFIS: UInt32 = 1 << 3
    static let connectChange: UInt32 = 1 << 6
    static let overflow: UInt32 = 1 << 24
    static let hostBusFatal: UInt32 = 1 << 29
    static let taskFileError: UInt32 = 1 << 30
    /// Of the other bits nothing is ever set.
    static let enables: UInt32 = 0xfdc0_00ff
  }

  /// PxCMD
  enum Command {
    static let start: UInt32 = 1 << 0
    static let spinUp: UInt32 = 1 << 1
    static let powerOn: UInt32 = 1 << 2
    static let listOverride: UInt32 = 1 << 3
    static let receiveEnable: UInt32 = 1 << 4
    static let receiveRunning: UInt32 = 1 << 14
    static let listRunning: UInt32 = 1 << 15
    static let isATAPI: UInt32 = 1 << 24
    static let drivesLED: UInt32 = 1 << 25
    /// What a host may set and finds again.
    static let kept: UInt32 = start | receiveEnable | isATAPI | drivesLED
    static let slotShift: UInt32 = 8
  }

  /// PxSERR
  enum Error {
    /// The link's state has changed.
    static let exchanged: UInt32 = 1 << 26
  }
}
