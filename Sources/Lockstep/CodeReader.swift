import CHost
import CZydis
import Memory
import X86

/// Reads and disassembles guest code without the guest noticing: page tables are only looked at.
struct CodeReader {
  let memory: GuestMemory
  let state: UnsafePointer<CPUState>

  /// An instruction as Zydis knows it.
  struct Instruction {
    var decoded: ZydisDecodedInstruction
    var operands: [ZydisDecodedOperand]
    var bytes: [UInt8]
  }

  /// Up to 15 bytes, fewer where no memory is.
  func bytes(at linear: UInt64) -> [UInt8] {
    var bytes: [UInt8] = []
    while bytes.count < 15, let address = physical(linear &+ UInt64(bytes.count)),
      let byte = memory.load(GuestPhysicalAddress(address), as: UInt8.self)
    {
      bytes.append(byte)
    }
    return bytes
  }

  /// Nil where there is none.
  func instruction(at address: CodeAddress) -> Instruction? {
    var decoder = ZydisDecoder()
    let (mode, width) = machineMode
    guard ZydisDecoderInit(&decoder, mode, width) & 0x8000_0000 == 0 else { return nil }
    let bytes = bytes(at: address.linear)
    var decoded = ZydisDecodedInstruction()
    var operands = [ZydisDecodedOperand](repeating: ZydisDecodedOperand(), count: Int(ZYDIS_MAX_OPERAND_COUNT))
    let status = ZydisDecoderDecodeFull(&decoder, bytes, ZyanUSize(bytes.count), &decoded, &operands)
    guard status & 0x8000_0000 == 0 else { return nil }
    return Instruction(decoded: decoded, operands: operands, bytes: Array(bytes.prefix(Int(decoded.length))))
  }

  /// One line: address, bytes and text.
  func line(at address: CodeAddress) -> String {
    guard let instruction = instruction(at: address) else {
      let bytes = bytes(at: address.linear).prefix(8).map { hex(UInt64($0), 2) }.joined(separator: " ")
      return "\(address)  \(bytes.isEmpty ? "(no memory)" : "\(bytes)  (no instruction)")"
    }
    let bytes = instruction.bytes.map { hex(UInt64($0), 2) }.joined(separator: " ")
    return "\(address)  \(bytes)\(String(repeating: " ", count: max(0, 24 - bytes.count)))  "
      + text(instruction, at: address.offset)
  }

  private func text(_ instruction: Instruction, at offset: UInt64) -> String {
    var formatter = ZydisFormatter()
    var buffer = [CChar](repeating: 0, count: 256)
    var decoded = instruction.decoded
    guard ZydisFormatterInit(&formatter, ZYDIS_FORMATTER_STYLE_INTEL) & 0x8000_0000 == 0,
      ZydisFormatterFormatInstruction(
        &formatter, &decoded, instruction.operands, decoded.operand_count_visible, &buffer, ZyanUSize(buffer.count),
        offset, nil) & 0x8000_0000 == 0
    else { return "?" }
    return String(decoding: buffer.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
  }

  private var machineMode: (ZydisMachineMode, ZydisStackWidth) {
    let attributes = state.pointee.segments.1.attributes
    if state.pointee.cr0 & CR0.pe == 0 || state.pointee.rflags & RFLAGS.vm != 0 {
      return (ZYDIS_MACHINE_MODE_REAL_16, ZYDIS_STACK_WIDTH_16)
    }
    if state.pointee.efer & EFER.lma != 0, attributes & SegmentAttributes.long != 0 {
      return (ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64)
    }
    return attributes & SegmentAttributes.big != 0
      ? (ZYDIS_MACHINE_MODE_LEGACY_32, ZYDIS_STACK_WIDTH_32) : (ZYDIS_MACHINE_MODE_LEGACY_16, ZYDIS_STACK_WIDTH_16)
  }

  // MARK: Paging (SDM vol. 3A, 4.3 to 4.5)

  private static let present: UInt64 = 1
  private static let large: UInt64 = 1 << 7
  private static let addressMask: UInt64 = 0x000f_ffff_ffff_f000

  /// The guest-physical address of a linear one; nil where none is mapped.
  func physical(_ linear: UInt64) -> UInt64? {
    let cpu = state.pointee
    guard cpu.cr0 & CR0.pg != 0 else { return linear & 0xffff_ffff }
    if cpu.efer & EFER.lma != 0 {
      let levels = cpu.cr4 & CR4.la57 != 0 ? 5 : 4
      return walk(linear, from: cpu.cr3 & Self.addressMask, levels: levels)
    }
    let linear = linear & 0xffff_ffff
    guard cpu.cr4 & CR4.pae == 0 else {
      let pointers = [cpu.pdpte.0, cpu.pdpte.1, cpu.pdpte.2, cpu.pdpte.3]
      let pointer = pointers[Int(linear >> 30)]
      guard pointer & Self.present != 0 else { return nil }
      return walk(linear, from: pointer & Self.addressMask, levels: 2)
    }
    return walk32(linear, from: cpu.cr3 & 0xffff_f000)
  }

  private func walk(_ linear: UInt64, from root: UInt64, levels: Int) -> UInt64? {
    var table = root
    for level in stride(from: levels, to: 0, by: -1) {
      let shift = UInt64(12 + 9 * (level - 1))
      let place = table &+ (linear >> shift & 0x1ff) * 8
      guard let entry = memory.load(GuestPhysicalAddress(place), as: UInt64.self), entry & Self.present != 0 else {
        return nil
      }
      if level == 1 || (level <= 3 && entry & Self.large != 0) {
        let offset = (1 << shift) - 1 as UInt64
        return entry & Self.addressMask & ~offset | linear & offset
      }
      table = entry & Self.addressMask
    }
    return nil
  }

  private func walk32(_ linear: UInt64, from root: UInt64) -> UInt64? {
    let place = root &+ (linear >> 22) * 4
    guard let entry = memory.load(GuestPhysicalAddress(place), as: UInt32.self).map(UInt64.init),
      entry & Self.present != 0
    else { return nil }
    if entry & Self.large != 0, state.pointee.cr4 & CR4.pse != 0 {
      return entry & 0xffc0_0000 | (entry >> 13 & 0xff) << 32 | linear & 0x3f_ffff
    }
    let last = entry & 0xffff_f000 &+ (linear >> 12 & 0x3ff) * 4
    guard let page = memory.load(GuestPhysicalAddress(last), as: UInt32.self).map(UInt64.init),
      page & Self.present != 0
    else { return nil }
    return page & 0xffff_f000 | linear & 0xfff
  }
}
