import Glibc
import Host
import Storage
import TestSupport
import Testing

/// Images that contradict themselves: an error in words, no crash, and nothing written where it does not belong.
@Suite struct HostileImageTests {
  /// A small image with all there is: data, compressed data, zeroes, a snapshot. Its clusters have 4 KiB.
  private static func image(version: Int = 3, size: Int = 1 << 20) throws -> [UInt8] {
    let file = MemoryFile()
    var creation = Qcow2Creation(size: UInt64(size))
    creation.clusterSize = 4096
    creation.version = version
    try creation.write(to: file)
    let image = try Qcow2Image(file, backing: nil)
    try image.write([UInt8](repeating: 1, count: 50_000), at: 0)
    try [UInt8](repeating: 2, count: 4096).withUnsafeBytes { try image.writeCompressed($0, at: 512 << 10) }
    try image.createSnapshot(named: "one")
    try image.write([UInt8](repeating: 3, count: 20_000), at: 10_000)
    try image.close()
    return file.bytes
  }

  /// Offsets in the header (docs/interop/qcow2.txt).
  private enum Field {
    static let version = 4
    static let backingOffset = 8
    static let backingLength = 16
    static let clusterBits = 20
    static let size = 24
    static let encryption = 32
    static let l1Count = 36
    static let l1Offset = 40
    static let tableOffset = 48
    static let tableClusters = 56
    static let snapshotCount = 60
    static let snapshotsOffset = 64
    static let incompatible = 72
    static let refcountOrder = 96
    static let length = 100
    static let firstExtension = 112
  }

  /// A header that cannot be, and a part of what is said of it.
  struct Lie: CustomStringConvertible, Sendable {
    var description: String
    /// Bytes of the field.
    var width = 4
    var offset: Int
    var value: UInt64
    var message: String
  }

  static let lies = [
    Lie(description: "version 4", offset: Field.version, value: 4, message: "version 4"),
    Lie(description: "clusters of 1 byte", offset: Field.clusterBits, value: 0, message: "2^0 bytes"),
    Lie(description: "clusters of 256 bytes", offset: Field.clusterBits, value: 8, message: "2^8 bytes"),
    Lie(description: "clusters of 4 MiB", offset: Field.clusterBits, value: 22, message: "2^22 bytes"),
    Lie(description: "absurd clusters", offset: Field.clusterBits, value: 0xffff_ffff, message: "2^4294967295 bytes"),
    Lie(description: "size 2^64", width: 8, offset: Field.size, value: .max, message: "too small for a disk"),
    Lie(description: "size 2^62", width: 8, offset: Field.size, value: 1 << 62, message: "too small for a disk"),
    Lie(description: "encrypted", offset: Field.encryption, value: 2, message: "encrypted (LUKS)"),
    Lie(description: "huge L1 table", offset: Field.l1Count, value: 0xffff_ffff, message: "4294967295 entries"),
    Lie(description: "L1 table too small", offset: Field.l1Count, value: 0, message: "too small for a disk"),
    Lie(description: "L1 table off", width: 8, offset: Field.l1Offset, value: 4097, message: "L1 table cannot be"),
    Lie(description: "L1 table nowhere", width: 8, offset: Field.l1Offset, value: 1 << 40, message: "truncated"),
    Lie(
      description: "L1 table beyond all", width: 8, offset: Field.l1Offset, value: ~0xfff, message: "L1 table cannot be"
    ),
    Lie(
      description: "refcounts nowhere", width: 8, offset: Field.tableOffset, value: 1 << 50, message: "refcount table"),
    Lie(
      description: "refcounts off", width: 8, offset: Field.tableOffset, value: 512, message: "refcount table cannot be"
    ),
    Lie(description: "no refcounts", offset: Field.tableClusters, value: 0, message: "refcount table has 0"),
    Lie(description: "huge refcounts", offset: Field.tableClusters, value: 1 << 31, message: "refcount table has"),
    Lie(description: "many snapshots", offset: Field.snapshotCount, value: 1 << 31, message: "2147483648 snapshots"),
    Lie(
      description: "more snapshots than there are", offset: Field.snapshotCount, value: 60_000, message: "snapshot"),
    Lie(
      description: "snapshots nowhere", width: 8, offset: Field.snapshotsOffset, value: 1 << 45,
      message: "snapshot table"),
    Lie(description: "long backing name", offset: Field.backingLength, value: 0x8000_0000, message: "backing file"),
    Lie(description: "unknown feature", width: 8, offset: Field.incompatible, value: 1 << 40, message: "feature 40"),
    Lie(description: "subclusters", width: 8, offset: Field.incompatible, value: 16, message: "subclusters"),
    Lie(description: "compressed with nothing", width: 8, offset: Field.incompatible, value: 8, message: "zlib"),
    Lie(description: "wide refcounts", offset: Field.refcountOrder, value: 7, message: "2^7 bits"),
    Lie(description: "absurd refcounts", offset: Field.refcountOrder, value: 0xffff_ffff, message: "refcounts have"),
    Lie(description: "long header", offset: Field.length, value: 0xffff_fff8, message: "header claims"),
    Lie(description: "short header", offset: Field.length, value: 8, message: "header claims"),
    Lie(
      description: "extension beyond all", offset: Field.firstExtension + 4, value: 0xffff_fff0, message: "extension"),
  ]

