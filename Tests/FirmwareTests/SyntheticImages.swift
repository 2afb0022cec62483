@testable import Firmware

/// Small kernels that never run: just enough of a header for a loader.
enum SyntheticImage {
  static let codeByte: UInt8 = 0xc3
  /// What ELF images are linked higher than they are loaded.
  static let virtualOffset: UInt32 = 0x8000_0000

  /// A bzImage with one setup sector and `kernelSize` bytes of kernel.
  static func linux(
    version: UInt16 = 0x020f, kernelSize: Int = 0x4000, initSize: UInt32 = 0x10_0000, isRelocatable: Bool = true,
    preferredAddress: UInt64 = 0x20_0000, alignment: UInt32 = 0x20_0000, flags: UInt16 = 1,
    commandLineLimit: UInt32 = 255, ramDiskAddressMax: UInt32 = 0x7fff_ffff
  ) -> [UInt8] {
    var image = ByteWriter(count: 1024)
    image.append([UInt8](repeating: codeByte, count: kernelSize))
    image.put(UInt8(1), at: 0x1f1)
    image.put(UInt32((kernelSize + 15) / 16), at: 0x1f4)
    image.put(UInt16(0xaa55), at: 0x1fe)
    image.put(UInt16(0x6aeb), at: 0x200)
    image.put(UInt32(0x5372_6448), at: 0x202)
    image.put(version, at: 0x206)
    image.put(UInt8(1), at: 0x211)
    image.put(UInt32(0x10_0000), at: 0x214)
    image.put(ramDiskAddressMax, at: 0x22c)
    image.put(alignment, at: 0x230)
    image.put(UInt8(isRelocatable ? 1 : 0), at: 0x234)
    image.put(flags, at: 0x236)
    image.put(commandLineLimit, at: 0x238)
    image.put(preferredAddress, at: 0x258)
    image.put(initSize, at: 0x260)
    return image.bytes
  }

  /// An ELF file with a PVH note and one segment at 2 MiB, of which the second half is not in the file.
  /// The ELF header's own entry point is 16 bytes behind the note's, at a virtual address that is 0x8000_0000 higher.
  static func elf(is64Bit: Bool, entry: UInt32 = 0x20_0010, hasNote: Bool = true) -> [UInt8] {
    let dataOffset = 0x200
    let noteOffset = 0x180
    let dataSize = 0x1000
    var image = ByteWriter(count: dataOffset)
    image.append([UInt8](repeating: codeByte, count: dataSize))

    image.put(UInt32(0x464c_457f), at: 0)
    image.put(UInt8(is64Bit ? 2 : 1), at: 4)
    image.put(UInt8(1), at: 5)
    image.put(UInt16(2), at: 0x10)
    image.put(UInt16(is64Bit ? 62 : 3), at: 0x12)
    let headers = is64Bit ? 0x40 : 0x34
    let headerSize = is64Bit ? 0x38 : 0x20
    let start = virtualOffset &+ entry &+ 0x10
    if is64Bit {
      image.put(UInt64(start), at: 0x18)
      image.put(UInt64(headers), at: 0x20)
      image.put(UInt16(headerSize), at: 0x36)
      image.put(UInt16(2), at: 0x38)
    } else {
      image.put(start, at: 0x18)
      image.put(UInt32(headers), at: 0x1c)
      image.put(UInt16(headerSize), at: 0x2a)
      image.put(UInt16(2), at: 0x2c)
    }

    /// Type, file offset, physical address, size in the file and in memory.
    func header(_ index: Int, _ type: UInt32, _ offset: Int, _ address: UInt64, _ size: Int, _ memorySize: Int) {
      let base = headers + index * headerSize
      image.put(type, at: base)
      if is64Bit {
        image.put(UInt64(offset), at: base + 0x08)
        image.put(address + UInt64(virtualOffset), at: base + 0x10)
        image.put(address, at: base + 0x18)
        image.put(UInt64(size), at: base + 0x20)
        image.put(UInt64(memorySize), at: base + 0x28)
      } else {
        image.put(UInt32(offset), at: base + 0x04)
        image.put(UInt32(address) + virtualOffset, at: base + 0x08)
        image.put(UInt32(address), at: base + 0x0c)
        image.put(UInt32(size), at: base + 0x10)
        image.put(UInt32(memorySize), at: base + 0x14)
      }
    }
    header(0, 1, dataOffset, 0x20_0000, dataSize, 2 * dataSize)
    header(1, 4, noteOffset, 0, 0x40, 0x40)

    // A note of another owner first, then ours.
    var notes = ByteWriter()
    notes.append(UInt32(4))
    notes.append(UInt32(5))
    notes.append(UInt32(1))
    notes.append("GNU", count: 4)
    notes.append([1, 2, 3, 4, 5, 0, 0, 0])
    notes.append(UInt32(4))
    notes.append(UInt32(4))
    notes.append(UInt32(hasNote ? 18 : 17))
    notes.append("Xen", count: 4)
    notes.append(entry)
    for (index, byte) in notes.bytes.enumerated() { image.put(byte, at: noteOffset + index) }
    return image.bytes
  }

