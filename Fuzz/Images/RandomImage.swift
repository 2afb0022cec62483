import Storage
import TestSupport

/// A small qcow2 image with a bit of everything, and damage to it.
struct RandomImage {
  private(set) var bytes: [UInt8]
  /// What its backing file has; empty: it has none.
  let base: [UInt8]
  private let clusterSize: Int
  private let version: Int

  /// Offsets in the header (docs/interop/qcow2.txt).
  private enum Field {
    static let l1Offset = 40
    static let tableOffset = 48
    static let snapshotsOffset = 64
    static let end = 112
  }

  init(_ random: inout SeededRandom) throws {
    let size = (1 + random.below(300)) << (9 + random.below(3))
    var creation = Qcow2Creation(size: UInt64(size))
    clusterSize = 512 << random.below(5)
    version = random.oneIn(4) ? 2 : 3
    creation.clusterSize = UInt64(clusterSize)
    creation.version = version
    if version == 3 {
      creation.refcountBits = 1 << (2 + random.below(5))
      creation.compression = random.oneIn(2) ? .zlib : .zstd
      creation.usesLazyRefcounts = random.oneIn(3)
    }
    base = random.oneIn(3) ? (0..<(512 * (1 + random.below(200)))).map { _ in random.byte() } : []
    if !base.isEmpty { creation.backing = ("base", .raw) }
    let file = MemoryFile()
    try creation.write(to: file)
    let image = try Qcow2Image(file, backing: Self.backing(base))
    for _ in 0..<random.below(12) { try Self.work(image, &random) }
    for number in 0..<random.below(3) {
      do throws(ImageFailure) {
        try image.createSnapshot(named: "snapshot \(number)")
      } catch {
        // Compressed clusters that share one may have used a narrow count up.
        guard case .invalid = error.reason else { throw error }
        break
      }
      try Self.work(image, &random)
    }
    try image.close()
    bytes = file.bytes
  }

  static func backing(_ base: [UInt8]) throws -> RawImage? {
    base.isEmpty ? nil : try RawImage(MemoryFile(base, isReadOnly: true))
  }

  private static func work(_ image: Qcow2Image, _ random: inout SeededRandom) throws {
    let offset = random.below(Int(image.size))
    let count = 1 + random.below(min(20_000, Int(image.size) - offset))
    let data = [UInt8](repeating: random.byte(), count: count)
    switch random.below(5) {
    case 0: try image.writeZeroes(UInt64(offset)..<UInt64(offset + count), mayUnmap: random.oneIn(2))
    case 1:
      let start = offset / image.clusterSize * image.clusterSize
      let cluster = data.prefix(min(image.clusterSize, Int(image.size) - start))
      try cluster.withUnsafeBytes { try image.writeCompressed($0, at: UInt64(start)) }
    default: try data.withUnsafeBytes { try image.write([$0], at: UInt64(offset)) }
    }
  }

  // MARK: Damage

  mutating func damage(_ random: inout SeededRandom) {
    for _ in 0...random.below(random.oneIn(3) ? 30 : 3) { damageOnce(&random) }
    if random.oneIn(12) { bytes.removeLast(random.below(bytes.count)) }
  }

  private mutating func damageOnce(_ random: inout SeededRandom) {
    guard bytes.count > 1024 else { return }
    let l1 = place(Field.l1Offset)
    let refcounts = place(Field.tableOffset)
    switch random.below(10) {
    case 0: bytes[random.below(bytes.count)] = random.byte()
    case 1: bytes[random.below(Field.end)] = random.byte()
    // A header's fields have four or eight bytes.
    case 2: put(value(&random), at: 8 * random.below(Field.end / 8))
    case 3: put(value(&random), at: l1 + 8 * random.below(16))
    case 4: put(value(&random), at: place(l1) + 8 * random.below(clusterSize / 8))
    case 5: put(value(&random), at: refcounts + 8 * random.below(4))
    case 6: put(value(&random), at: place(refcounts) + random.below(clusterSize))
    case 7: put(value(&random), at: place(Field.snapshotsOffset) + random.below(64))
    case 8:
      // Extensions of the header, and the backing file's name.
      let offset = Field.end - 8 + random.below(min(clusterSize, 1024) - Field.end)
      bytes[offset] = random.byte()
    default:
      // One cluster takes another's place.
      let count = bytes.count / clusterSize
      guard count > 1 else { return }
      let (from, to) = (random.below(count) * clusterSize, random.below(count) * clusterSize)
      bytes.replaceSubrange(to..<to + clusterSize, with: bytes[from..<from + clusterSize])
    }
  }

  /// An offset that stands at an offset.
  private func place(_ offset: Int) -> Int {
    guard offset + 8 <= bytes.count else { return 0 }
    let value = bytes[offset..<offset + 8].reduce(0 as UInt64) { $0 << 8 | UInt64($1) }
    return Int(value & 0xff_ffff_ffff_fe00)
  }

  private mutating func put(_ value: UInt64, at offset: Int) {
    guard offset + 8 <= bytes.count else { return }
    for index in 0..<8 { bytes[offset + index] = UInt8(truncatingIfNeeded: value >> UInt64(56 - 8 * index)) }
  }

  /// What may stand in a table: places in the file and beyond it, with flags.
  private func value(_ random: inout SeededRandom) -> UInt64 {
    let own = random.oneIn(2) ? UInt64(1) << 63 : 0
    let cluster = UInt64(random.below(bytes.count / clusterSize + 2) * clusterSize)
    switch random.below(9) {
    case 0: return 0
    case 1: return own | cluster + 512
    case 2: return own | 1 << 62 | random.next() & (1 << 62 - 1)
    case 3: return own | 1 << 62 | UInt64(random.below(3)) << 56 | cluster + UInt64(random.below(clusterSize))
    case 4: return own | cluster | 1
    case 5: return random.pick([~0, 1 << 63, 1 << 62, 1 << 56 - 512, 0xffff_ffff, 0xffff_ffff_0000_0000, 1 << 40])
    case 6: return random.next()
    default: return own | cluster
    }
  }
}
