import CZydis

/// What Zydis's register names become in `Operation`: byte offsets in CPUState for general registers, plain numbers for
/// the others.
enum RegisterNumbers {
  static func number(of register: ZydisRegister) -> UInt8 { numbers[Int(register.rawValue)] }

  private static let numbers: [UInt8] = {
    var numbers = [UInt8](repeating: 128, count: Int(ZYDIS_REGISTER_MAX_VALUE.rawValue) + 1)
    func fill(_ first: ZydisRegister, _ values: [UInt8]) {
      for (index, value) in values.enumerated() { numbers[Int(first.rawValue) + index] = value }
    }
    let offsets = (0..<16).map { UInt8($0 * 8) }
    // AL CL DL BL, AH CH DH BH, SPL BPL SIL DIL, R8B to R15B.
    fill(ZYDIS_REGISTER_AL, Array(offsets[0..<4]) + [1, 9, 17, 25] + Array(offsets[4..<16]))
    fill(ZYDIS_REGISTER_AX, offsets)
    fill(ZYDIS_REGISTER_EAX, offsets)
    fill(ZYDIS_REGISTER_RAX, offsets)
    let plain = (0..<32).map(UInt8.init)
    fill(ZYDIS_REGISTER_ST0, Array(plain[0..<8]))
    fill(ZYDIS_REGISTER_MM0, Array(plain[0..<8]))
    fill(ZYDIS_REGISTER_XMM0, plain)
    fill(ZYDIS_REGISTER_YMM0, plain)
    fill(ZYDIS_REGISTER_ZMM0, plain)
    fill(ZYDIS_REGISTER_K0, Array(plain[0..<8]))
    fill(ZYDIS_REGISTER_ES, Array(plain[0..<6]))
    fill(ZYDIS_REGISTER_CR0, Array(plain[0..<16]))
    fill(ZYDIS_REGISTER_DR0, Array(plain[0..<16]))
    for register in [ZYDIS_REGISTER_RIP, ZYDIS_REGISTER_EIP, ZYDIS_REGISTER_IP] {
      numbers[Int(register.rawValue)] = 136
    }
    return numbers
  }()
}
