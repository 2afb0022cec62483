import CHost
import CZydis
import X86

/// ADCX and ADOX: sums with one flag as carry, in and out, and no other flag changed.
enum AddWithCarryExtensions {
  static let rows: [InstructionRow] = [
    InstructionRow(ZYDIS_MNEMONIC_ADCX, addWithCarry),
    InstructionRow(ZYDIS_MNEMONIC_ADOX, addWithOverflow),
  ]

  static func addWithCarry(_ processor: SoftwareProcessor, _ op: Op) throws(GuestFault) -> Flow {
    op.pointee.size == 8
      ? try add(processor, op, RFLAGS.cf, UInt64.self) : try add(processor, op, RFLAGS.cf, UInt32.self)
  }

  static func addWithOverflow(_ processor: SoftwareProcessor, _ op: Op) throws(GuestFault) -> Flow {
    op.pointee.size == 8
      ? try add(processor, op, RFLAGS.of, UInt64.self) : try add(processor, op, RFLAGS.of, UInt32.self)
  }

  private static func add<T: Word>(
    _ processor: SoftwareProcessor, _ op: Op, _ flag: UInt64, _: T.Type
  ) throws(GuestFault) -> Flow {
    let second = try processor.secondOperand(op, as: T.self)
    let (sum, carry) = processor.register(op.pointee.destination, as: T.self).addingReportingOverflow(second)
    let (result, further) = sum.addingReportingOverflow(processor.flag(flag) ? 1 : 0)
    processor.setRegister(op.pointee.destination, result)
    processor.setFlags(flag, carry || further ? flag : 0)
    return .next
  }
}
