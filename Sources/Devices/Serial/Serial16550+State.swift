extension Serial16550 {
  /// Everything that the guest can see of the chip, and what waits in it.
  public struct State: Codable, Equatable, Sendable {
    /// A byte in the receiver with the line errors that belong to it (bits of LSR).
    struct Received: Codable, Equatable, Sendable {
      var byte: UInt8
      var errors: UInt8 = 0
    }

    var interruptEnable: UInt8 = 0
    /// FCR as it was written, without the self-clearing bits.
    var fifoControl: UInt8 = 0
    var lineControl: UInt8 = 0
    var modemControl: UInt8 = 0
    var scratch: UInt8 = 0
    /// Kept for the guest to read back; bytes travel as fast as the host takes them.
    var divisor: UInt16 = 0
    var receiver: [Received] = []
    /// Bytes that the host has not taken yet.
    var transmitter: [UInt8] = []
    /// LSR bit 1.
    var hasOverrun = false
    /// The transmitter-empty interrupt is pending; reading it from IIR or writing THR takes it back.
    var transmitterInterrupt = false
    /// The character timeout has passed with bytes in the receiver's FIFO.
    var hasTimedOut = false
    /// When it will pass, on the machine's clock.
    var timeoutDeadline: UInt64?
    /// Lines that the other end drives (MSR bits 7 to 4).
    var peerLines: UInt8 =
      SerialRegisters.ModemStatus.clearToSend
      | SerialRegisters.ModemStatus.dataSetReady | SerialRegisters.ModemStatus.carrierDetect
    /// MSR bits 3 to 0.
    var modemDeltas: UInt8 = 0

    public init() {}
  }
}

extension Serial16550.State {
  typealias Registers = SerialRegisters

  var hasFIFOs: Bool { fifoControl & Registers.FIFOControl.enable != 0 }
  var isLoopback: Bool { modemControl & Registers.ModemControl.loopback != 0 }
  var capacity: Int { hasFIFOs ? Serial16550.fifoDepth : 1 }

  /// Bytes in the receiver at which the received-data interrupt comes.
  var triggerLevel: Int {
    guard hasFIFOs else { return 1 }
    return [1, 4, 8, 14][Int(fifoControl >> 6)]
  }

  /// The part of a byte that is on the wire at the programmed word length of 5 to 8 bits.
  func onWire(_ byte: UInt8) -> UInt8 {
    byte & (0xff >> (3 - (lineControl & Registers.LineControl.wordLength)))
  }

  /// LSR bits 4 to 1: an overrun, and the errors of the byte that is read next.
  var lineErrors: UInt8 {
    (hasOverrun ? Registers.LineStatus.overrun : 0) | (receiver.first?.errors ?? 0)
  }

  var lineStatus: UInt8 {
    var value = lineErrors
    if !receiver.isEmpty { value |= Registers.LineStatus.dataReady }
    if transmitter.isEmpty {
      value |= Registers.LineStatus.transmitterHoldingEmpty | Registers.LineStatus.transmitterEmpty
    }
    if hasFIFOs, receiver.contains(where: { $0.errors != 0 }) { value |= Registers.LineStatus.errorInFIFO }
    return value
  }

  /// MSR bits 7 to 4: the peer's lines, or in loopback the chip's own outputs.
  var modemLines: UInt8 {
    guard isLoopback else { return peerLines }
    var lines: UInt8 = 0
    if modemControl & Registers.ModemControl.requestToSend != 0 { lines |= Registers.ModemStatus.clearToSend }
    if modemControl & Registers.ModemControl.dataTerminalReady != 0 { lines |= Registers.ModemStatus.dataSetReady }
    if modemControl & Registers.ModemControl.out1 != 0 { lines |= Registers.ModemStatus.ringIndicator }
    if modemControl & Registers.ModemControl.out2 != 0 { lines |= Registers.ModemStatus.carrierDetect }
    return lines
  }

  /// IIR bits 3 to 0: the pending interrupt of highest priority.
  var pendingInterrupt: UInt8 {
    if interruptEnable & Registers.InterruptEnable.lineStatus != 0, lineErrors != 0 {
      return Registers.InterruptIdentification.lineStatus
    }
    if interruptEnable & Registers.InterruptEnable.receivedData != 0 {
      if receiver.count >= triggerLevel { return Registers.InterruptIdentification.receivedData }
      if hasTimedOut { return Registers.InterruptIdentification.characterTimeout }
    }
    if interruptEnable & Registers.InterruptEnable.transmitterEmpty != 0, transmitterInterrupt {
      return Registers.InterruptIdentification.transmitterEmpty
    }
    if interruptEnable & Registers.InterruptEnable.modemStatus != 0, modemDeltas != 0 {
      return Registers.InterruptIdentification.modemStatus
    }
    return Registers.InterruptIdentification.none
  }

  /// Level of the interrupt wire: the chip's INTR. A PC's board has a gate behind it that OUT2 opens. Other virtual
  /// machines have none, and systems that were written on those leave it shut (xv6, for one, writes 0 to the register).
  var interruptLevel: Bool { pendingInterrupt != Registers.InterruptIdentification.none }
}
