import Storage
import TestSupport
import Testing

/// Power fails after every single write to the file of a qcow2 image, and of what was not flushed any part is lost:
/// the image is consistent, and everything flushed is there.
@Suite struct PowerCutTests {
  struct Kind: CustomStringConvertible, Sendable {
    var clusterSize: UInt64
    var version = 3
    var refcountBits = 16
    var hasBacking = false
    var size: Int
    var seed: UInt64

    var description: String {
      "version \(version), clusters of \(clusterSize), \(refcountBits) bits"
        + "\(hasBacking ? ", backing file" : ""), seed \(seed)"
    }
  }

  static let kinds = [
    Kind(clusterSize: 512, size: 96 << 10, seed: 1), Kind(clusterSize: 512, refcountBits: 64, size: 64 << 10, seed: 2),
    Kind(clusterSize: 4096, size: 256 << 10, seed: 3), Kind(clusterSize: 4096, version: 2, size: 256 << 10, seed: 4),
    Kind(clusterSize: 1024, hasBacking: true, size: 128 << 10, seed: 5),
    Kind(clusterSize: 2048, version: 2, hasBacking: true, size: 128 << 10, seed: 6),
    Kind(clusterSize: 65536, size: 512 << 10, seed: 7),
    Kind(clusterSize: 512, refcountBits: 2, size: 96 << 10, seed: 8),
  ]

  /// What is known at one moment of the image's life.
  private struct Moment {
    /// Events of the file that came before.
    var position: Int
    var contents: PossibleContents
    /// The snapshots that must be there, and what they hold.
    var snapshots: [String: [UInt8]]
  }

  /// An image, what was done with it, and what must be in it.
  private struct Life {
    let file = MemoryFile()
    let base: [UInt8]
    var random: SeededRandom
    var image: Qcow2Image
    var moments: [Moment] = []
    var contents: PossibleContents
    /// What the disk contains for those who read it now.
    var flat: [UInt8]
    var snapshots: [String: [UInt8]] = [:]

    init(_ kind: Kind) throws {
      random = SeededRandom(seed: kind.seed)
      var creation = Qcow2Creation(size: UInt64(kind.size))
      creation.clusterSize = kind.clusterSize
      creation.version = kind.version
      creation.refcountBits = kind.refcountBits
      if kind.hasBacking { creation.backing = ("base.raw", .raw) }
      base = kind.hasBacking ? random.data(kind.size / 2) : []
      try creation.write(to: file)
      image = try Qcow2Image(file, backing: kind.hasBacking ? RawImage(MemoryFile(base, isReadOnly: true)) : nil)
      flat = base + [UInt8](repeating: 0, count: kind.size - base.count)
      contents = PossibleContents(flat)
    }

    /// From the file's next event on this holds.
    mutating func note() {
      moments.append(Moment(position: file.events.count, contents: contents, snapshots: snapshots))
    }

    mutating func flush() throws {
      try image.flush()
      contents.flush(flat)
      note()
    }

    mutating func step() throws {
      let offset = random.below(flat.count)
      let count = 1 + random.below(min([512, 5000, 20000][random.below(3)], flat.count - offset))
      let range = offset..<offset + count
      switch random.below(12) {
      case 0...5:
        let data = random.data(count)
        contents.write(data, at: offset)
        note()
        try image.write(data, at: offset)
        flat.replaceSubrange(range, with: data)
      case 6:
        contents.zero(range)
        note()
        try image.writeZeroes(UInt64(offset)..<UInt64(offset + count), mayUnmap: random.next() & 1 == 0)
        flat.replaceSubrange(range, with: repeatElement(0, count: count))
      case 7:
        contents.zero(range)
        note()
        try image.discard(UInt64(offset)..<UInt64(offset + count))
        flat.replaceSubrange(range, with: try image.bytes(at: UInt64(offset), count: count))
      case 8:
        let start = offset / image.clusterSize * image.clusterSize
        let data = random.data(min(image.clusterSize, flat.count - start))
        contents.write(data, at: start)
        note()
        try data.withUnsafeBytes { try image.writeCompressed($0, at: UInt64(start)) }
        flat.replaceSubrange(start..<start + data.count, with: data)
      default: try flush()
      }
    }