  @Test(arguments: lies) func headersThatLieAreRefused(lie: Lie) throws {
    var bytes = try Self.image()
    if lie.offset == Field.backingLength { bytes.setBigEndian(UInt64(200), at: Field.backingOffset) }
    if lie.width == 8 {
      bytes.setBigEndian(lie.value, at: lie.offset)
    } else {
      bytes.setBigEndian(UInt32(lie.value), at: lie.offset)
    }
    for isReadOnly in [true, false] {
      let file = MemoryFile(bytes, isReadOnly: isReadOnly)
      let error = try #require(throws: ImageFailure.self) { _ = try Qcow2Image(file, backing: nil) }
      #expect(error.description.contains(lie.message), "\(error)")
      #expect(file.bytes == bytes)
    }
    // A check refuses, or says that it is corrupt; a repair may refuse.
    let report = Result { try Qcow2Check(MemoryFile(bytes, isReadOnly: true)).examine() }
    if case .success(let report) = report { #expect(!report.isSound) }
    _ = try? Qcow2Check(MemoryFile(bytes)).repair(.all)
  }

  /// What is said elsewhere in the image.
  enum Fault: String, CaseIterable {
    case l2Beyond, l2Misaligned, l2OnHeader, l2OnL1, dataBeyond, dataMisaligned, dataOnL2, dataOnRefcounts, dataOnHeader
    case refcountsOnHeader, refcountsOnL1, refcountsBeyond, nothingCounted, snapshotL1Huge, snapshotL1Beyond, extraHuge
  }

  private func inject(_ fault: Fault, into bytes: inout [UInt8]) {
    let own: UInt64 = 1 << 63
    let l1 = Int(bytes.bigEndian(at: Field.l1Offset))
    let l2 = Int(bytes.bigEndian(at: l1) & 0xff_ffff_ffff_fe00)
    let table = Int(bytes.bigEndian(at: Field.tableOffset))
    let block = Int(bytes.bigEndian(at: table))
    let snapshot = Int(bytes.bigEndian(at: Field.snapshotsOffset))
    switch fault {
    case .l2Beyond: bytes.setBigEndian(1 << 40 | own, at: l1)
    case .l2Misaligned: bytes.setBigEndian(UInt64(l2 + 512) | own, at: l1)
    // Offset 0 means that there is none, so this is the header by way of a wrong length of clusters.
    case .l2OnHeader: bytes.setBigEndian(UInt64(table) | own, at: l1)
    case .l2OnL1: bytes.setBigEndian(UInt64(l1) | own, at: l1)
    case .dataBeyond: bytes.setBigEndian(1 << 50 | own, at: l2)
    case .dataMisaligned: bytes.setBigEndian(UInt64(l2 + 1024) | own, at: l2)
    case .dataOnL2: bytes.setBigEndian(UInt64(l2) | own, at: l2)
    case .dataOnRefcounts: bytes.setBigEndian(UInt64(block) | own, at: l2)
    case .dataOnHeader: bytes.setBigEndian(UInt64(table) | own, at: l2)
    case .refcountsOnHeader: bytes.setBigEndian(UInt64(0x200), at: table)
    case .refcountsOnL1: bytes.setBigEndian(UInt64(l1), at: table)
    case .refcountsBeyond: bytes.setBigEndian(1 << 40, at: table)
    case .nothingCounted: bytes.replaceSubrange(block..<block + 4096, with: repeatElement(0, count: 4096))
    case .snapshotL1Huge: bytes.setBigEndian(UInt32.max, at: snapshot + 8)
    case .snapshotL1Beyond: bytes.setBigEndian(UInt64(1) << 40, at: snapshot)
    case .extraHuge: bytes.setBigEndian(UInt32.max, at: snapshot + 36)
    }
  }

  /// Whatever is tried with such an image, the tables that it has stay as they are, until it is repaired.
  @Test(arguments: Fault.allCases, [2, 3]) func brokenTablesAreNotWritten(fault: Fault, version: Int) throws {
    var bytes = try Self.image(version: version)
    inject(fault, into: &bytes)
    let l1 = Int(bytes.bigEndian(at: Field.l1Offset))
    let tables = [(64, 8), (l1, 4096), (Int(bytes.bigEndian(at: Field.tableOffset)), 4096)]
    let report = Result { try Qcow2Check(MemoryFile(bytes, isReadOnly: true)).examine() }
    if case .success(let report) = report {
      #expect(report.corruptions > 0)
    }
    let file = MemoryFile(bytes)
    var failures = 0
    func attempt(_ body: (Qcow2Image) throws -> Void) {
      do { try body(try Qcow2Image(file, backing: nil)) } catch { failures += 1 }
    }
    attempt { _ = try $0.contents() }
    attempt { try $0.write([UInt8](repeating: 9, count: 6000), at: 100) }
    attempt { try $0.write([UInt8](repeating: 9, count: 6000), at: 900_000) }
    attempt { try $0.discard(0..<60_000) }
    #expect(failures > 0)
    for (offset, count) in tables {
      let (now, before) = (file.bytes[offset..<offset + count], bytes[offset..<offset + count])
      #expect(now == before, "the table at \(offset) has changed")
    }
    // What touches nothing that is broken may well work: version 2 has no mark that would forbid it.
    attempt { try $0.createSnapshot(named: "two") }
    attempt { try $0.applySnapshot("one") }
    attempt { try $0.deleteSnapshot("one") }
    attempt { try $0.resize(to: 2 << 20) }
    attempt { try $0.resize(to: 8192) }

    // A repair makes it sound, or says why not; it does so in one go.
    let patient = MemoryFile(bytes)
    do {
      try Qcow2Check(patient).repair(.all)
    } catch {
      // Snapshots that nobody can read are not thrown away.
      #expect([.snapshotL1Huge, .snapshotL1Beyond, .extraHuge].contains(fault), "\(error)")
      return
    }
    let after = try Qcow2Check(patient).examine()
    #expect(after.isSound && after.leaks == 0, "\(after.problems)")
    let scratch = try Scratch()
    try Tool.check(try scratch.file("repaired.qcow2", patient.bytes))
    let image = try Qcow2Image(patient, backing: nil)
    try image.write([UInt8](repeating: 9, count: 6000), at: 100)
    #expect(try image.bytes(at: 100, count: 6000) == [UInt8](repeating: 9, count: 6000))
    try image.close()
  }

  /// Where one of the image's own tables is, there is nothing else, be it only a snapshot's: the table changes in place.
  @Test(arguments: [true, false]) func tablesBelongToNobodyElse(isSnapshot: Bool) throws {
    var bytes = try Self.image()
    let l1 = UInt64(bytes.bigEndian(at: Field.l1Offset) as UInt64)
    let snapshot = Int(bytes.bigEndian(at: Field.snapshotsOffset) as UInt64)
    let snapshotL1 = Int(bytes.bigEndian(at: snapshot) as UInt64)
    let l2 = Int((bytes.bigEndian(at: Int(l1)) as UInt64) & 0xff_ffff_ffff_fe00)
    bytes.setBigEndian(l1, at: isSnapshot ? snapshotL1 : l2)
    let file = MemoryFile(bytes)
    let problems = try Qcow2Check(file).examine().problems
    let wanted = isSnapshot ? "where no L2 table can be" : "where a table is"
    #expect(problems.contains { $0.contains("offset \(l1), \(wanted)") }, "\(problems)")
    try Qcow2Check(file).repair(.all)
    let image = try Qcow2Image(file, backing: nil)
    for offset in [100, 900_000] { try image.write([UInt8](repeating: 9, count: 6000), at: offset) }
    try image.close()
    let after = try Qcow2Check(file).examine()
    #expect(after.isSound && after.leaks == 0, "\(after.problems)")
  }

  /// A file that ends too early, at any length.
  @Test func truncatedImages() throws {
    let bytes = try Self.image()
    for length in stride(from: 0, to: bytes.count, by: 509) {
      let short = Array(bytes[..<length])
      do {
        let image = try Qcow2Image(MemoryFile(short, isReadOnly: true), backing: nil)
        _ = try image.contents()
      } catch {
        #expect("\(error)".contains("truncated") || "\(error)".contains("corrupt"), "\(length) bytes: \(error)")
      }
      do {
        let report = try Qcow2Check(MemoryFile(short, isReadOnly: true)).examine()
        #expect(!report.isSound || length > bytes.count - 4096, "\(length) bytes")
      } catch {
        // It says so.
      }
      _ = try? Qcow2Check(MemoryFile(short)).repair(.all)
    }
  }

  @Test func compressedGarbage() throws {
    for compression in Compression.allCases {
      let file = MemoryFile()
      var creation = Qcow2Creation(size: 1 << 20)
      creation.compression = compression
      try creation.write(to: file)
      let image = try Qcow2Image(file, backing: nil)
      let data = (0..<65536).map { UInt8(truncatingIfNeeded: $0 >> 6) }
      try data.withUnsafeBytes { try image.writeCompressed($0, at: 0) }
      try image.write([5], at: 300_000)
      try image.close()
      let place = try #require(
        file.events.compactMap { event -> (Int, Int)? in
          guard case .write(let offset, let bytes) = event, bytes.count < 4096, offset >= 5 * 65536 else { return nil }
          return bytes.count > 1 ? (offset, bytes.count) : nil
        }.first)
      var bytes = file.bytes
      for index in place.0..<place.0 + place.1 { bytes[index] ^= 0xff }
      let broken = try Qcow2Image(MemoryFile(bytes), backing: nil)
      let error = try #require(throws: ImageFailure.self) { _ = try broken.bytes(at: 100, count: 10) }
      #expect("\(error)".contains("cannot be expanded"), "\(error)")
      // A part of the cluster cannot be written either, as the rest is unknown; all of it can.
      #expect(throws: ImageFailure.self) { try broken.write([1, 2, 3], at: 100) }
      #expect(try broken.bytes(at: 300_000, count: 1) == [5])
      try broken.write(data, at: 0)
      #expect(try broken.bytes(at: 0, count: 65536) == data)
    }
  }

