import CSilicon
import CZydis
import Glibc
import X86

@testable import Processor

/// Compares what the silicon and the interpreter made of one case.
struct Comparison {
  struct Difference {
    let field: String
    let silicon: String
    let interpreter: String
  }

  /// Differences that count, and flags that the manual leaves undefined and that differ.
  private(set) var differences: [Difference] = []
  private(set) var undefinedFlags: UInt64 = 0

  private static let registers = [
    "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15",
  ]

  /// `decoder` has decoded the case's instruction.
  init(
    _ one: UnsafeMutablePointer<SiliconCase>, _ interpreter: UnsafeMutablePointer<SiliconState>,
    _ decoder: InstructionDecoder
  ) {
    let mode = one.pointee.mode
    if one.pointee.after.vector != 3 {
      if decoder.leavesFaultsOpen { return }
      if interpreter.pointee.vector != 3, decoder.leavesFaultOrderOpen { return }
    }
    if one.pointee.after.vector == SiliconEndless, interpreter.pointee.vector == SiliconEndless { return }
    if Self.ranOtherCode(one) { return }
    // MXCSR's bit 17, AMD's misaligned mode, which the guest's processor does not have.
    if CaseState(after: one).legacy.load(fromByteOffset: 26, as: UInt8.self) & 2 != 0 { return }
    let undefined = UInt64(decoder.instruction.pointee.cpu_flags.pointee.undefined)
    let left = CaseState(after: one)
    let right = CaseState(interpreter)
    for index in 0..<Int(one.pointee.ignoredCount) {
      let offset = Int(one.pointee.ignoredStart) + index
      if offset < SiliconDataSize { left.data[offset] = right.data[offset] }
    }
    for number in 0..<(mode == .long ? 16 : 8) {
      // Outside 64-bit mode the upper halves are nobody's, and Linux leaves something of its own in RSP's.
      let mask: UInt64 = mode == .long ? ~0 : 0xffff_ffff
      check(Self.registers[number], left.gpr(number) & mask, right.gpr(number) & mask)
    }
    check("rip", left.rip, right.rip)
    let flags = (left.rflags ^ right.rflags) & ~RFLAGS.rf
    undefinedFlags = flags & undefined
    if flags & ~undefined != 0 {
      differences.append(
        Difference(field: "rflags", silicon: describe(left.rflags), interpreter: describe(right.rflags)))
    }
    if mode == .long {
      check("fs base", left.fsBase, right.fsBase)
      check("gs base", left.gsBase, right.gsBase)
    }
    checkFault(left, right, addressMask: decoder.accessesInParts ? 0 : ~0)
    checkVectors(left, right)
    checkData(left, right)
  }

  /// Whether a branch has led into the instruction of another case, which then ran too.
  private static func ranOtherCode(_ one: UnsafeMutablePointer<SiliconCase>) -> Bool {
    let place = one.pointee.after.rip &- UInt64(SiliconCodeAddress)
    let slotSize = UInt64(SiliconSlotSize)
    guard place < UInt64(SiliconCodeSize), place % slotSize <= slotSize / 2 else { return false }
    return place / slotSize != (one.pointee.before.rip &- UInt64(SiliconCodeAddress)) / slotSize
  }

  private mutating func check(_ field: String, _ silicon: UInt64, _ interpreter: UInt64) {
    guard silicon != interpreter else { return }
    differences.append(
      Difference(
        field: field, silicon: String(silicon, radix: 16), interpreter: String(interpreter, radix: 16)))
  }

  private mutating func checkFault(_ left: CaseState, _ right: CaseState, addressMask: UInt64) {
    let vector = left.pointer.pointee.vector
    check("exception", UInt64(vector), UInt64(right.pointer.pointee.vector))
    guard vector == right.pointer.pointee.vector else { return }
    var codes: UInt64 = 0xffff_ffff
    if vector == 14 {
      check(
        "cr2", left.pointer.pointee.faultAddress & addressMask, right.pointer.pointee.faultAddress & addressMask)
      // Linux tells user programs that what is not theirs is present, whatever it is.
      if left.pointer.pointee.faultAddress >= 0x7fff_ffff_f000 { codes &= ~1 }
    } else if ![10, 11, 12, 13, 17].contains(vector) {
      return
    }
    check("error code", UInt64(left.pointer.pointee.errorCode) & codes, UInt64(right.pointer.pointee.errorCode) & codes)
  }

  private mutating func checkVectors(_ left: CaseState, _ right: CaseState) {
    if memcmp(left.legacy, right.legacy, 416) != 0 {
      // Not compared: FOP, FIP and FDP, which AMD stores only when an exception is pending, and MXCSR_MASK.
      for offset in 0..<416 where !(6..<24).contains(offset) && !(28..<32).contains(offset) {
        let isRegister = offset >= 32 && offset < 160
        if isRegister, offset & 15 >= 10 { continue }
        let names = offset < 24 ? "x87 control" : offset < 32 ? "mxcsr" : offset < 160 ? "st" : "xmm"
        let a = left.legacy.load(fromByteOffset: offset, as: UInt8.self)
        let b = right.legacy.load(fromByteOffset: offset, as: UInt8.self)
        if a != b { check("\(names) byte \(offset)", UInt64(a), UInt64(b)) }
      }
    }
    if memcmp(left.upper, right.upper, 256) != 0 {
      for offset in stride(from: 0, to: 256, by: 8) {
        check(
          "ymm\(offset / 16) upper", left.upper.load(fromByteOffset: offset, as: UInt64.self),
          right.upper.load(fromByteOffset: offset, as: UInt64.self))
      }
    }
  }

  private mutating func checkData(_ left: CaseState, _ right: CaseState) {
    guard memcmp(left.data, right.data, SiliconDataSize) != 0 else { return }
    let offset = (0..<SiliconDataSize).first { left.data[$0] != right.data[$0] } ?? 0
    let start = min(offset, SiliconDataSize - 8)
    check(
      "memory at " + String(SiliconDataAddress + start, radix: 16),
      UnsafeRawPointer(left.data).loadUnaligned(fromByteOffset: start, as: UInt64.self),
      UnsafeRawPointer(right.data).loadUnaligned(fromByteOffset: start, as: UInt64.self))
  }

  private func describe(_ flags: UInt64) -> String {
    let names: [(UInt64, String)] = [
      (RFLAGS.of, "O"), (RFLAGS.df, "D"), (RFLAGS.sf, "S"), (RFLAGS.zf, "Z"), (RFLAGS.af, "A"), (RFLAGS.pf, "P"),
      (RFLAGS.cf, "C"),
    ]
    return names.map { flags & $0.0 != 0 ? $0.1 : "-" }.joined() + "/" + String(flags, radix: 16)
  }
}
