import Storage
import TestSupport
import Testing

/// Random sequences of all that can be done with a qcow2 image, compared with a flat disk, and judged by qemu-img.
@Suite struct Qcow2RandomTests {
  /// Kinds of images.
  struct Kind: CustomStringConvertible, Sendable {
    var clusterSize: UInt64 = 65536
    var version = 3
    var refcountBits = 16
    var hasBacking = false
    var compression = Compression.zlib
    var size = 3 << 20

    var description: String {
      "version \(version), clusters of \(clusterSize), \(refcountBits) bits\(hasBacking ? ", backing file" : "")"
    }
  }

  static let kinds = [
    Kind(), Kind(hasBacking: true), Kind(clusterSize: 512, size: 600 << 10), Kind(clusterSize: 4096, version: 2),
    Kind(clusterSize: 4096, version: 2, hasBacking: true), Kind(clusterSize: 512, refcountBits: 64, size: 300 << 10),
    Kind(clusterSize: 1024, refcountBits: 1), Kind(clusterSize: 4096, refcountBits: 4, hasBacking: true),
    Kind(clusterSize: 2 << 20, size: 9 << 20),
    Kind(clusterSize: 8192, refcountBits: 8, hasBacking: true, compression: .zstd),
  ]

  @Test(arguments: kinds, [1] as [UInt64]) func sequencesAgree(kind: Kind, seed: UInt64) throws {
    var random = SeededRandom(seed: seed &* 1000 &+ kind.clusterSize &+ UInt64(kind.refcountBits))
    let scratch = try Scratch()
    let path = scratch.file("disk.qcow2")
    var flat = FlatDisk(size: kind.size)
    var creation = Qcow2Creation(size: UInt64(kind.size))
    creation.clusterSize = kind.clusterSize
    creation.version = kind.version
    creation.refcountBits = kind.refcountBits
    creation.compression = kind.compression
    if kind.hasBacking {
      // Shorter than the disk, and not made of whole clusters.
      let base = random.data(kind.size / 3 * 2 + 512 & ~511)
      _ = try scratch.file("base.raw", base)
      flat.write(base, at: 0)
      creation.backing = ("base.raw", .raw)
    }
    try patiently { try creation.write(to: HostFile.create(path: path)) }
    var snapshots: [String: FlatDisk] = [:]
    for round in 0..<4 {
      let image = try patiently { try ImageReference(path: path).openQcow2 { Issue.record("\($0)") } }
      for _ in 0..<40 { try step(image, &flat, &random) }
      if kind.refcountBits > 1 { try snapshotStep(image, &flat, &snapshots, &random) }
      if random.next() & 1 == 0, kind.version == 3 || snapshots.isEmpty {
        let size = random.below(kind.size * 2) & ~511
        try image.resize(to: UInt64(size))
        flat.resize(to: size)
      }
      #expect(flat.difference(from: try image.contents()) == nil, "round \(round)")
      try image.close()
      try Tool.check(path)
      let report = try Qcow2Check(reading(path)).examine()
      #expect(report.isSound && report.leaks == 0, "\(report.problems)")
    }
    try Tool.run("qemu-img convert -f qcow2 -O raw '\(path)' '\(scratch.file("disk.raw"))'")
    let other = try RawImage(reading(scratch.file("disk.raw"))).contents()
    #expect(flat.difference(from: other) == nil)
    for (name, flat) in snapshots {
      try Tool.run("qemu-img convert -l '\(name)' -f qcow2 -O raw '\(path)' '\(scratch.file("snapshot.raw"))'")
      // qemu-img gives a snapshot's contents the disk's size of today.
      let other = try RawImage(reading(scratch.file("snapshot.raw"))).contents()
      var expected = flat
      expected.resize(to: other.count)
      if other.count <= flat.bytes.count { #expect(expected.difference(from: other) == nil, "snapshot \(name)") }
    }
  }

  private func step(_ image: Qcow2Image, _ flat: inout FlatDisk, _ random: inout SeededRandom) throws {
    guard image.size > 0 else { return }
    let size = Int(image.size)
    // Places are drawn so that some overlap.
    let offset = random.below(size) >> random.below(4)
    let longest = [512, 5000, Int(image.clusterSize) * 3, 300_000][random.below(4)]
    let count = 1 + random.below(min(longest, size - offset))
    switch random.below(10) {
    case 0...4:
      let data = random.data(count)
      try data.withUnsafeBytes { bytes in
        // In three pieces.
        let (first, second) = (count / 3, count / 2)
        try image.write(
          [0..<first, first..<second, second..<count].map { UnsafeRawBufferPointer(rebasing: bytes[$0]) },
          at: UInt64(offset))
      }
      flat.write(data, at: offset)
    case 5, 6:
      try image.writeZeroes(UInt64(offset)..<UInt64(offset + count), mayUnmap: random.next() & 1 == 0)
      flat.zero(offset..<offset + count)
    case 7:
      try image.discard(UInt64(offset)..<UInt64(offset + count))
      flat.discard(offset..<offset + count)
      // From here on it is what it is now.
      let now = try image.bytes(at: UInt64(offset), count: count)
      for index in 0..<count {
        #expect(now[index] == flat.bytes[offset + index] || now[index] == 0)
      }
      flat.write(now, at: offset)
    case 8:
      let cluster = offset / image.clusterSize * image.clusterSize
      let data = random.data(min(image.clusterSize, size - cluster))
      try data.withUnsafeBytes { try image.writeCompressed($0, at: UInt64(cluster)) }
      flat.write(data, at: cluster)
    default: try image.flush()
    }
    #expect(try image.bytes(at: UInt64(offset), count: count) == flat.bytes[offset..<offset + count].map { $0 })
  }

  private func snapshotStep(
    _ image: Qcow2Image, _ flat: inout FlatDisk, _ snapshots: inout [String: FlatDisk], _ random: inout SeededRandom
  ) throws {
    let known = image.snapshots.map(\.name)
    switch random.below(3) {
    case 1 where !known.isEmpty:
      let name = known[random.below(known.count)]
      try image.applySnapshot(name)
      flat = try #require(snapshots[name])
    case 2 where known.count > 1:
      let name = known[random.below(known.count)]
      try image.deleteSnapshot(name)
      snapshots[name] = nil
    default:
      let name = "snapshot \(random.next() & 0xffff)"
      try image.createSnapshot(named: name)
      snapshots[name] = flat
    }
  }
}
