import Memory
import X86

/// A raw ROM image, such as a PC's BIOS: what the processor begins to run at its reset vector, 16 bytes below 4 GiB.
///
/// The image lies read-only at the top of the low 4 GiB, its last byte at the very end. Its last 128 KiB also answer below
/// 1 MiB, where real-address mode can reach them, until firmware has the chip set put RAM there.
public struct FirmwareImage: Sendable {
  /// In bytes. Beyond, it would meet the local APIC's registers.
  public static let limit: UInt64 = 16 << 20
  public let name: String
  private let bytes: [UInt8]

  /// Reads an image.
  public init(_ file: BootFile) throws(BootFailure) {
    guard file.size > 0 else { throw BootFailure(file.name, .empty) }
    guard file.size <= Self.limit else { throw BootFailure(file.name, .firmwareTooLarge(size: file.size)) }
    name = file.name
    bytes = try file.bytes(at: 0, count: Int(file.size))
  }

  /// Where the image lies: whole pages up to 4 GiB.
  public var range: Range<UInt64> {
    GuestMemory.highBase - (UInt64(bytes.count) + 0xfff) & ~0xfff..<GuestMemory.highBase
  }

  /// Puts the image in its place in memory that was made with `range` as its ROM. Once, before anything runs.
  public func install(in memory: GuestMemory) { memory.install(readOnly: bytes) }
}
