import Glibc

/// Why a guest cannot be loaded: what is wrong with which file, and what would be right. For the person at the keyboard.
public struct BootFailure: Error, Equatable, Sendable {
  public enum Problem: Equatable, Sendable {
    case cannotOpen(errno: Int32)
    case cannotRead(errno: Int32)
    case isDirectory
    case empty
    /// No end within this many bytes.
    case endless(limit: UInt64)
    /// Sizes in bytes, from the beginning of the file.
    case truncated(needs: UInt64, has: UInt64)
    /// Not a kernel; what it looks like, if that can be told.
    case notAKernel(found: String?)
    /// A Linux boot protocol, major version in the high byte.
    case oldProtocol(UInt16)
    /// A zImage: loads below 1 MiB.
    case notHighLoaded
    /// A field of the image makes no sense.
    case malformed(String)
    /// An ELF file for another processor (`e_machine`), or not a little-endian one (nil).
    case foreignELF(machine: UInt16?)
    /// An ELF file without an entry point for a hypervisor.
    case noEntryNote
    /// A multiboot header asks for something that the specification does not know.
    case unknownMultibootFeature(String)
    /// Address range of a segment.
    case segmentOutsideMemory(Range<UInt64>)
    /// In bytes; `needs` is how much memory would do.
    case kernelDoesNotFit(needs: UInt64, has: UInt64)
    /// In bytes.
    case firmwareTooLarge(size: UInt64)
    /// In bytes.
    case ramDiskDoesNotFit(size: UInt64, room: UInt64)
    /// Not an initial RAM disk; what it looks like, if that can be told.
    case notARAMDisk(found: String?)
    /// In bytes without a terminator.
    case commandLineTooLong(count: Int, limit: Int)
    case commandLineHasNUL
  }

  /// The file's name as the user gave it.
  public var file: String
  public var problem: Problem

  public init(_ file: String, _ problem: Problem) {
    self.file = file
    self.problem = problem
  }
}

extension BootFailure: CustomStringConvertible {
  /// The formats that the loader takes, for messages.
  static let accepted =
    "a Linux bzImage (such as Debian's /boot/vmlinuz-…), a multiboot kernel or an ELF kernel with a PVH entry note"

  public var description: String {
    switch problem {
    case .cannotOpen(let error): "\(file): cannot be opened: \(Self.text(error))"
    case .cannotRead(let error): "\(file): cannot be read: \(Self.text(error))"
    case .isDirectory: "\(file): is a directory; give a file"
    case .empty: "\(file): is empty"
    case .endless(let limit): "\(file): does not end within \(Self.size(limit)); give a file"
    case .truncated(let needs, let has):
      "\(file): is truncated: it has \(has) bytes and refers to \(needs); get it again"
    case .notAKernel(let found):
      "\(file): is not a kernel\(found.map { " but \($0)" } ?? ""); give \(Self.accepted)"
    case .oldProtocol(let version):
      "\(file): speaks Linux boot protocol \(version >> 8).\(version & 0xff), which is too old; "
        + "give a kernel with protocol 2.10 (Linux 2.6.31) or later"
    case .notHighLoaded: "\(file): is a Linux zImage, which loads below 1 MiB; give a bzImage"
    case .malformed(let what): "\(file): is damaged: \(what); get it again"
    case .foreignELF(let machine?):
      "\(file): is an ELF file for another processor (machine \(machine)); give one for x86-64 or i386"
    case .foreignELF(nil): "\(file): is not a little-endian ELF file; give one for x86-64 or i386"
    case .noEntryNote:
      "\(file): is an ELF file without a multiboot header or a PVH entry note (XEN_ELFNOTE_PHYS32_ENTRY); "
        + "give a kernel built with CONFIG_PVH, or its bzImage"
    case .unknownMultibootFeature(let what):
      "\(file): its multiboot header needs \(what), which is unknown; give a kernel for multiboot 0.6.96 or 2.0"
    case .segmentOutsideMemory(let range):
      "\(file): has a segment at 0x\(String(range.lowerBound, radix: 16)) to 0x\(String(range.upperBound, radix: 16)), "
        + "where the guest has no free memory; segments belong between 1 MiB and the end of memory below 3 GiB"
    case .kernelDoesNotFit(let needs, let has):
      "\(file): needs \(Self.size(needs)) of memory to start and the guest has \(Self.size(has)) that it can use; "
        + (needs <= Self.lowMemory ? "give the guest more memory" : "no amount of memory would do")
    case .firmwareTooLarge(let size):
      "\(file): has \(Self.size(size)) and there is room for \(Self.size(FirmwareImage.limit)) of firmware; "
        + "give a ROM image such as a PC's BIOS"
    case .ramDiskDoesNotFit(let size, let room):
      "\(file): has \(Self.size(size)) and there is room for \(Self.size(room)) beside the kernel; "
        + "give the guest more memory or a smaller initial RAM disk"
    case .notARAMDisk(let found):
      "\(file): is not an initial RAM disk\(found.map { " but \($0)" } ?? ""); "
        + "give a cpio archive in newc format, usually compressed (gzip, xz, zstd, …)"
    case .commandLineTooLong(let count, let limit):
      "\(file): takes a command line of at most \(limit) bytes and this one has \(count)"
    case .commandLineHasNUL: "\(file): the command line for it contains a zero byte"
    }
  }

  private static let lowMemory: UInt64 = 3 << 30

  private static func text(_ error: Int32) -> String { String(cString: strerror(error)) }

  /// Whole MiB, rounded up, from 1 MiB on.
  private static func size(_ bytes: UInt64) -> String {
    bytes < 1 << 20 ? "\(bytes) bytes" : "\((bytes >> 20) + (bytes & 0xfffff == 0 ? 0 : 1)) MiB"
  }
}