    /// Something that happens as a whole.
    mutating func transaction(_ kind: Kind) throws {
      try flush()
      let known = snapshots.keys.sorted()
      switch random.below(5) {
      case 0 where !known.isEmpty:
        let name = known[random.below(known.count)]
        try whole(snapshots[name]!) { try $0.applySnapshot(name) }
      case 1 where known.count > 1:
        let name = known[random.below(known.count)]
        snapshots[name] = nil
        try whole(flat) { try $0.deleteSnapshot(name) }
      case 2 where kind.version == 3 || known.isEmpty: try resize()
      // With two bits, a cluster can be in three tables, one of them the disk's.
      case _ where kind.refcountBits == 2 && known.count == 2: try resize()
      default:
        let name = "snapshot \(snapshots.count) \(random.next() & 0xffff)"
        try whole(flat) { try $0.createSnapshot(named: name) }
        snapshots[name] = flat
        note()
      }
    }

    private mutating func whole(_ after: [UInt8], _ body: (Qcow2Image) throws -> Void) throws {
      contents.begin(after)
      note()
      try body(image)
      flat = after
      contents.flush(flat)
      note()
    }

    /// Larger: at once. Smaller: what is behind the new end is zeroed before.
    private mutating func resize() throws {
      let size = (flat.count / 2 + random.below(flat.count)) & ~511
      if size > flat.count {
        let more = [UInt8](repeating: 0, count: size - flat.count)
        // A longer backing file would shine through; these are not.
        return try whole(flat + more) { try $0.resize(to: UInt64(size)) }
      }
      let end = min((size + image.clusterSize - 1) / image.clusterSize * image.clusterSize, flat.count)
      let tail = size..<end
      // As `Qcow2Image.resize` does by itself.
      contents.zero(tail)
      note()
      try image.writeZeroes(UInt64(size)..<UInt64(end), mayUnmap: true)
      flat.replaceSubrange(tail, with: repeatElement(0, count: tail.count))
      try flush()
      try whole(Array(flat[..<size])) { try $0.resize(to: UInt64(size)) }
    }
  }

  @Test(arguments: kinds) func everyCutLeavesAConsistentImage(kind: Kind) throws {
    var life = try Life(kind)
    life.note()
    let start = life.file.events.count
    for _ in 0..<5 {
      for _ in 0..<12 { try life.step() }
      if kind.refcountBits > 1 { try life.transaction(kind) }
    }
    try life.flush()
    #expect(try life.image.contents() == life.flat)

    var cut = PowerCut()
    var random = SeededRandom(seed: kind.seed + 1000)
    let scratch = try Scratch()
    if kind.hasBacking { _ = try scratch.file("base.raw", life.base) }
    var moment = 0
    for (index, event) in life.file.events.enumerated() {
      cut.append(event)
      guard index + 1 >= start else { continue }
      while moment + 1 < life.moments.count, life.moments[moment + 1].position <= index + 1 { moment += 1 }
      for luck in PowerCut.Luck.allCases where !cut.pending.isEmpty || luck == .none {
        try judge(cut.remains(luck, &random), life.moments[moment], life.base, "event \(index), \(luck)")
      }
      // The same from the tool that knows best, less often, as it takes its time.
      guard index % 9 == 0 || index + 1 == life.file.events.count else { continue }
      let path = try scratch.file("cut.qcow2", cut.remains(.sectors, &random))
      try Tool.check(path, allowingLeaks: true)
    }
  }

  private func judge(_ bytes: [UInt8], _ moment: Moment, _ base: [UInt8], _ place: String) throws {
    let report = try Qcow2Check(MemoryFile(bytes, isReadOnly: true)).examine()
    #expect(report.isSound, "\(place): \(report.problems)")
    let backing = base.isEmpty ? nil : try RawImage(MemoryFile(base, isReadOnly: true))
    let image = try Qcow2Image(MemoryFile(bytes, isReadOnly: true), backing: backing)
    #expect(moment.contents.difference(from: try image.contents()) == nil, "\(place)")
    for (name, contents) in moment.snapshots {
      let snapshot = try Qcow2Image(MemoryFile(bytes, isReadOnly: true), backing: backing, snapshot: name)
      // An image of version 2 does not tell the disk's size then.
      #expect(try Array(snapshot.contents().prefix(contents.count)) == contents, "\(place): snapshot '\(name)'")
    }
    // Life goes on: what is lost is only space.
    let file = MemoryFile(bytes)
    let next = try Qcow2Image(file, backing: backing)
    if next.size >= 4096 { try next.write([UInt8](repeating: 0x5a, count: 3000), at: 700) }
    try next.close()
    let after = try Qcow2Check(MemoryFile(file.bytes, isReadOnly: true)).examine()
    #expect(after.isSound, "\(place), and a write: \(after.problems)")
  }

