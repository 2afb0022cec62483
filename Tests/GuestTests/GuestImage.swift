/// Makes bootable files of machine code: ELF with the note by which a PVH kernel names its entry point.
enum GuestImage {
  /// An ELF32 file whose one segment holds the code, entered at its first byte (System V ABI; Xen's
  /// include/public/elfnote.h: XEN_ELFNOTE_PHYS32_ENTRY).
  static func elf(_ assembler: GuestAssembler) -> [UInt8] {
    let headerSize: UInt32 = 52
    let programHeaderSize: UInt32 = 32
    let noteOffset = headerSize + 2 * programHeaderSize
    let noteSize: UInt32 = 20
    let codeOffset = noteOffset + noteSize
    let code = assembler.bytes
    let base = GuestAssembler.base

    var file = GuestAssembler()
    // \u{7f}ELF, 32-bit, little-endian, version 1; then the rest of e_ident.
    file.emit(0x7f, 0x45, 0x4c, 0x46, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0)
    // An executable for the i386, version 1; entry, program headers, no section headers, no flags.
    file.emit16(2)
    file.emit16(3)
    for word in [1, base, headerSize, 0, 0] as [UInt32] { file.emit32(word) }
    for half in [headerSize, programHeaderSize, 2, 40, 0, 0] as [UInt32] { file.emit16(UInt16(half)) }
    // PT_LOAD, PT_NOTE: offset, virtual and physical address, sizes in file and memory, flags, alignment.
    let codeSize = UInt32(code.count)
    for word in [1, codeOffset, base, base, codeSize, codeSize, 7, 1] as [UInt32] { file.emit32(word) }
    for word in [4, noteOffset, 0, 0, noteSize, noteSize, 4, 4] as [UInt32] { file.emit32(word) }
    // Name "Xen\0", type 18.
    for word in [4, 4, 18] as [UInt32] { file.emit32(word) }
    file.emit(0x58, 0x65, 0x6e, 0)
    file.emit32(base)
    return file.bytes + code
  }
}
