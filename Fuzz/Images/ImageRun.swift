import Storage
import TestSupport

/// A damaged qcow2 image: whatever is in it, opening, reading, writing, checking and repairing it end, with an error or
/// without. An image that a check finds right behaves as a disk; so does one that was repaired. What is opened for
/// reading does not change.
struct ImageRun {
  let seed: UInt64

  func run() throws -> Int {
    var random = SeededRandom(seed: seed)
    var image = try RandomImage(&random)
    if !random.oneIn(20) { image.damage(&random) }
    let bytes = image.bytes

    let reader = MemoryFile(bytes, isReadOnly: true)
    read(reader, image.base)
    let report = try? Qcow2Check(reader).examine()
    guard reader.bytes == bytes else { throw GuestFailure("an image that was only read has changed") }
    if let report, report.isSound, !report.isMarkedDirty {
      try behave(MemoryFile(bytes, limit: Self.limit), image.base, "sound", &random)
    } else {
      abuse(MemoryFile(bytes, limit: Self.limit), image.base, &random)
    }

    let patient = MemoryFile(bytes, limit: Self.limit)
    guard (try? Qcow2Check(patient).repair(.all)) != nil else { return 1 }
    let after = try Qcow2Check(patient).examine()
    guard after.isSound, after.leaks == 0 else {
      throw GuestFailure("a repaired image is not sound: \(after.problems), \(after.leaks) leaks")
    }
    try behave(patient, image.base, "repaired", &random)
    return 1
  }

  /// Bytes that an image may grow to.
  private static let limit = 16 << 20
  /// Bytes of a disk that are looked at: its size may be a lie.
  private static let readLimit = 1 << 20

  /// All that only reads.
  private func read(_ file: MemoryFile, _ base: [UInt8]) {
    _ = try? BackingReference(of: file)
    guard let image = try? Qcow2Image(file, backing: RandomImage.backing(base)) else { return }
    _ = try? contents(image)
    var offset: UInt64 = 0
    for _ in 0..<64 where offset < image.size {
      guard let extent = try? image.extent(at: offset) else { break }
      offset += extent.length
    }
    for snapshot in image.snapshots {
      if let image = try? Qcow2Image(file, backing: RandomImage.backing(base), snapshot: snapshot.id) {
        _ = try? contents(image)
      }
    }
  }

  private func contents(_ image: Qcow2Image) throws -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: Int(min(image.size, UInt64(Self.readLimit))))
    try bytes.withUnsafeMutableBytes { try image.read([$0], at: 0) }
    return bytes
  }

  /// Writes to an image that is not right.
  private func abuse(_ file: MemoryFile, _ base: [UInt8], _ random: inout SeededRandom) {
    for _ in 0..<3 {
      guard let image = try? Qcow2Image(file, backing: RandomImage.backing(base)) else { return }
      for _ in 0..<10 {
        let size = Int(min(image.size, UInt64(Self.readLimit)))
        guard size > 0 else { return }
        let offset = random.below(size)
        let range = UInt64(offset)..<UInt64(offset + 1 + random.below(min(9000, size - offset)))
        let data = [UInt8](repeating: random.byte(), count: range.count)
        switch random.below(12) {
        case 0: try? image.discard(range)
        case 1: try? image.writeZeroes(range, mayUnmap: random.oneIn(2))
        case 2: try? image.flush()
        case 3: _ = try? image.createSnapshot(named: "new \(random.below(3))")
        case 4: try? image.deleteSnapshot("snapshot 0")
        case 5: try? image.applySnapshot("snapshot 0")
        case 6: try? image.resize(to: UInt64(random.below(Self.readLimit) & ~511))
        default: try? data.withUnsafeBytes { try image.write([$0], at: range.lowerBound) }
        }
      }
      try? image.close()
    }
  }

  /// An image that is right does what a disk does.
  private func behave(_ file: MemoryFile, _ base: [UInt8], _ kind: String, _ random: inout SeededRandom) throws {
    // What a check does not look at may still be wrong: names, extensions, compressed data.
    guard let image = try? Qcow2Image(file, backing: RandomImage.backing(base)), image.size > 0,
      image.size <= UInt64(Self.readLimit), var expected = try? contents(image)
    else { return }
    for step in 0..<30 {
      let offset = random.below(expected.count)
      let range = offset..<offset + 1 + random.below(min(9000, expected.count - offset))
      let places = UInt64(range.lowerBound)..<UInt64(range.upperBound)
      let data = [UInt8](repeating: random.byte(), count: range.count)
      do {
        switch random.below(8) {
        case 0:
          try image.writeZeroes(places, mayUnmap: random.oneIn(2))
          expected.replaceSubrange(range, with: repeatElement(0, count: range.count))
        case 1: try image.flush()
        case 2: try image.createSnapshot(named: "step \(step)")
        default:
          try data.withUnsafeBytes { try image.write([$0], at: places.lowerBound) }
          expected.replaceSubrange(range, with: data)
        }
      } catch let failure {
        // Small counts, odd snapshots and a small file are reasons; wrong tables are none.
        if let failure = failure as? ImageFailure, case .corrupt = failure.reason {
          throw GuestFailure("an image that is \(kind): \(failure)")
        }
        return
      }
      guard try contents(image) == expected else { throw GuestFailure("an image that is \(kind) loses data") }
    }
    try image.close()
    let after = try Qcow2Check(file).examine()
    // Two entries of a repaired disk may share a cluster: once one is written, the other has it for itself, and does not
    // say so. That costs a copy at most.
    let isSafe = kind == "repaired" && after.problems.allSatisfy { $0.contains("is marked wrongly") }
    guard after.isSound || isSafe else {
      throw GuestFailure("an image that is \(kind) is not after use: \(after.problems)")
    }
    guard let again = try? Qcow2Image(file, backing: RandomImage.backing(base)), try contents(again) == expected
    else { throw GuestFailure("an image that is \(kind) has lost data when it is opened again") }
  }
}
