import Memory

/// Offsets in the KiB from `PhysicalMemoryMap.conventionalEnd`.
enum ExtendedBIOSDataArea {
  /// A byte: KiB of this area.
  static let size: UInt64 = 0
  static let multiProcessorPointer: UInt64 = 0x10
  /// What the interrupt vectors lead to.
  static let code: UInt64 = 0x20
}

/// The display's mode in which a kernel starts.
enum TextMode {
  static let number = 3
  static let columns = 80
  static let rows = 25
  /// In lines.
  static let characterHeight = 16
}

extension GuestMemory {
  /// What a kernel may look for below 1 MiB, or call there, though no BIOS has run (IBM PS/2 and PC BIOS Interface Technical
  /// Reference, "Interrupts", "BIOS Data Area", "Extended BIOS Data Area"): how much conventional memory there is,
  /// interrupt vectors, and what mode the display is in, if there is one. Xen, for one, looks for its room by the first and
  /// asks for disks and display modes by the second.
  func placeBIOSAreas(hasDisplay: Bool) {
    let end = PhysicalMemoryMap.conventionalEnd
    let segment = UInt16(end >> 4)
    let kibibytes = UInt16(end >> 10)
    let code = BIOSCode(conventionalMemory: kibibytes)

    var areas = ByteWriter(count: BootLayout.biosAreas.count)
    for vector in 0..<256 {
      areas.put(UInt32(segment) << 16 | UInt32(code.entry(vector)), at: vector * 4)
    }
    areas.put(segment, at: 0x40e)
    areas.put(kibibytes, at: 0x413)
    if hasDisplay {
      // Equipment: the display starts with 80 columns, in colour.
      areas.put(UInt16(0x20), at: 0x410)
      areas.put(UInt8(TextMode.number), at: 0x449)
      areas.put(UInt16(TextMode.columns), at: 0x44a)
      // Bytes of a page.
      areas.put(UInt16(0x1000), at: 0x44c)
      // The cursor's lines, and the CRT controller's port.
      areas.put(UInt16(0x0d0e), at: 0x460)
      areas.put(UInt16(0x3d4), at: 0x463)
      areas.put(UInt8(TextMode.rows - 1), at: 0x484)
      areas.put(UInt16(TextMode.characterHeight), at: 0x485)
    }
    place(areas.bytes, at: BootLayout.biosAreas.lowerBound)

    place([UInt8((PhysicalMemoryMap.legacyArea.lowerBound - end) >> 10)], at: end + ExtendedBIOSDataArea.size)
    place(code.bytes, at: end + ExtendedBIOSDataArea.code)
  }
}

/// The code behind the interrupt vectors, in the extended data area.
private struct BIOSCode {
  let bytes: [UInt8]
  private let service, memorySize, equipment, firstController, secondController, ignore: UInt16

  /// `conventionalMemory` is in KiB.
  init(conventionalMemory: UInt16) {
    var code: [UInt8] = []
    func add(_ bytes: UInt8...) -> UInt16 {
      defer { code += bytes }
      return UInt16(ExtendedBIOSDataArea.code) + UInt16(code.count)
    }
    // push bp; mov bp, sp; or byte [bp + 6], 1 (CF of the flags to return to); pop bp; mov ah, 0x86; iret
    service = add(0x55, 0x89, 0xe5, 0x80, 0x4e, 0x06, 0x01, 0x5d, 0xb4, 0x86, 0xcf)
    // mov ax, conventionalMemory; iret
    memorySize = add(
      0xb8, UInt8(truncatingIfNeeded: conventionalMemory), UInt8(truncatingIfNeeded: conventionalMemory >> 8), 0xcf)
    // xor ax, ax; iret
    equipment = add(0x31, 0xc0, 0xcf)
    // push ax; mov al, 0x20; out 0xa0, al; jmp to the out of what follows
    secondController = add(0x50, 0xb0, 0x20, 0xe6, 0xa0, 0xeb, 0x03)
    // push ax; mov al, 0x20; out 0x20, al; pop ax; iret
    firstController = add(0x50, 0xb0, 0x20, 0xe6, 0x20, 0x58, 0xcf)
    ignore = add(0xcf)
    bytes = code
  }

  /// Offset in the extended data area.
  func entry(_ vector: Int) -> UInt16 {
    switch vector {
    case 0x00..<0x08: ignore
    case 0x08..<0x10: firstController
    case 0x11: equipment
    case 0x12: memorySize
    case 0x70..<0x78: secondController
    default: service
    }
  }
}
