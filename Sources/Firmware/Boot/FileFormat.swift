/// Formats that people give in place of a kernel or an initial RAM disk, told by the numbers that they begin with.
enum FileFormat: String, CaseIterable {
  case gzip = "a gzip file"
  case xz = "an xz file"
  case bzip2 = "a bzip2 file"
  case zstandard = "a zstd file"
  case lz4 = "an lz4 file"
  case lzop = "an lzop file"
  case lzma = "an lzma file"
  case cpio = "a cpio archive"
  case squashfs = "a squashfs file system"
  case cramfs = "a cramfs file system"
  case romfs = "a romfs file system"
  case ext = "an ext2, ext3 or ext4 file system"
  case elf = "an ELF file"
  case linux = "a Linux bzImage"
  case armLinux = "a Linux kernel for 64-bit ARM"
  case portableExecutable = "a Windows or EFI program"
  case qcow2 = "a qcow2 disk image"
  case iso9660 = "an ISO 9660 (CD) image"
  case bootSector = "a disk image or boot sector"
  case debianPackage = "a Debian package"
  case script = "a script"

  /// How much of a file `init(_:)` looks at.
  static let headSize = 0x8006

  /// What Linux takes as an initial RAM disk (Documentation/filesystems/ramfs-rootfs-initramfs.rst, initrd.rst).
  var isRAMDisk: Bool {
    switch self {
    case .gzip, .xz, .bzip2, .zstandard, .lz4, .lzop, .lzma, .cpio, .squashfs, .cramfs, .romfs, .ext: true
    default: false
    }
  }

  /// Tells a format by a file's first `headSize` bytes; nil: none of these.
  init?(_ head: ByteView) {
    guard let format = Self.allCases.first(where: { $0.signatures.contains { head.has($0.bytes, at: $0.offset) } })
    else { return nil }
    self = format
  }

  private var signatures: [(offset: Int, bytes: [UInt8])] {
    switch self {
    case .gzip: [(0, [0x1f, 0x8b])]
    case .xz: [(0, [0xfd] + Array("7zXZ".utf8))]
    case .bzip2: [(0, Array("BZh".utf8))]
    case .zstandard: [(0, [0x28, 0xb5, 0x2f, 0xfd])]
    case .lz4: [(0, [0x02, 0x21, 0x4c, 0x18]), (0, [0x04, 0x22, 0x4d, 0x18])]
    case .lzop: [(0, [0x89] + Array("LZO".utf8))]
    case .lzma: [(0, [0x5d, 0x00, 0x00])]
    case .cpio: [(0, Array("070701".utf8)), (0, Array("070702".utf8))]
    case .squashfs: [(0, Array("hsqs".utf8))]
    case .cramfs: [(0, [0x45, 0x3d, 0xcd, 0x28])]
    case .romfs: [(0, Array("-rom1fs-".utf8))]
    case .ext: [(0x438, [0x53, 0xef])]
    case .elf: [(0, [0x7f] + Array("ELF".utf8))]
    case .linux: [(0x202, Array("HdrS".utf8))]
    case .armLinux: [(0x38, Array("ARMd".utf8))]
    case .portableExecutable: [(0, Array("MZ".utf8))]
    case .qcow2: [(0, Array("QFI".utf8) + [0xfb])]
    case .iso9660: [(0x8001, Array("CD001".utf8))]
    case .bootSector: [(0x1fe, [0x55, 0xaa])]
    case .debianPackage: [(0, Array("!<arch>".utf8))]
    case .script: [(0, Array("#!".utf8))]
    }
  }
}