  /// A file that claims more clusters than anybody could count.
  @Test func countlessClusters() throws {
    let scratch = try Scratch()
    let path = scratch.file("huge.qcow2")
    try Tool.run("qemu-img create -q -f qcow2 -o cluster_size=512 '\(path)' 1M && truncate -s 200G '\(path)'")
    let error = try #require(throws: ImageFailure.self) {
      _ = try Qcow2Check(reading(path)).examine()
    }
    #expect("\(error)".contains("clusters"), "\(error)")
    // Snapshots whose tables together are larger than any memory.
    var bytes = try Self.image()
    let table = Int(bytes.bigEndian(at: Field.snapshotsOffset))
    var entry = [UInt8](repeating: 0, count: 56)
    entry.setBigEndian(bytes.bigEndian(at: Field.l1Offset), at: 0)
    entry.setBigEndian(UInt32(4 << 20), at: 8)
    entry.setBigEndian(UInt32(16), at: 36)
    bytes.removeLast(bytes.count - table)
    for _ in 0..<60_000 { bytes += entry }
    bytes.setBigEndian(UInt32(60_000), at: Field.snapshotCount)
    let many = try #require(throws: ImageFailure.self) { _ = try Qcow2Check(MemoryFile(bytes)).examine() }
    #expect("\(many)".contains("snapshot"), "\(many)")
    #expect(throws: ImageFailure.self) { _ = try Qcow2Image(MemoryFile(bytes), backing: nil) }
  }

  // MARK: Chains

  @Test func backingLoops() throws {
    let scratch = try Scratch()
    try Tool.run(
      """
      cd '\(scratch.path)' && qemu-img create -q -f qcow2 a 1M && qemu-img create -q -f qcow2 -b a -F qcow2 b && \
      qemu-img create -q -f qcow2 -b b -F qcow2 c && qemu-img rebase -u -f qcow2 -b c -F qcow2 a && \
      qemu-img create -q -f qcow2 self 1M && qemu-img rebase -u -f qcow2 -b ./self -F qcow2 self && \
      qemu-img create -q -f qcow2 -u -b missing -F raw orphan 1M && qemu-img create -q -f qcow2 -u -b . -F raw folder 1M && \
      mkfifo pipe && qemu-img create -q -f qcow2 -u -b pipe -F raw waiting 1M && \
      qemu-img create -q -f qcow2 -u -b nbd://localhost/ -F raw remote 1M
      """)
    for (name, message) in [
      ("a", "its own backing file"), ("b", "its own backing file"), ("self", "its own backing file"),
      ("orphan", "No such file"), ("folder", "neither a file nor a block device"),
      ("waiting", "neither a file nor a block device"), ("remote", "only files are supported"),
    ] {
      for isReadOnly in [true, false] {
        let error = try #require(throws: ImageFailure.self) {
          _ = try patiently { try ImageReference(path: scratch.file(name), isReadOnly: isReadOnly).open { _ in } }
        }
        #expect("\(error)".contains(message), "\(name): \(error)")
      }
    }
    // A long chain, but no loop.
    try Tool.run(
      """
      cd '\(scratch.path)' && qemu-img create -q -f qcow2 n0 1M && for i in $(seq 1 250); do cp n0 n$i && \
      printf 'n%-4d' $((i - 1)) | sed 's/ *$//' >name && printf '\\0\\0\\0\\0\\0\\0\\002\\0\\0\\0\\0' | \
      dd of=n$i bs=1 seek=8 conv=notrunc 2>/dev/null && printf "\\\\$(printf %03o $(wc -c <name))" | \
      dd of=n$i bs=1 seek=19 conv=notrunc 2>/dev/null && dd if=name of=n$i bs=1 seek=512 conv=notrunc 2>/dev/null; done
      """)
    let error = try #require(throws: ImageFailure.self) {
      _ = try patiently { try ImageReference(path: scratch.file("n250"), isReadOnly: true).open { _ in } }
    }
    #expect("\(error)".contains("backing file in a row"), "\(error)")
    let image = try patiently { try ImageReference(path: scratch.file("n50"), isReadOnly: true).open { _ in } }
    #expect(try image.contents() == [UInt8](repeating: 0, count: 1 << 20))
    try image.close()
  }

  // MARK: The host

  /// The host's disk is full: the write fails, what was there stays, and it goes on when there is room.
  @Test(arguments: 0...7 as ClosedRange<UInt64>) func fullDisks(seed: UInt64) throws {
    var random = SeededRandom(seed: seed)
    let file = MemoryFile()
    var creation = Qcow2Creation(size: 512 << 10)
    creation.clusterSize = 512 << UInt64(random.below(4))
    try creation.write(to: file)
    let image = try Qcow2Image(file, backing: nil)
    var flat = FlatDisk(size: 512 << 10)
    var failures = 0
    for round in 0..<6 {
      if round % 2 == 1 { file.fill() } else { file.makeRoom() }
      for _ in 0..<12 {
        let offset = random.below(500_000)
        let data = random.data(1 + random.below(12_000))
        do {
          if random.below(8) == 0 { try image.flush() }
          try image.write(data, at: offset)
          flat.write(data, at: offset)
        } catch {
          #expect((error as? ImageFailure)?.isOutOfSpace == true, "\(error)")
          failures += 1
          // A part of it may be there.
          flat.write(try image.bytes(at: UInt64(offset), count: data.count), at: offset)
        }
      }
      #expect(flat.difference(from: try image.contents()) == nil)
    }
    #expect(failures > 0)
    file.makeRoom()
    try image.close()
    let report = try Qcow2Check(MemoryFile(file.bytes, isReadOnly: true)).examine()
    #expect(report.isSound, "\(report.problems)")
    #expect(flat.difference(from: try Qcow2Image(MemoryFile(file.bytes), backing: nil).contents()) == nil)
  }

  /// The host's disk goes away, at any moment: an error, and what had been written holds together.
  @Test func failingDisks() throws {
    for count in 0..<120 {
      var random = SeededRandom(seed: UInt64(count))
      let file = MemoryFile()
      var creation = Qcow2Creation(size: 256 << 10)
      creation.clusterSize = 1024
      try creation.write(to: file)
      let image = try Qcow2Image(file, backing: nil)
      file.fail(afterChanges: count)
      var failures = 0
      for step in 0..<40 {
        let offset = random.below(240_000)
        do {
          switch step % 10 {
          case 3: try image.flush()
          case 6 where step > 20: try image.createSnapshot(named: "snapshot \(step)")
          case 8: try image.resize(to: UInt64(256 + step) << 10)
          default: try image.write(random.data(1 + random.below(9000)), at: offset)
          }
        } catch {
          failures += 1
          if failures == 1 {
            let report = try Qcow2Check(MemoryFile(file.bytes, isReadOnly: true)).examine()
            #expect(report.isSound, "after \(count) changes: \(report.problems)")
          }
        }
      }
      #expect(failures > 0, "after \(count) changes")
      #expect(throws: ImageFailure.self) { try image.close() }
    }
  }

  @Test func readOnlyFiles() throws {
    let file = MemoryFile(try Self.image(), isReadOnly: true)
    let image = try Qcow2Image(file, backing: nil)
    #expect(try image.bytes(at: 0, count: 1) == [1])
    let message = "'memory' is read-only"
    for attempt: () throws -> Void in [
      { try image.write([1], at: 0) }, { try image.discard(0..<4096) }, { try image.createSnapshot(named: "two") },
      { try image.writeZeroes(0..<10, mayUnmap: false) }, { try image.resize(to: 2 << 20) },
    ] {
      let error = try #require(throws: ImageFailure.self) { try attempt() }
      #expect("\(error)" == message)
    }
    try image.flush()
    try image.close()
  }

  // MARK: Formats that are only read

  /// Random damage to images of formats that are only read.
  @Test(arguments: ["vmdk", "vmdk -o subformat=streamOptimized", "vmdk -o subformat=twoGbMaxExtentSparse", "vhdx"])
  func damagedForeignImages(options: String) throws {
    let scratch = try Scratch()
    var random = SeededRandom(seed: UInt64(options.utf8.count))
    let raw = try scratch.file("disk.raw", random.data(1 << 20))
    let path = scratch.file("image")
    try Tool.run("qemu-img convert -f raw -O \(options) '\(raw)' '\(path)'")
    let name = options.contains("twoGb") ? scratch.file("image-s001") : path
    let bytes = try RawImage(reading(name)).contents()
    // Where headers and tables are.
    let places = bytes.indices.filter { bytes[$0] != 0 && ($0 < 1 << 17 || $0 & 0xff == 0) }
    for _ in 0..<400 {
      var damaged = bytes
      for _ in 0...random.below(3) {
        let place = random.below(3) == 0 ? random.below(bytes.count) : places[random.below(places.count)]
        damaged[place] = random.below(2) == 0 ? UInt8(truncatingIfNeeded: random.next()) : 0xff
      }
      if random.below(8) == 0 { damaged.removeLast(random.below(damaged.count)) }
      _ = try scratch.file(name == path ? "image" : "image-s001", damaged)
      do {
        let image = try patiently { try ImageReference(path: path, isReadOnly: true).open { _ in } }
        var offset: UInt64 = 0
        while offset < min(image.size, 2 << 20) {
          _ = try? image.bytes(at: offset, count: Int(min(65536, image.size - offset)))
          offset += 65536
        }
        if image.size > 0 { _ = try? image.extent(at: 0) }
        try image.close()
      } catch {
        // It says so.
      }
    }
  }
}
