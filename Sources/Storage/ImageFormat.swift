/// How a file holds a disk.
public enum ImageFormat: String, CaseIterable, Sendable {
  /// The disk's bytes, one after the other: also what an ISO image and a block device are.
  case raw
  /// QEMU's format, versions 2 and 3.
  case qcow2
  /// VMware's; only read.
  case vmdk
  /// Hyper-V's; only read.
  case vhdx

  /// All names, for messages.
  public static var list: String { allCases.map(\.rawValue).joined(separator: ", ") }

  /// What the beginning of a file says that it is. Formats that are known by name only have no `format`.
  public struct Signature: Sendable, Equatable {
    /// Nil: nothing here reads it.
    public let format: ImageFormat?
    /// With an article, for messages: "a qcow2 image".
    public let title: String
    let isFound: @Sendable (UnsafeRawBufferPointer) -> Bool

    public static func == (left: Self, right: Self) -> Bool { left.title == right.title }

    /// Found where `bytes` stand at `offset`.
    init(_ format: ImageFormat?, _ title: String, _ bytes: [UInt8], at offset: Int = 0) {
      self.init(format, title) { $0.dropFirst(offset).starts(with: bytes) }
    }

    init(_ format: ImageFormat?, _ title: String, isFound: @escaping @Sendable (UnsafeRawBufferPointer) -> Bool) {
      self.format = format
      self.title = title
      self.isFound = isFound
    }
  }

  /// As many bytes as `signature` looks at: a disk's first sector.
  static let probeLength = 512

  private static let signatures: [Signature] = [
    Signature(.qcow2, "a qcow2 image") { $0.starts(with: [0x51, 0x46, 0x49, 0xfb, 0, 0, 0]) && $0[7] != 1 },
    Signature(.vmdk, "a VMDK image", VMDKSparseExtent.signature),
    Signature(.vmdk, "a VMDK image", VMDKImage.descriptorSignature),
    Signature(.vhdx, "a VHDX image", VHDXImage.signature),
    Signature(nil, "a qcow image of version 1", [0x51, 0x46, 0x49, 0xfb, 0, 0, 0, 1]),
    Signature(nil, "a QED image", Array("QED\0".utf8)),
    Signature(nil, "a VMware COW image", Array("COWD".utf8)),
    Signature(nil, "a VHD image (Virtual PC)", Array("conectix".utf8)),
    Signature(nil, "a VDI image (VirtualBox)", [0x7f, 0x10, 0xda, 0xbe], at: 0x40),
    Signature(nil, "a Parallels image", Array("WithoutFreeSpace".utf8)),
    Signature(nil, "a Parallels image", Array("WithouFreSpacExt".utf8)),
  ]

  /// What `head`, the first `probeLength` bytes of a file, says; nil: nothing, so that the file is raw.
  static func signature(of head: UnsafeRawBufferPointer) -> Signature? {
    guard head.count >= probeLength else { return nil }
    return signatures.first { $0.isFound(head) }
  }
}
