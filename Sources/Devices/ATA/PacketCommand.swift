/// A packet of 12 bytes, and the registers of the PACKET command that brought it.
struct PacketCommand {
  /// Operation codes (MMC-6, table 235).
  enum Code {
    static let testUnitReady: UInt8 = 0x00
    static let requestSense: UInt8 = 0x03
    static let inquiry: UInt8 = 0x12
    static let startStopUnit: UInt8 = 0x1b
    static let preventAllowRemoval: UInt8 = 0x1e
    static let readCapacity: UInt8 = 0x25
    static let read10: UInt8 = 0x28
    static let seek: UInt8 = 0x2b
    static let readSubchannel: UInt8 = 0x42
    static let readTableOfContents: UInt8 = 0x43
    static let getConfiguration: UInt8 = 0x46
    static let getEventStatus: UInt8 = 0x4a
    static let readDiscInformation: UInt8 = 0x51
    static let readTrackInformation: UInt8 = 0x52
    static let modeSense6: UInt8 = 0x1a
    static let modeSense10: UInt8 = 0x5a
    static let read12: UInt8 = 0xa8
    static let readDVDStructure: UInt8 = 0xad
    static let setSpeed: UInt8 = 0xbb
    static let mechanismStatus: UInt8 = 0xbd
    static let readCD: UInt8 = 0xbe
  }

  private let bytes: [UInt8]
  let registers: ATARegisters

  init(_ bytes: [UInt8], _ registers: ATARegisters) {
    self.bytes = bytes.resized(to: 12, with: 0)
    self.registers = registers
  }

  var code: UInt8 { bytes[0] }

  /// A number of `width` bytes, big-endian; 0 beyond the packet's end.
  func number(_ offset: Int, width: Int) -> UInt64 {
    (offset..<offset + width).reduce(0) { $0 << 8 | UInt64(bytes.indices.contains($1) ? bytes[$1] : 0) }
  }

  subscript(index: Int) -> UInt8 { bytes.indices.contains(index) ? bytes[index] : 0 }

  /// Some commands are carried out although there is something that the host should hear first (MMC-6, 4.1.6.1).
  var isHeldUpByAttention: Bool {
    ![Code.inquiry, Code.requestSense, Code.getConfiguration, Code.getEventStatus].contains(code)
  }

  /// Whether the data of this command go by DMA.
  private var method: ATATransfer.Method { registers.features & 1 != 0 ? .dma : .pio }

  /// The most bytes of a data-request block: the host's limit (ATA8-ACS, 7.18.4), made even; zero would be none.
  private var blockLimit: Int {
    let limit = Int(registers.byteCount)
    return limit == 0 ? 0xfffe : max(2, limit & ~1)
  }

  /// Answers with as much as the host has room for.
  func answer(_ bytes: [UInt8], allocation: UInt64) -> ATAStep {
    let bytes = Array(bytes.prefix(Int(clamping: allocation)))
    guard !bytes.isEmpty else { return Self.success(registers) }
    return .transfer(
      ATATransfer(
        direction: .toHost, method: method, content: .bytes(bytes), count: UInt64(bytes.count), blockSize: blockLimit,
        command: ATACommand.packet, registers: registers))
  }

  /// Answers with sectors of the disc. Blocks are whole sectors where the limit allows.
  func answer(sectors: Range<UInt64>) -> ATAStep {
    guard !sectors.isEmpty else { return Self.success(registers) }
    let sector = Int(ATAPIDrive.sectorSize)
    return .transfer(
      ATATransfer(
        direction: .toHost, method: method, content: .medium(offset: sectors.lowerBound * ATAPIDrive.sectorSize),
        count: UInt64(sectors.count) * ATAPIDrive.sectorSize,
        blockSize: blockLimit >= sector ? blockLimit / sector * sector : blockLimit, command: ATACommand.packet,
        registers: registers))
  }

  static func success(_ registers: ATARegisters) -> ATAStep {
    .done(ATAOutcome(registers: ended(registers)))
  }

  func failure(_ sense: SCSISense) -> ATAStep { .done(Self.outcome(sense, registers)) }

  /// The error register has the sense key in its upper half.
  static func outcome(_ sense: SCSISense, _ registers: ATARegisters) -> ATAOutcome {
    ATAOutcome(
      status: [.ready, .error], error: ATAError(rawValue: sense.key << 4).union(.aborted), registers: ended(registers))
  }

  /// Interrupt reason: a status for the host.
  private static func ended(_ registers: ATARegisters) -> ATARegisters {
    var registers = registers
    registers.count = 3
    return registers
  }
}
