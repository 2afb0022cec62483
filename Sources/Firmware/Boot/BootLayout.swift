import Memory
import X86

/// Where the loaders put what they hand to a kernel: all in conventional memory, below anything that they load. Kernels
/// copy what they want to keep before they use this memory.
enum BootLayout {
  /// See `GuestMemory.placeBIOSAreas`.
  static let biosAreas: Range<UInt64> = 0..<0x500
  static let descriptorTable: UInt64 = 0x1000
  /// Linux's zero page, `struct boot_params`.
  static let zeroPage: UInt64 = 0x7000
  /// PML4, page-directory-pointer table and four page directories: the low 4 GiB.
  static let pageTables: UInt64 = 0x9000
  /// `hvm_start_info`, its module list and memory map.
  static let startInfo: UInt64 = 0x10000
  static let commandLine: Range<UInt64> = 0x20000..<0x30000
}

extension GuestMemory {
  /// Writes a structure that is known to lie in RAM: every guest has at least 1 MiB.
  func place(_ bytes: [UInt8], at address: UInt64) {
    let written = bytes.withUnsafeBytes { write(GuestPhysicalAddress(address), from: $0) }
    precondition(written, "a firmware structure lies outside of guest memory")
  }

  /// Reads from a file straight into guest memory. The range must be RAM.
  func load(_ file: BootFile, at offset: UInt64, count: UInt64, to address: UInt64) throws(BootFailure) {
    guard count > 0 else { return }
    guard contains(GuestPhysicalAddress(address), count: count),
      let start = self.offset(of: GuestPhysicalAddress(address))
    else { preconditionFailure("a loader chose a range outside of guest memory") }
    let buffer = UnsafeMutableRawBufferPointer(start: base + Int(start), count: Int(count))
    try file.read(at: offset, into: buffer)
    noteWrite(GuestPhysicalAddress(address), count: count)
  }

  /// Fills a range with zeros. It must be RAM.
  func clear(_ range: Range<UInt64>) {
    guard !range.isEmpty else { return }
    let isRAM = fill(GuestPhysicalAddress(range.lowerBound), count: range.upperBound - range.lowerBound, with: 0)
    precondition(isRAM, "a loader chose a range outside of guest memory")
  }
}
