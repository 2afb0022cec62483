import Host
import Storage
import TestSupport
import Testing

/// What qemu-img has made is read as it is, and what is made here is what qemu-img reads.
@Suite struct FormatAgreementTests {
  /// Options of `qemu-img convert` for images that are read here.
  static let foreign = [
    "-O raw", "-O qcow2", "-O qcow2 -o compat=0.10", "-O qcow2 -o cluster_size=512",
    "-O qcow2 -o cluster_size=4k,refcount_bits=1", "-O qcow2 -o cluster_size=2M,refcount_bits=64",
    "-O qcow2 -o lazy_refcounts=on,refcount_bits=8", "-O qcow2 -c", "-O qcow2 -c -o cluster_size=4k",
    "-O qcow2 -c -o compression_type=zstd", "-O qcow2 -c -o compression_type=zstd,cluster_size=512",
    "-O qcow2 -c -o compat=0.10,cluster_size=2M", "-O vmdk -o subformat=monolithicSparse",
    "-O vmdk -o subformat=monolithicFlat", "-O vmdk -o subformat=twoGbMaxExtentSparse",
    "-O vmdk -o subformat=twoGbMaxExtentFlat", "-O vmdk -o subformat=streamOptimized", "-O vhdx -o subformat=dynamic",
    "-O vhdx -o subformat=fixed", "-O vhdx -o subformat=dynamic,block_size=1M",
  ]

  /// A disk with data, zeroes, and data that compress.
  private static func disk(_ size: Int, _ random: inout SeededRandom) -> [UInt8] {
    var bytes: [UInt8] = []
    while bytes.count < size {
      let count = 4096 * (1 + random.below(64))
      switch random.below(3) {
      case 0: bytes += [UInt8](repeating: 0, count: count)
      default: bytes += random.data(count)
      }
    }
    return Array(bytes[..<size])
  }

  /// The stretches of a disk that are known to be zero, or not, as starts of stretches.
  private static func map(_ image: any DiskImage) throws -> [(start: UInt64, isZero: Bool)] {
    var map: [(start: UInt64, isZero: Bool)] = []
    var offset: UInt64 = 0
    while offset < image.size {
      let extent = try image.extent(at: offset)
      if map.last?.isZero != extent.isZero { map.append((offset, extent.isZero)) }
      offset += extent.length
    }
    return map
  }

  /// The same from `qemu-img map`.
  private static func foreignMap(_ options: String) throws -> [(start: UInt64, isZero: Bool)] {
    var map: [(start: UInt64, isZero: Bool)] = []
    // Lines such as `{ "start": 0, "length": 65536, "depth": 0, …, "zero": true, …},`.
    for line in try Tool.run("qemu-img map --output=json \(options)").split(separator: "\n") {
      guard let start = line.firstRange(of: "\"start\": "),
        let number = UInt64(line[start.upperBound...].prefix(while: \.isNumber))
      else { continue }
      let isZero = line.contains("\"zero\": true")
      if map.last?.isZero != isZero { map.append((number, isZero)) }
    }
    return map
  }

