/// What the ACPI tables say about a machine. The builder of the machine puts its devices where this says.
public struct ACPIConfiguration: Sendable {
  /// The fixed hardware, as `PowerManagement` and `PCIConfigurationPorts` in Devices provide it.
  public struct FixedHardware: Sendable {
    /// First of 64 ports: events at 0, control at 4, timer at 8, general-purpose events at 12.
    public var base: UInt16 = 0x600
    public var commandPort: UInt16 = 0xb2
    /// Values for the command port.
    public var enable: UInt8 = 0xf1
    public var disable: UInt8 = 0xf0
    /// The timer has 32 bits, not 24.
    public var has32BitTimer = true
    /// Global system interrupt, level, active high.
    public var interrupt: UInt8 = 9
    public var resetPort: UInt16 = 0xcf9
    public var resetValue: UInt8 = 6
    /// SLP_TYP for power-off.
    public var powerOffType: UInt8 = 0
    /// SLP_TYP for suspend to RAM; nil: it is not offered.
    public var suspendType: UInt8? = 1

    public init() {}
  }

  /// Local APIC identifiers, the boot processor's first.
  public var processors: [UInt32]
  public var localAPICAddress: UInt32 = 0xfee0_0000
  public var ioAPICAddress: UInt32 = 0xfec0_0000
  public var ioAPICIdentifier: UInt8
  public var fixedHardware = FixedHardware()
  /// What there is in a machine without fixed hardware; nil: it is a PC.
  public var reducedHardware: ReducedHardware?
  /// Where PCI devices' memory can be below 4 GiB: from the end of RAM there to the I/O APIC.
  public var memoryWindow: ClosedRange<UInt32> = 0xc000_0000...0xfebf_ffff
  /// Serial ports in a PC's usual places, 0 to 2.
  public var serialPortCount = 1
  /// There is a floppy disk controller.
  public var hasFloppy = false
  /// There is a VGA display.
  public var hasDisplay = false
  /// There is a port at `panicPort` by which a guest tells that it has crashed.
  public var hasPanicPort = false
  /// There is a generation identifier.
  public var hasGenerationIdentifier = false
  /// There is an HPET, at `highPrecisionTimerAddress`.
  public var hasHighPrecisionTimer = false

  public static let highPrecisionTimerAddress: UInt32 = 0xfed0_0000
  public static let panicPort: UInt16 = 0x505

  /// Processors 0 to `processorCount - 1`; the I/O APIC's identifier follows, as far as it has the bits for it.
  public init(processorCount: Int) {
    processors = (0..<UInt32(clamping: processorCount)).map { $0 }
    ioAPICIdentifier = UInt8(clamping: processorCount)
  }
}
