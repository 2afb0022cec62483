/// How a command ended: what the host finds in the registers.
struct ATAOutcome: Codable, Equatable, Sendable {
  var status = ATAStatus.idle
  var error: ATAError = []
  var registers: ATARegisters

  /// The command did what it should.
  static func success(_ registers: ATARegisters) -> Self { Self(registers: registers) }

  static func failure(_ error: ATAError, _ registers: ATARegisters) -> Self {
    Self(status: [.idle, .error], error: error, registers: registers)
  }

  /// The drive could not, though the command was right.
  static func fault(_ registers: ATARegisters) -> Self {
    Self(status: [.idle, .deviceFault, .error], error: .aborted, registers: registers)
  }

  var isFailure: Bool { !status.isDisjoint(with: [.error, .deviceFault]) }
}
