/// The newer of a VHDX file's two headers ([MS-VHDX] 2.2.2).
struct VHDXHeader {
  private static let offsets: [UInt64] = [64 << 10, 128 << 10]
  private static let length = 4096

  /// There are changes in the log that the tables do not have yet.
  let hasLog: Bool

  init(of file: any ImageFile) throws(ImageFailure) {
    var newest: (sequence: UInt64, bytes: [UInt8])?
    for offset in Self.offsets {
      let bytes = try file.bytes(at: offset, count: Self.length, what: "headers")
      guard VHDXChecksum.isRight(bytes, signature: "head") else { continue }
      let sequence: UInt64 = bytes.littleEndian(at: 8)
      if newest.map({ sequence > $0.sequence }) ?? true { newest = (sequence, bytes) }
    }
    guard let bytes = newest?.bytes else { throw ImageFailure(file.name, .corrupt("neither of its headers is right")) }
    let version: UInt16 = bytes.littleEndian(at: 66)
    guard version == 1 else {
      throw ImageFailure(file.name, .unsupported("it has version \(version) of the VHDX format; 1 is supported"))
    }
    hasLog = bytes[48..<64].contains { $0 != 0 }
  }
}

/// Where a VHDX file's block table and metadata are ([MS-VHDX] 2.2.3).
struct VHDXRegions {
  private static let offsets: [UInt64] = [192 << 10, 256 << 10]
  private static let length = 64 << 10
  private static let blocksID = VHDXIdentifier(0x2dc2_7766, 0xf623, 0x4200, 0x9d64_115e_9bfd_4a08)
  private static let metadataID = VHDXIdentifier(0x8b7c_a206, 0x4790, 0x4b9a, 0xb8fe_575f_050f_886e)

  let blocks: Range<UInt64>
  let metadata: Range<UInt64>

  init(of file: any ImageFile) throws(ImageFailure) {
    var bytes: [UInt8] = []
    for offset in Self.offsets where bytes.isEmpty {
      let table = try file.bytes(at: offset, count: Self.length, what: "region tables")
      if VHDXChecksum.isRight(table, signature: "regi") { bytes = table }
    }
    guard !bytes.isEmpty else { throw ImageFailure(file.name, .corrupt("neither of its region tables is right")) }
    let count = Int(bytes.littleEndian(at: 8, as: UInt32.self))
    guard count <= 2047 else {
      throw ImageFailure(file.name, .corrupt("its region table claims to have \(count) entries"))
    }
    var found: [VHDXIdentifier: Range<UInt64>] = [:]
    for start in (0..<count).map({ 16 + $0 * 32 }) {
      let id = VHDXIdentifier(bytes, at: start)
      let offset: UInt64 = bytes.littleEndian(at: start + 16)
      guard offset < 1 << 62 else { throw ImageFailure(file.name, .corrupt("a region is at offset \(offset)")) }
      found[id] = offset..<offset + UInt64(bytes.littleEndian(at: start + 24, as: UInt32.self))
      let isRequired = bytes.littleEndian(at: start + 28, as: UInt32.self) & 1 != 0
      guard !isRequired || id == Self.blocksID || id == Self.metadataID else {
        throw ImageFailure(file.name, .unsupported("it has a required region of an unknown kind"))
      }
    }
    guard let blocks = found[Self.blocksID], let metadata = found[Self.metadataID] else {
      throw ImageFailure(file.name, .corrupt("it has no block table, or no metadata"))
    }
    self.blocks = blocks
    self.metadata = metadata
  }
}

/// What a VHDX file says of its disk ([MS-VHDX] 2.6).
struct VHDXMetadata {
  private static let parametersID = VHDXIdentifier(0xcaa1_6737, 0xfa36, 0x4d43, 0xb3b6_33f0_aa44_e76b)
  private static let sizeID = VHDXIdentifier(0x2fa5_4224, 0xcd1b, 0x4876, 0xb211_5dbe_d83b_f4b8)
  private static let sectorID = VHDXIdentifier(0x8141_bf1d, 0xa96f, 0x4709, 0xba47_f233_a8fa_ab5f)

