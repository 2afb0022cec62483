import CHost
import CZydis
import X86

/// Guest registers without a host register borrow one for a block.
///
/// A block that uses such a register often, and does not use some other guest register at all, has the host register of the
/// latter hold the former while it runs. The exchange takes two moves where the block begins and two wherever it ends or
/// may leave; each use saves a load or a store, and their latency.
extension BlockTranslation {
  struct Loan {
    /// The guest register that has no host register of its own.
    var borrower: Int
    var host: Int
  }

  /// Uses that pay for an exchange.
  private static let fewestUses = 6

  /// The host register of a guest register in this block; nil: it is in the frame.
  func host(_ guest: Int) -> Int? {
    GuestRegisters.host(guest) ?? loans.first { $0.borrower == guest }?.host
  }

  /// Decides on the block's loans, once it is decoded.
  mutating func arrangeLoans(_ count: Int) {
    guard decodedCount == count else { return }
    var uses = [Int](repeating: 0, count: 16)
    for index in 0..<count {
      guard operations[index].semantic == PseudoInstructions.native || hasPlainRegisters(index) else { return }
      countUses(of: index, &uses)
    }
    let lenders = GuestRegisters.mapped.filter { $0.guest != GuestRegisters.rsp && uses[$0.guest] == 0 }
    let borrowers = GuestRegisters.homeless.filter { uses[$0] >= Self.fewestUses }.sorted { uses[$0] > uses[$1] }
    loans = zip(borrowers, lenders).map { Loan(borrower: $0, host: $1.host) }
  }

  /// Whether the instruction's translation uses no guest register that is not an operand of it.
  private func hasPlainRegisters(_ index: Int) -> Bool {
    switch Self.kinds[Int(decoded(index).pointee.mnemonic.rawValue)] {
    case .plain, .plainKeepingFlags, .move, .exchange, .shift, .loadAddress, .byteSwap, .compareExchange, .multiply,
      .signExtend, .nothing, .jump, .jumpIf, .call, .return, .push, .pop, .leave, .incrementDecrement, .divide,
      .signedDivide, .carry:
      true
    case .none: decoded(index).pointee.encoding == ZYDIS_INSTRUCTION_ENCODING_VEX
    default: false
    }
  }

  private func countUses(of index: Int, _ uses: inout [Int]) {
    func note(_ register: ZydisRegister, _ count: Int) {
      let number = Int(RegisterNumbers.number(of: register))
      switch ZydisRegisterGetClass(register) {
      case ZYDIS_REGCLASS_GPR8, ZYDIS_REGCLASS_GPR16, ZYDIS_REGCLASS_GPR32, ZYDIS_REGCLASS_GPR64:
        uses[number / 8 & 15] += count
      default: break
      }
    }
    let operands = decodedOperands(index)
    for place in 0..<Int(decoded(index).pointee.operand_count) {
      let operand = operands + place
      switch operand.pointee.type {
      case ZYDIS_OPERAND_TYPE_REGISTER:
        note(operand.pointee.reg.value, operand.pointee.isRead && operand.pointee.isWritten ? 2 : 1)
      case ZYDIS_OPERAND_TYPE_MEMORY:
        note(operand.pointee.mem.base, 1)
        note(operand.pointee.mem.index, 1)
      default: break
      }
    }
  }

  /// Has the borrowers in the host registers that they have borrowed. Leaves flags and temporaries alone.
  mutating func takeLoans() {
    for loan in loans {
      code.store(loan.host, GuestRegisters.lent(loan.borrower))
      code.load(loan.host, GuestRegisters.home(loan.borrower))
    }
  }

  /// The opposite: from here on registers are where they are outside the block.
  mutating func returnLoans() {
    for loan in loans {
      code.store(loan.host, GuestRegisters.home(loan.borrower))
      code.load(loan.host, GuestRegisters.lent(loan.borrower))
    }
  }
}