  /// Putting an image right is whole, too: a cut leaves the broken image or the repaired one.
  @Test(arguments: [512, 4096] as [UInt64]) func repairsAreWhole(clusterSize: UInt64) throws {
    var random = SeededRandom(seed: clusterSize)
    let file = MemoryFile()
    var creation = Qcow2Creation(size: 128 << 10)
    creation.clusterSize = clusterSize
    try creation.write(to: file)
    let image = try Qcow2Image(file, backing: nil)
    for _ in 0..<20 { try image.write(random.data(3000), at: random.below(120_000)) }
    try image.createSnapshot(named: "one")
    try image.write(random.data(30000), at: 5000)
    try image.close()
    let contents = try image.contents()

    // Refcounts that say nothing is used.
    var broken = file.bytes
    let table = Int(UInt64(bigEndian: broken.withUnsafeBytes { $0.loadUnaligned(fromByteOffset: 48, as: UInt64.self) }))
    let block = Int(
      UInt64(bigEndian: broken.withUnsafeBytes { $0.loadUnaligned(fromByteOffset: table, as: UInt64.self) }))
    broken.replaceSubrange(block..<block + Int(clusterSize), with: repeatElement(0, count: Int(clusterSize)))
    let patient = MemoryFile(broken)
    #expect(try Qcow2Check(patient).examine().corruptions > 0)
    try Qcow2Check(patient).repair(.all)
    #expect(try Qcow2Check(patient).examine().isSound)

    var cut = PowerCut()
    cut.append(.write(offset: 0, bytes: broken))
    cut.append(.flush)
    for event in patient.events {
      cut.append(event)
      for luck in PowerCut.Luck.allCases {
        let bytes = cut.remains(luck, &random)
        let isRepaired = try Qcow2Check(MemoryFile(bytes, isReadOnly: true)).examine().isSound
        if !isRepaired { #expect(bytes.prefix(broken.count) == broken[...]) }
        let image = try Qcow2Image(MemoryFile(bytes, isReadOnly: true), backing: nil)
        #expect(try image.contents() == contents)
      }
    }
  }

  /// A commit into the backing file: whenever power fails, the overlay and its backing file together say the same as before.
  @Test func commitsKeepTheDisk() throws {
    var random = SeededRandom(seed: 77)
    let (base, top) = (MemoryFile(), MemoryFile())
    var creation = Qcow2Creation(size: 128 << 10)
    creation.clusterSize = 1024
    try creation.write(to: base)
    creation.backing = ("base.qcow2", .qcow2)
    try creation.write(to: top)
    let lower = try Qcow2Image(base, backing: nil)
    for _ in 0..<15 { try lower.write(random.data(2000), at: random.below(120_000)) }
    try lower.flush()
    let overlay = try Qcow2Image(top, backing: lower)
    for _ in 0..<15 { try overlay.write(random.data(2000), at: random.below(120_000)) }
    try overlay.writeZeroes(3000..<9000, mayUnmap: true)
    try overlay.flush()
    let contents = try overlay.contents()
    let (baseBefore, topBefore) = (base.events.count, top.events.count)
    try ImageCommit(overlay, into: lower).run(empties: true) { _ in }

    // The base is written, then the overlay: a cut in the one finds the other as it was.
    var (baseCut, topCut) = (PowerCut(), PowerCut())
    for event in base.events[..<baseBefore] { baseCut.append(event) }
    for event in top.events[..<topBefore] { topCut.append(event) }
    func judge(_ place: String) throws {
      for luck in PowerCut.Luck.allCases {
        let (below, above) = (baseCut.remains(luck, &random), topCut.remains(luck, &random))
        for bytes in [below, above] {
          let report = try Qcow2Check(MemoryFile(bytes, isReadOnly: true)).examine()
          #expect(report.isSound, "\(place), \(luck): \(report.problems)")
        }
        let backing = try Qcow2Image(MemoryFile(below, isReadOnly: true), backing: nil)
        let image = try Qcow2Image(MemoryFile(above, isReadOnly: true), backing: backing)
        #expect(try image.contents() == contents, "\(place), \(luck)")
      }
    }
    for (index, event) in base.events[baseBefore...].enumerated() {
      baseCut.append(event)
      try judge("base, event \(index)")
    }
    for (index, event) in top.events[topBefore...].enumerated() {
      topCut.append(event)
      try judge("overlay, event \(index)")
    }
    #expect(try Qcow2Image(MemoryFile(base.bytes, isReadOnly: true), backing: nil).contents() == contents)
  }
}
