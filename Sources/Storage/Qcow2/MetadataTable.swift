/// A cluster of an image's metadata in memory, as it stands in the file: an L2 table or a refcount block.
///
/// Guarded by the image's metadata lock.
final class MetadataTable {
  /// In the file.
  let offset: UInt64
  let bytes: UnsafeMutableRawBufferPointer
  /// The bytes that the file does not have yet; empty for none.
  private(set) var dirty = 0..<0
  /// Nothing in the file leads here: its contents may be written at any time, and must be before something does.
  var isNew: Bool
  /// Who needs it to stay in memory: its contents are being written, or it is about to be changed.
  var pins = 0
  /// When it was last asked for, in `TableCache`'s time.
  var lastUse: UInt64 = 0

  /// All zeroes.
  init(offset: UInt64, size: Int, isNew: Bool) {
    self.offset = offset
    self.isNew = isNew
    bytes = .allocate(byteCount: size, alignment: 16)
    bytes.clear()
    if isNew { dirty = 0..<size }
  }

  deinit { bytes.deallocate() }

  var isDirty: Bool { !dirty.isEmpty }

  /// Notes that `range` has changed.
  func touch(_ range: Range<Int>) {
    dirty = dirty.spanning(range)
  }

  /// Whole sectors with all changes, which count as written from now on.
  func takeChanges() -> PendingWrite {
    let range = dirty.lowerBound & ~511..<min((dirty.upperBound + 511) & ~511, bytes.count)
    dirty = 0..<0
    return PendingWrite(offset: offset + UInt64(range.lowerBound), bytes: Array(bytes[range]), table: self)
  }

  subscript(entry index: Int) -> Qcow2Entry {
    get { Qcow2Entry(raw: bytes.bigEndian(at: index * 8)) }
    set {
      bytes.storeBigEndian(newValue.raw, at: index * 8)
      touch(index * 8..<index * 8 + 8)
    }
  }
}

/// Bytes of metadata that are to be written.
struct PendingWrite {
  var offset: UInt64
  var bytes: [UInt8]
  /// Where they come from; nil: from a table that is always in memory.
  var table: MetadataTable?
}

extension Range<Int> {
  /// The smallest range that has both in it.
  func spanning(_ other: Self) -> Self {
    if isEmpty { return other }
    if other.isEmpty { return self }
    return Swift.min(lowerBound, other.lowerBound)..<Swift.max(upperBound, other.upperBound)
  }
}