  /// All in bytes.
  let blockSize: UInt32
  let sectorSize: UInt32
  let diskSize: UInt64

  init(of file: any ImageFile, at region: Range<UInt64>) throws(ImageFailure) {
    func corrupt(_ problem: String) -> ImageFailure { ImageFailure(file.name, .corrupt(problem)) }
    let table = try file.bytes(at: region.lowerBound, count: 64 << 10, what: "metadata")
    guard table.starts(with: "metadata".utf8) else { throw corrupt("it has no metadata where they should be") }
    let count = Int(table.littleEndian(at: 10, as: UInt16.self))
    guard count <= 2047 else { throw corrupt("it claims to have \(count) metadata items") }
    var items: [VHDXIdentifier: [UInt8]] = [:]
    for start in (0..<count).map({ 32 + $0 * 32 }) {
      let id = VHDXIdentifier(table, at: start)
      guard [Self.parametersID, Self.sizeID, Self.sectorID].contains(id) else { continue }
      let offset = UInt64(table.littleEndian(at: start + 16, as: UInt32.self))
      items[id] = try file.bytes(at: region.lowerBound + offset, count: 8, what: "metadata")
    }
    guard let parameters = items[Self.parametersID], let size = items[Self.sizeID], let sector = items[Self.sectorID]
    else { throw corrupt("it does not say how large its disk, blocks or sectors are") }
    blockSize = parameters.littleEndian(at: 0)
    guard parameters.littleEndian(at: 4, as: UInt32.self) & 2 == 0 else {
      throw ImageFailure(file.name, .unsupported("it is an overlay of another VHDX image"))
    }
    guard blockSize.nonzeroBitCount == 1, 1 << 20...256 << 20 ~= blockSize else {
      throw corrupt("its blocks have \(blockSize) bytes")
    }
    sectorSize = sector.littleEndian(at: 0)
    guard sectorSize == 512 || sectorSize == 4096 else { throw corrupt("its sectors have \(sectorSize) bytes") }
    diskSize = size.littleEndian(at: 0)
    // The format's limit is 64 TiB.
    guard diskSize <= 64 << 40, diskSize % 512 == 0 else {
      throw corrupt("it claims to be a disk of \(diskSize) bytes")
    }
  }
}

/// A GUID as VHDX files have it: the first three parts with their lowest byte first.
struct VHDXIdentifier: Hashable {
  private let low: UInt64
  private let high: UInt64

  init(_ first: UInt32, _ second: UInt16, _ third: UInt16, _ rest: UInt64) {
    low = UInt64(first) | UInt64(second) << 32 | UInt64(third) << 48
    high = rest.byteSwapped
  }

  init(_ bytes: [UInt8], at offset: Int) {
    low = bytes.littleEndian(at: offset)
    high = bytes.littleEndian(at: offset + 8)
  }
}

/// CRC-32C over a header whose own checksum, at byte 4, counts as zero.
enum VHDXChecksum {
  private static let table: [UInt32] = (0..<256).map { index in
    (0..<8).reduce(UInt32(index)) { value, _ in value & 1 != 0 ? value >> 1 ^ 0x82f6_3b78 : value >> 1 }
  }

  /// Whether `bytes` begin with `signature` and have the checksum that they claim.
  static func isRight(_ bytes: [UInt8], signature: String) -> Bool {
    guard bytes.starts(with: signature.utf8) else { return false }
    var value = ~0 as UInt32
    for (index, byte) in bytes.enumerated() {
      let byte = 4..<8 ~= index ? 0 : byte
      value = value >> 8 ^ table[Int(UInt8(truncatingIfNeeded: value) ^ byte)]
    }
    return ~value == bytes.littleEndian(at: 4, as: UInt32.self)
  }
}
