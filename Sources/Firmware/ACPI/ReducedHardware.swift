extension ACPIConfiguration {
  /// A machine without ACPI's fixed hardware (ACPI 6.5, 4.1): it is switched off and reset by registers of their own, its
  /// power button is an interrupt that the tables tell the meaning of, and what it has is a serial port and virtio devices
  /// in memory.
  public struct ReducedHardware: Sendable {
    /// A virtio device with its registers in memory.
    public struct VirtioDevice: Sendable {
      /// Its first register, and how many bytes there are of them.
      public var address: UInt32
      public var size: UInt32
      /// Global system interrupt, level, active high.
      public var interrupt: UInt32

      public init(address: UInt32, size: UInt32, interrupt: UInt32) {
        self.address = address
        self.size = size
        self.interrupt = interrupt
      }
    }

    /// Ports of the sleep control and the sleep status register, and of the reset register.
    public var sleepControlPort: UInt16 = 0x600
    public var sleepStatusPort: UInt16 = 0x601
    public var resetPort: UInt16 = 0x602
    public var resetValue: UInt8 = 1
    /// SLP_TYP for power-off.
    public var powerOffType: UInt8 = 5
    /// Global system interrupt of the power button, an edge, active high.
    public var buttonInterrupt: UInt32 = 5
    /// First port of the serial port, whose interrupt is 4.
    public var serialPort: UInt16 = 0x3f8
    public var virtioDevices: [VirtioDevice] = []

    public init() {}
  }
}
