/// A kernel file, told by what is in it and not by its name.
public enum BootImage: Equatable, Sendable {
  /// A Linux bzImage.
  case linux(LinuxHeader)
  /// A kernel with a multiboot header, of either version of that protocol.
  case multiboot(MultibootImage)
  /// An ELF file with an entry point for a hypervisor.
  case pvh(ELFImage, entry: UInt64)

  /// Looks at a file's headers and checks them against its size. What is no kernel, or one that cannot be booted, is an
  /// error that says so.
  ///
  /// A kernel that can be booted in several ways is booted in the way that tells it most: by multiboot before PVH, and by
  /// multiboot 2 before its first version.
  public static func identify(_ file: BootFile) throws(BootFailure) -> BootImage {
    guard file.size > 0 else { throw BootFailure(file.name, .empty) }
    let head = ByteView(try file.head(FileFormat.headSize))
    let isELF = ELFImage.isPresent(in: head)
    if !isELF, LinuxHeader.isPresent(in: head) { return .linux(try LinuxHeader(head, file: file)) }
    if let offset = MultibootImage.headerOffset(in: head, version: .two) {
      return .multiboot(try MultibootImage(version2: head, headerOffset: offset, file: file))
    }
    if let offset = MultibootImage.headerOffset(in: head, version: .one) {
      return .multiboot(try MultibootImage(version1: head, headerOffset: offset, file: file))
    }
    guard isELF else { throw BootFailure(file.name, .notAKernel(found: FileFormat(head)?.rawValue)) }
    let image = try ELFImage(head, file: file)
    guard let entry = image.noteEntry else { throw BootFailure(file.name, .noEntryNote) }
    guard image.segments.contains(where: { $0.memory.contains(entry) }) else {
      throw BootFailure(
        file.name, .malformed("its entry point 0x\(String(entry, radix: 16)) is in none of its segments"))
    }
    return .pvh(image, entry: entry)
  }

  /// The same for bytes in memory.
  public static func identify(_ bytes: [UInt8], name: String) throws(BootFailure) -> BootImage {
    try identify(BootFile(name: name, bytes: bytes))
  }
}