  /// `elf` with a multiboot header at 0x600, in the loaded part.
  static func multiboot(is64Bit: Bool, flags: UInt32 = 3) -> [UInt8] {
    var image = ByteWriter(elf(is64Bit: is64Bit, hasNote: false))
    for (index, word) in [0x1bad_b002, flags, 0 &- 0x1bad_b002 &- flags].enumerated() {
      image.put(word as UInt32, at: 0x600 + 4 * index)
    }
    return image.bytes
  }

  /// A file without a format whose multiboot header, at 0x20, says that all from there on goes to 3 MiB.
  static func flatMultiboot(loadEnd: UInt32 = 0, bssEnd: UInt32 = 0x30_3000, entry: UInt32 = 0x30_0040) -> [UInt8] {
    let flags: UInt32 = 1 << 16
    var image = ByteWriter([UInt8](repeating: codeByte, count: 0x1020))
    let words = [
      0x1bad_b002, flags, 0 &- 0x1bad_b002 &- flags, 0x30_0000, 0x30_0000, loadEnd, bssEnd, entry,
    ]
    for (index, word) in words.enumerated() { image.put(word, at: 0x20 + 4 * index) }
    return image.bytes
  }

  /// A tag of a multiboot 2 header.
  static func headerTag(_ type: UInt16, _ words: UInt32..., flags: UInt16 = 0) -> [UInt8] {
    var tag = ByteWriter()
    tag.append(type)
    tag.append(flags)
    tag.append(UInt32(8 + 4 * words.count))
    for word in words { tag.append(word) }
    tag.pad(toMultipleOf: 8)
    return tag.bytes
  }

  /// `elf`, or where there are address tags a file without a format, with a multiboot 2 header at 0x600.
  static func multiboot2(isELF: Bool = true, is64Bit: Bool = true, tags: [[UInt8]]) -> [UInt8] {
    var image =
      isELF
      ? ByteWriter(elf(is64Bit: is64Bit, hasNote: false)) : ByteWriter([UInt8](repeating: codeByte, count: 0x1200))
    let body = tags.flatMap(\.self) + headerTag(0)
    let length = UInt32(16 + body.count)
    for (index, word) in [0xe852_50d6, 0, length, 0 &- 0xe852_50d6 &- length].enumerated() {
      image.put(word as UInt32, at: 0x600 + 4 * index)
    }
    for (index, byte) in body.enumerated() { image.put(byte, at: 0x610 + index) }
    return image.bytes
  }

  /// Something that Linux takes for an initial RAM disk.
  static func ramDisk(_ count: Int) -> [UInt8] {
    Array("070701".utf8) + [UInt8](repeating: 0x30, count: max(0, count - 6))
  }
}