  /// What is zero by the tables is zero for QEMU, which sometimes sees holes of the file in clusters with data, too.
  private func expectZeroes(
    _ ours: [(start: UInt64, isZero: Bool)], in theirs: [(start: UInt64, isZero: Bool)], size: UInt64
  ) {
    for (index, stretch) in ours.enumerated() where stretch.isZero {
      let end = index + 1 < ours.count ? ours[index + 1].start : size
      let isZeroThere = theirs.last { $0.start <= stretch.start }?.isZero == true
      #expect(
        isZeroThere && !theirs.contains { stretch.start < $0.start && $0.start < end && !$0.isZero },
        "from \(stretch.start) on: \(ours)\n\(theirs)")
    }
  }

  @Test(arguments: foreign) func foreignImagesAreRead(options: String) throws {
    var random = SeededRandom(seed: UInt64(options.utf8.count))
    let scratch = try Scratch()
    let bytes = Self.disk(5 << 20, &random)
    let raw = try scratch.file("disk.raw", bytes)
    let path = scratch.file("image")
    try Tool.run("qemu-img convert -f raw \(options) '\(raw)' '\(path)'")
    // A fixed VHDX has the first bytes of a disk nowhere near its own, and a raw one has nothing else.
    let format = ImageFormat(rawValue: String(options.split(separator: " ")[1]))
    let image = try patiently {
      try ImageReference(path: path, format: format == .raw ? .raw : nil, isReadOnly: true).open {
        Issue.record("\($0)")
      }
    }
    #expect(image.size == UInt64(bytes.count))
    #expect(try image.contents() == bytes)
    for _ in 0..<50 {
      let offset = random.below(bytes.count)
      let count = 1 + random.below(min(300_000, bytes.count - offset))
      #expect(try image.bytes(at: UInt64(offset), count: count) == Array(bytes[offset..<offset + count]))
    }
    let ours = try Self.map(image)
    for (index, stretch) in ours.enumerated() where stretch.isZero {
      let end = index + 1 < ours.count ? ours[index + 1].start : image.size
      #expect(!bytes[Int(stretch.start)..<Int(end)].contains { $0 != 0 }, "bytes from \(stretch.start) on are not zero")
    }
    let theirs = try Self.foreignMap("-f \(format?.rawValue ?? "raw") '\(path)'")
    switch format {
    // The tables alone count here, there also holes of the file beneath.
    case .vhdx: break
    default: #expect(ours.elementsEqual(theirs, by: ==), "\(ours)\n\(theirs)")
    }
    try image.close()
    guard format == .qcow2 else { return }
    let report = try Qcow2Check(reading(path)).examine()
    #expect(report.isSound && report.leaks == 0, "\(report.problems)")
    let theirReport = try Tool.run("qemu-img check --output=json '\(path)'")
    for (name, number) in [
      ("total-clusters", report.totalClusters), ("allocated-clusters", report.allocatedClusters),
      ("compressed-clusters", report.compressedClusters), ("fragmented-clusters", report.fragmentedClusters),
      ("image-end-offset", report.imageEnd),
    ] where number > 0 {
      #expect(theirReport.contains("\"\(name)\": \(number)"), "\(name) is not \(number): \(theirReport)")
    }
  }

  /// Ways to make an image here.
  struct Own: CustomStringConvertible, Sendable {
    var format = ImageFormat.qcow2
    var clusterSize: UInt64 = 65536
    var version = 3
    var refcountBits = 16
    var compression: Compression?
    var isLazy = false

    var description: String {
      "\(format), version \(version), clusters of \(clusterSize), \(refcountBits) bits, "
        + "\(compression?.name ?? "not compressed")"
    }
  }

  static let own = [
    Own(format: .raw), Own(), Own(version: 2), Own(clusterSize: 512), Own(clusterSize: 2 << 20, refcountBits: 64),
    Own(clusterSize: 4096, refcountBits: 1), Own(isLazy: true), Own(compression: .zlib), Own(compression: .zstd),
    Own(clusterSize: 4096, compression: .zstd), Own(clusterSize: 512, version: 2, compression: .zlib),
    Own(clusterSize: 1 << 20, refcountBits: 2, compression: .zlib),
  ]

  @Test(arguments: own) func ownImagesAreReadElsewhere(own: Own) throws {
    var random = SeededRandom(seed: own.clusterSize)
    let scratch = try Scratch()
    let bytes = Self.disk(4 << 20, &random)
    let source = try RawImage(reading(scratch.file("disk.raw", bytes)))
    var creation = Qcow2Creation(size: UInt64(bytes.count))
    creation.clusterSize = own.clusterSize
    creation.version = own.version
    creation.refcountBits = own.refcountBits
    creation.usesLazyRefcounts = own.isLazy
    if let compression = own.compression { creation.compression = compression }
    let path = scratch.file("image")
    let kind: ImageCreation = own.format == .raw ? .raw(size: UInt64(bytes.count)) : .qcow2(creation)
    let image = try kind.make(at: path, replaces: false)
    try ImageCopy(from: source, to: image).run(compresses: own.compression != nil) { _ in }
    let ours = try Self.map(image)
    try image.close()
    if own.format == .qcow2 { try Tool.check(path) }
    try Tool.run("qemu-img compare -f \(own.format) -F raw '\(path)' '\(scratch.file("disk.raw"))'")
    let theirs = try Self.foreignMap("-f \(own.format) '\(path)'")
    expectZeroes(ours, in: theirs, size: UInt64(bytes.count))
    try Tool.run(
      "cd '\(scratch.path)' && qemu-img convert -f \(own.format) -O raw image back && cmp back disk.raw")
    guard own.format == .qcow2 else { return }
    let info = try Tool.run("qemu-img info --output=json '\(path)'")
    for text in [
      "\"virtual-size\": \(bytes.count)", "\"cluster-size\": \(own.clusterSize)",
      "\"compat\": \"\(own.version == 2 ? "0.10" : "1.1")\"",
    ] + (own.version == 2 ? [] : ["\"refcount-bits\": \(own.refcountBits)", "\"lazy-refcounts\": \(own.isLazy)"]) {
      #expect(info.contains(text), "\(text) is not in \(info)")
    }
  }

  /// Chains of images, shorter and longer than each other, that both have a part in.
  @Test(arguments: 1...6 as ClosedRange<UInt64>) func backingChainsAgree(seed: UInt64) throws {
    var random = SeededRandom(seed: seed)
    let scratch = try Scratch()
    var flat = FlatDisk(size: 0)
    var below: (path: String, format: String)?
    for level in 0..<4 {
      let size = (1 << 20) + random.below(1 << 20) & ~511
      let format = level == 0 && seed & 1 == 0 ? "raw" : "qcow2"
      let path = scratch.file("level\(level)")
      let isOurs = random.next() & 1 == 0
      let clusterSize = UInt64(4096) << UInt64(random.below(5))
      // What is behind the end of a short image is zero for all above.
      flat.resize(to: size)
      if format == "raw" {
        _ = try scratch.file("level0", [UInt8](repeating: 0, count: size))
      } else if isOurs {
        var creation = Qcow2Creation(size: UInt64(size))
        creation.clusterSize = clusterSize
        creation.backing = below.map { ("level\(level - 1)", ImageFormat(rawValue: $0.format)!) }
        try patiently { try creation.write(to: HostFile.create(path: path)) }
      } else {
        let backing = below.map { "-b level\(level - 1) -F \($0.format)" } ?? ""
        try Tool.run(
          "cd '\(scratch.path)' && qemu-img create -q -f qcow2 -o cluster_size=\(clusterSize) \(backing) level\(level) \(size)"
        )
      }
      if random.next() & 1 == 0 {
        let image = try patiently {
          try ImageReference(path: path, format: ImageFormat(rawValue: format)).open { _ in }
        }
        for _ in 0..<8 {
          let offset = random.below(size)
          let data = random.data(1 + random.below(min(90_000, size - offset)))
          try image.write(data, at: offset)
          flat.write(data, at: offset)
        }
        try image.close()
      } else {
        try foreignWrites(path, format, &flat, &random)
      }
      below = (path, format)
      let image = try patiently {
        try ImageReference(path: path, format: ImageFormat(rawValue: format), isReadOnly: true).open { _ in }
      }
      #expect(flat.difference(from: try image.contents()) == nil, "level \(level)")
      if format == "qcow2" {
        let (ours, theirs) = (try Self.map(image), try Self.foreignMap("-f qcow2 '\(path)'"))
        expectZeroes(ours, in: theirs, size: image.size)
        try Tool.check(path)
      }
      try image.close()
      try Tool.run("cd '\(scratch.path)' && qemu-img convert -f \(format) -O raw level\(level) flat")
      let other = try RawImage(reading(scratch.file("flat"))).contents()
      #expect(flat.difference(from: other) == nil, "level \(level), as qemu-img reads it")
    }
    // All of the chain in one, by a rebase here and by one there.
    let top = scratch.file("level3")
    try Tool.run("cp '\(top)' '\(scratch.file("copy"))'")
    let rebase = try ImageRebase(top, to: nil, opensOld: true) { Issue.record("\($0)") }
    try rebase.run { _ in }
    try Tool.run("cd '\(scratch.path)' && qemu-img rebase -f qcow2 -b '' copy && qemu-img compare copy level3")
    try Tool.check(top)
  }

  /// Writes with qemu-io: what each of these is belongs to a byte pattern.
  private func foreignWrites(
    _ path: String, _ format: String, _ flat: inout FlatDisk, _ random: inout SeededRandom
  ) throws {
    var commands = ""
    for _ in 0..<8 {
      let offset = random.below(flat.bytes.count) & ~511
      let count = max(512, (1 + random.below(min(90_000, flat.bytes.count - offset))) & ~511)
      switch random.below(3) {
      case 0:
        commands += " -c 'write -z \(offset) \(count)'"
        flat.zero(offset..<offset + count)
      default:
        let pattern = UInt8(1 + random.below(255))
        commands += " -c 'write -P \(pattern) \(offset) \(count)'"
        flat.write([UInt8](repeating: pattern, count: count), at: offset)
      }
    }
    try Tool.run("qemu-io -f \(format) \(commands) '\(path)'")
  }

  /// One image, written in turns here and by QEMU, with snapshots, discards and changes of size by both.
  @Test(arguments: 1...8 as ClosedRange<UInt64>) func turnsAgree(seed: UInt64) throws {
    var random = SeededRandom(seed: seed)
    let scratch = try Scratch()
    let path = scratch.file("disk.qcow2")
    let clusterSize = 512 << random.below(8)
    let version = seed % 4 == 0 ? "0.10" : "1.1"
    var flat = FlatDisk(size: 1 << 20)
    var snapshots: [String: FlatDisk] = [:]
    try Tool.run("qemu-img create -q -f qcow2 -o cluster_size=\(clusterSize),compat=\(version) '\(path)' 1M")
    for round in 0..<14 {
      if round % 2 == 0 {
        try foreignTurn(path, version, &flat, &snapshots, &random)
      } else {
        try ownTurn(path, version, &flat, &snapshots, &random)
      }
      try Tool.check(path)
      let report = try Qcow2Check(reading(path)).examine()
      #expect(report.isSound && report.leaks == 0, "round \(round): \(report.problems)")
      let image = try patiently { try ImageReference(path: path, isReadOnly: true).open { _ in } }
      #expect(flat.difference(from: try image.contents()) == nil, "round \(round)")
      try image.close()
      try Tool.run("qemu-img convert -f qcow2 -O raw '\(path)' '\(scratch.file("flat"))'")
      let other = try RawImage(reading(scratch.file("flat"))).contents()
      #expect(flat.difference(from: other) == nil, "round \(round), as qemu-img reads it")
    }
    for (name, flat) in snapshots {
      let image = try patiently { try ImageReference(path: path, isReadOnly: true, snapshot: name).open { _ in } }
      let contents = try image.contents()
      #expect(flat.difference(from: Array(contents.prefix(flat.bytes.count))) == nil, "snapshot '\(name)'")
      try image.close()
    }
  }

  private func foreignTurn(
    _ path: String, _ version: String, _ flat: inout FlatDisk, _ snapshots: inout [String: FlatDisk],
    _ random: inout SeededRandom
  ) throws {
    if flat.bytes.count > 0 { try foreignWrites(path, "qcow2", &flat, &random) }
    let known = snapshots.keys.sorted()
    switch random.below(5) {
    case 0 where !known.isEmpty:
      let name = known[random.below(known.count)]
      try Tool.run("qemu-img snapshot -a '\(name)' '\(path)'")
      flat = snapshots[name]!
    case 1 where !known.isEmpty:
      let name = known[random.below(known.count)]
      try Tool.run("qemu-img snapshot -d '\(name)' '\(path)'")
      snapshots[name] = nil
    case 2, 3:
      let name = "theirs-\(random.next() & 0xffff)"
      try Tool.run("qemu-img snapshot -c '\(name)' '\(path)'")
      snapshots[name] = flat
    default:
      // QEMU refuses to make a disk with snapshots smaller.
      guard version == "1.1" || known.isEmpty else { return }
      let size = flat.bytes.count + random.below(300_000) & ~511
      try Tool.run("qemu-img resize -q -f qcow2 '\(path)' \(size)")
      flat.resize(to: size)
    }
  }

  private func ownTurn(
    _ path: String, _ version: String, _ flat: inout FlatDisk, _ snapshots: inout [String: FlatDisk],
    _ random: inout SeededRandom
  ) throws {
    let image = try patiently { try ImageReference(path: path).openQcow2 { Issue.record("\($0)") } }
    for _ in 0..<10 where image.size > 0 {
      let offset = random.below(flat.bytes.count)
      let count = 1 + random.below(min(60_000, flat.bytes.count - offset))
      let range = UInt64(offset)..<UInt64(offset + count)
      switch random.below(4) {
      case 0:
        try image.discard(range)
        flat.write(try image.bytes(at: range.lowerBound, count: count), at: offset)
      case 1:
        try image.writeZeroes(range, mayUnmap: random.next() & 1 == 0)
        flat.zero(offset..<offset + count)
      default:
        let data = random.data(count)
        try image.write(data, at: offset)
        flat.write(data, at: offset)
      }
    }
    let known = snapshots.keys.sorted()
    switch random.below(5) {
    case 0 where !known.isEmpty:
      let name = known[random.below(known.count)]
      try image.applySnapshot(name)
      flat = snapshots[name]!
    case 1 where !known.isEmpty:
      let name = known[random.below(known.count)]
      try image.deleteSnapshot(name)
      snapshots[name] = nil
    case 2 where version == "1.1" || known.isEmpty:
      let size = (flat.bytes.count / 2 + random.below(flat.bytes.count)) & ~511
      try image.resize(to: UInt64(size))
      flat.resize(to: size)
    default:
      let name = "ours-\(random.next() & 0xffff)"
      try image.createSnapshot(named: name)
      snapshots[name] = flat
    }
    try image.close()
  }

  /// A process that wrote with lazy refcounts and died leaves refcounts that are wrong, and says so.
  @Test func lazyRefcountsAreMended() throws {
    let scratch = try Scratch()
    let path = scratch.file("disk.qcow2")
    try Tool.run("qemu-img create -q -f qcow2 -o lazy_refcounts=on '\(path)' 4M")
    _ = try? Tool.run(
      "qemu-io -c 'open -o lazy-refcounts=on \(path)' -c 'write -P 7 1M 300k' -c 'flush' -c 'sigraise 9'")
    #expect(try ImageInfo(path: path).qcow2?.isDirty == true)
    let expected = [UInt8](repeating: 7, count: 300 << 10)
    // Reading changes nothing.
    let reader = try patiently { try ImageReference(path: path, isReadOnly: true).open { _ in } }
    #expect(try reader.bytes(at: 1 << 20, count: expected.count) == expected)
    try reader.close()
    let image = try patiently { try ImageReference(path: path).open { _ in } }
    #expect(try image.bytes(at: 1 << 20, count: expected.count) == expected)
    try image.write([UInt8](repeating: 8, count: 70_000), at: 3 << 20)
    try image.close()
    #expect(try ImageInfo(path: path).qcow2?.isDirty == false)
    try Tool.check(path)
    try Tool.run("qemu-io -r -c 'read -P 7 1M 300k' -c 'read -P 8 3M 70000' '\(path)' | grep -c failed", status: 1)
  }
}
