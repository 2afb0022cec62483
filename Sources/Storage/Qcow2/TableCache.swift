/// The L2 tables or refcount blocks that are in memory, by their place in the file.
///
/// What was changed stays until it has been written; of the rest, what was not used for long goes when there are too
/// many. Guarded by the image's metadata lock.
struct TableCache {
  private var tables: [UInt64: MetadataTable] = [:]
  private var time: UInt64 = 0
  private let limit: Int
  /// Those with changes.
  private(set) var dirty: [MetadataTable] = []

  /// Keeps about `limit` tables.
  init(limit: Int) { self.limit = limit }

  /// Whether there are so many changes that they should be written soon.
  var isCrowded: Bool { dirty.count > limit / 2 }

  mutating func find(_ offset: UInt64) -> MetadataTable? {
    guard let table = tables[offset] else { return nil }
    time &+= 1
    table.lastUse = time
    return table
  }

  mutating func insert(_ table: MetadataTable) {
    if tables.count >= limit { evict() }
    time &+= 1
    table.lastUse = time
    tables[table.offset] = table
    if table.isDirty { dirty.append(table) }
  }

  /// Changes a table that is in the cache.
  mutating func change(_ table: MetadataTable, _ range: Range<Int>) {
    if !table.isDirty { dirty.append(table) }
    table.touch(range)
  }

  mutating func set(_ entry: Qcow2Entry, _ table: MetadataTable, _ index: Int) {
    if !table.isDirty { dirty.append(table) }
    table[entry: index] = entry
  }

  /// The tables with changes, which count as written from now on.
  mutating func takeDirty() -> [MetadataTable] {
    defer { dirty = [] }
    return dirty
  }

  mutating func remove(_ offset: UInt64) { tables[offset] = nil }

  /// Drops a quarter, the longest unused ones, so that this is rare.
  private mutating func evict() {
    let candidates = tables.values.filter { !$0.isDirty && $0.pins == 0 }.sorted { $0.lastUse < $1.lastUse }
    for table in candidates.prefix(max(1, limit / 4)) { tables[table.offset] = nil }
  }
}
