/// Bits of the PC16550D's registers (PC16550D datasheet, National Semiconductor 1995, table 2).
enum SerialRegisters {
  enum InterruptEnable {
    static let receivedData: UInt8 = 1 << 0
    static let transmitterEmpty: UInt8 = 1 << 1
    static let lineStatus: UInt8 = 1 << 2
    static let modemStatus: UInt8 = 1 << 3
    static let all: UInt8 = 0x0f
  }

  /// Values of IIR bits 3 to 0, in falling priority.
  enum InterruptIdentification {
    static let lineStatus: UInt8 = 0b0110
    static let receivedData: UInt8 = 0b0100
    static let characterTimeout: UInt8 = 0b1100
    static let transmitterEmpty: UInt8 = 0b0010
    static let modemStatus: UInt8 = 0b0000
    static let none: UInt8 = 0b0001
    /// Bits 7 and 6: FIFOs are enabled.
    static let fifosEnabled: UInt8 = 0xc0
  }

  enum FIFOControl {
    static let enable: UInt8 = 1 << 0
    static let resetReceiver: UInt8 = 1 << 1
    static let resetTransmitter: UInt8 = 1 << 2
    /// What is kept of a write: enable, DMA mode and trigger level.
    static let kept: UInt8 = 0b1100_1001
  }

  enum LineControl {
    static let wordLength: UInt8 = 0b11
    static let setBreak: UInt8 = 1 << 6
    static let divisorLatchAccess: UInt8 = 1 << 7
  }

  enum ModemControl {
    static let dataTerminalReady: UInt8 = 1 << 0
    static let requestToSend: UInt8 = 1 << 1
    static let out1: UInt8 = 1 << 2
    /// On a PC this output gates the chip's interrupt onto the bus.
    static let out2: UInt8 = 1 << 3
    static let loopback: UInt8 = 1 << 4
    static let all: UInt8 = 0x1f
  }

  enum LineStatus {
    static let dataReady: UInt8 = 1 << 0
    static let overrun: UInt8 = 1 << 1
    static let breakInterrupt: UInt8 = 1 << 4
    static let transmitterHoldingEmpty: UInt8 = 1 << 5
    static let transmitterEmpty: UInt8 = 1 << 6
    static let errorInFIFO: UInt8 = 1 << 7
  }

  enum ModemStatus {
    static let trailingEdgeRing: UInt8 = 1 << 2
    static let clearToSend: UInt8 = 1 << 4
    static let dataSetReady: UInt8 = 1 << 5
    static let ringIndicator: UInt8 = 1 << 6
    static let carrierDetect: UInt8 = 1 << 7
    static let lines: UInt8 = 0xf0
  }
}
