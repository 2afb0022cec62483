@testable import Firmware

/// Small kernels that never run: just enough of a header for a loader.
enum SyntheticImage {
  static let codeByte: UInt8 = 0xc3

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
    if is64Bit {
      image.put(UInt64(headers), at: 0x20)
      image.put(UInt16(headerSize), at: 0x36)
      image.put(UInt16(2), at: 0x38)
    } else {
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
        image.put(address, at: base + 0x18)
        image.put(UInt64(size), at: base + 0x20)
        image.put(UInt64(memorySize), at: base + 0x28)
      } else {
        image.put(UInt32(offset), at: base + 0x04)
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

  /// Something that Linux takes for an initial RAM disk.
  static func ramDisk(_ count: Int) -> [UInt8] {
    Array("070701".utf8) + [UInt8](repeating: 0x30, count: max(0, count - 6))
  }
}
