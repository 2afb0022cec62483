/// The setup header of a Linux bzImage, checked (Documentation/arch/x86/boot.rst, "The Real-Mode Kernel Header").
public struct LinuxHeader: Equatable, Sendable {
  /// Offsets in the file, which are the same in the zero page.
  enum Offset {
    static let setupSectors = 0x1f1
    static let systemSize = 0x1f4
    static let bootFlag = 0x1fe
    /// The second byte of a short jump over the header: it tells the header's end.
    static let jump = 0x201
    static let magic = 0x202
    static let version = 0x206
    static let typeOfLoader = 0x210
    static let loadFlags = 0x211
    static let code32Start = 0x214
    static let ramDiskImage = 0x218
    static let ramDiskSize = 0x21c
    static let commandLine = 0x228
    static let ramDiskAddressMax = 0x22c
    static let kernelAlignment = 0x230
    static let relocatable = 0x234
    static let extendedLoadFlags = 0x236
    static let commandLineSize = 0x238
    static let preferredAddress = 0x258
    static let initSize = 0x260
    /// What follows the header's place in the zero page.
    static let end = 0x290
  }

  static let loadedHigh: UInt8 = 1 << 0
  static let has64BitEntry: UInt16 = 1 << 0

  /// Protocol version, major in the high byte.
  public let version: UInt16
  /// Where in the file the protected-mode kernel begins, and its size.
  public let kernelOffset: UInt64
  public let kernelSize: UInt64
  /// Bytes from where it is loaded that the kernel uses before it reads the memory map.
  public let initSize: UInt64
  public let isRelocatable: Bool
  /// A power of two.
  public let alignment: UInt64
  /// Where the kernel would run if it may choose; zero: anywhere.
  public let preferredAddress: UInt64
  /// It can be entered in 64-bit mode, 0x200 bytes after its beginning.
  public let is64Bit: Bool
  /// Highest address that the initial RAM disk may use.
  public let ramDiskAddressMax: UInt64
  /// Bytes, without the terminator.
  public let commandLineLimit: Int
  /// The header as the zero page takes it: the file's bytes from 0x1f1 on.
  let bytes: [UInt8]

  /// Whether a file's beginning claims to be a bzImage.
  static func isPresent(in head: ByteView) -> Bool { head.has("HdrS".utf8, at: Offset.magic) }

  /// Reads and checks the header; `head` is the file's beginning, `Offset.end` bytes or all there is.
  init(_ head: ByteView, file: BootFile) throws(BootFailure) {
    func field<T: FixedWidthInteger & UnsignedInteger>(_ offset: Int, _: T.Type = T.self) throws(BootFailure) -> T {
      guard let value: T = head.load(offset) else {
        throw BootFailure(file.name, .truncated(needs: UInt64(offset + T.bitWidth / 8), has: file.size))
      }
      return value
    }
    guard try field(Offset.bootFlag, UInt16.self) == 0xaa55 else {
      throw BootFailure(file.name, .malformed("its boot sector has no 0xaa55 at its end"))
    }
    version = try field(Offset.version)
    // 2.10 tells how much memory the kernel needs and where it wants to be.
    guard version >= 0x020a else { throw BootFailure(file.name, .oldProtocol(version)) }
    guard try field(Offset.loadFlags, UInt8.self) & Self.loadedHigh != 0 else {
      throw BootFailure(file.name, .notHighLoaded)
    }

    let headerEnd = Offset.magic + Int(try field(Offset.jump, UInt8.self))
    guard headerEnd >= Offset.initSize + 4, headerEnd <= Offset.end else {
      throw BootFailure(file.name, .malformed("its setup header ends at 0x\(String(headerEnd, radix: 16))"))
    }
    guard headerEnd <= head.bytes.count else {
      throw BootFailure(file.name, .truncated(needs: UInt64(headerEnd), has: file.size))
    }
    bytes = Array(head.bytes[Offset.setupSectors..<headerEnd])

    let sectors = try field(Offset.setupSectors, UInt8.self)
    // For backwards compatibility, zero stands for four.
    kernelOffset = (UInt64(sectors == 0 ? 4 : sectors) + 1) * 512
    let paragraphs = UInt64(try field(Offset.systemSize, UInt32.self)) * 16
    guard paragraphs > 0 else { throw BootFailure(file.name, .malformed("it says that its kernel has no bytes")) }
    // The size is in paragraphs; memtest86+ does not fill its last one.
    let missing = (kernelOffset + paragraphs).subtractingReportingOverflow(file.size)
    guard missing.overflow || missing.partialValue < 16 else {
      throw BootFailure(file.name, .truncated(needs: kernelOffset + paragraphs, has: file.size))
    }
    kernelSize = missing.overflow ? paragraphs : paragraphs - missing.partialValue

    initSize = max(UInt64(try field(Offset.initSize, UInt32.self)), kernelSize)
    isRelocatable = try field(Offset.relocatable, UInt8.self) != 0
    alignment = UInt64(try field(Offset.kernelAlignment, UInt32.self))
    guard alignment.nonzeroBitCount == 1, alignment <= 1 << 30 else {
      throw BootFailure(file.name, .malformed("its alignment is 0x\(String(alignment, radix: 16))"))
    }
    preferredAddress = try field(Offset.preferredAddress)
    // Extended load flags came with 2.12.
    let extendedFlags = version >= 0x020c ? try field(Offset.extendedLoadFlags, UInt16.self) : 0
    is64Bit = extendedFlags & Self.has64BitEntry != 0
    guard !is64Bit || kernelSize > 0x200 else {
      throw BootFailure(file.name, .malformed("its kernel ends before its 64-bit entry point"))
    }
    ramDiskAddressMax = UInt64(try field(Offset.ramDiskAddressMax, UInt32.self))
    commandLineLimit = Int(try field(Offset.commandLineSize, UInt32.self))
  }
}
