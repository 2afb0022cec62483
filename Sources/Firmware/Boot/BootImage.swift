/// A kernel file, told by what is in it and not by its name.
public enum BootImage: Equatable, Sendable {
  /// A Linux bzImage.
  case linux(LinuxHeader)
  /// An ELF file with an entry point for a hypervisor.
  case pvh(ELFImage)

  /// Looks at a file's headers and checks them against its size. What is no kernel, or one that cannot be booted, is an
  /// error that says so.
  public static func identify(_ file: BootFile) throws(BootFailure) -> BootImage {
    guard file.size > 0 else { throw BootFailure(file.name, .empty) }
    let head = ByteView(try file.head(FileFormat.headSize))
    if ELFImage.isPresent(in: head) { return .pvh(try ELFImage(head, file: file)) }
    if LinuxHeader.isPresent(in: head) { return .linux(try LinuxHeader(head, file: file)) }
    throw BootFailure(file.name, .notAKernel(found: FileFormat(head)?.rawValue))
  }

  /// The same for bytes in memory.
  public static func identify(_ bytes: [UInt8], name: String) throws(BootFailure) -> BootImage {
    try identify(BootFile(name: name, bytes: bytes))
  }
}
