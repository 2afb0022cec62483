extension WatchdogTimer {
  /// Offsets in region 0.
  enum Register {
    static let preload1: UInt64 = 0x0
    static let preload2: UInt64 = 0x4
    /// Bit 0: the first stage has ended. Cleared by writing one.
    static let interruptStatus: UInt64 = 0x8
    static let reload: UInt64 = 0xc
  }

  /// Bits of the reload register.
  enum Reload {
    static let reload: UInt64 = 1 << 8
    /// The second stage has ended since this was cleared, by writing one; it survives resets.
    static let timeout: UInt64 = 1 << 9
    /// Written one after the other, they allow one write to a preload value or to the reload register.
    static let unlock: [UInt64] = [0x80, 0x86]
  }

  /// Registers in configuration space.
  enum ConfigurationRegister {
    static let configuration = 0x60
    static let lock = 0x68
  }

  /// Bits of the configuration register.
  enum Configuration {
    /// Both: 0, an interrupt; 2, a system-management interrupt; 3, nothing.
    static let interruptType: UInt8 = 3
    /// Ticks have 2^5 clock cycles, not 2^15.
    static let isFast: UInt8 = 1 << 2
    /// The end of the second stage does nothing.
    static let outputDisable: UInt8 = 1 << 5
    static let all = interruptType | isFast | outputDisable
  }

  /// Bits of the lock register.
  enum Lock {
    /// Until the next reset, this register cannot be written.
    static let lock: UInt8 = 1 << 0
    static let enable: UInt8 = 1 << 1
    static let freeRunning: UInt8 = 1 << 2
    static let all = lock | enable | freeRunning
  }

  public enum Stage: Int, Codable, Equatable, Sendable { case first, second }

  public struct State: Codable, Equatable, Sendable {
    var pci: PCIEndpoint.State
    var configuration: UInt8 = 0
    var lock: UInt8 = 0
    /// In ticks, 20 bits.
    var preload1: UInt32 = 0xf_ffff
    var preload2: UInt32 = 0xf_ffff
    /// How many of the unlocking values have been written.
    var unlocked = 0
    var stage = Stage.first
    /// When the stage ends; nil: the timer stands still.
    var deadline: UInt64?
    var interrupt = false
    var timeout = false
    /// The output in free-running mode, which changes at each timeout.
    var outputIsLow = false
  }
}
