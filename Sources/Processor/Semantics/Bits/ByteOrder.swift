import CHost
import CZydis
import X86

/// BSWAP, MOVBE and CRC32.
enum ByteOrder {
  static let rows: [InstructionRow] = [
    InstructionRow(ZYDIS_MNEMONIC_BSWAP, swap),
    InstructionRow(ZYDIS_MNEMONIC_MOVBE, move),
    InstructionRow(ZYDIS_MNEMONIC_CRC32, accumulateChecksum),
  ]

  /// The undefined 16-bit form gives zero.
  static func swap(_ processor: SoftwareProcessor, _ op: Op) throws(GuestFault) -> Flow {
    let register = op.pointee.destination
    switch op.pointee.size {
    case 2: processor.setRegister(register, 0 as UInt16)
    case 4: processor.setRegister(register, processor.register(register, as: UInt32.self).byteSwapped)
    default: processor.setRegister(register, processor.register(register, as: UInt64.self).byteSwapped)
    }
    return .next
  }

  static func move(_ processor: SoftwareProcessor, _ op: Op) throws(GuestFault) -> Flow {
    switch op.pointee.size {
    case 2: try processor.setFirstOperand(op, processor.secondOperand(op, as: UInt16.self).byteSwapped)
    case 4: try processor.setFirstOperand(op, processor.secondOperand(op, as: UInt32.self).byteSwapped)
    default: try processor.setFirstOperand(op, processor.secondOperand(op, as: UInt64.self).byteSwapped)
    }
    return .next
  }

  /// Polynomial 11EDC6F41h, reflected. The result has 32 bits in a 64-bit register too.
  static func accumulateChecksum(_ processor: SoftwareProcessor, _ op: Op) throws(GuestFault) -> Flow {
    let source: UInt64 =
      switch op.pointee.sourceSize {
      case 1: UInt64(try processor.secondOperand(op, as: UInt8.self))
      case 2: UInt64(try processor.secondOperand(op, as: UInt16.self))
      case 4: UInt64(try processor.secondOperand(op, as: UInt32.self))
      default: try processor.secondOperand(op, as: UInt64.self)
      }
    var checksum = processor.register(op.pointee.destination, as: UInt32.self)
    for index in 0..<UInt64(op.pointee.sourceSize) {
      let byte = UInt8(truncatingIfNeeded: checksum) ^ UInt8(truncatingIfNeeded: source &>> (8 &* index))
      checksum = checksums[Int(byte)] ^ (checksum &>> 8)
    }
    processor.setRegister(op.pointee.destination, checksum)
    return .next
  }

  /// The remainder for each byte.
  private static let checksums: [UInt32] = (0..<256).map { byte in
    (0..<8).reduce(UInt32(byte)) { remainder, _ in remainder >> 1 ^ (remainder & 1 != 0 ? 0x82f6_3b78 : 0) }
  }
}
