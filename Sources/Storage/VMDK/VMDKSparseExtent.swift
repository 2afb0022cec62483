import Host

/// A sparse extent of a VMDK image: grains, and two levels of tables that say where they are. Numbers in the header count
/// sectors.
final class VMDKSparseExtent: @unchecked Sendable {
  static let signature = Array("KDMV".utf8)
  private static let hasZeroGrains: UInt32 = 1 << 2
  private static let isCompressed: UInt32 = 1 << 16
  /// In the header's place for the grain directory: it is in the footer's.
  private static let directoryAtEnd = UInt64.max

  /// Where a grain is.
  private enum Grain {
    case zero
    /// In bytes.
    case at(UInt64)
  }

  private let file: any ImageFile
  /// In bytes.
  let size: UInt64
  private let grainSize: UInt64
  private let flags: UInt32
  private let descriptorRange: Range<UInt64>
  private let tableLength: Int
  /// Offsets of the grain tables, in sectors; 0: no grains.
  private let directory: [UInt32]
  private let expanded: ExpandedClusters

  /// Guards the grain tables that are known.
  private let monitor = Monitor()
  private var tables: [Int: [UInt32]] = [:]

  init(_ file: any ImageFile) throws(ImageFailure) {
    var header = try file.bytes(at: 0, count: 512, what: "header")
    func corrupt(_ problem: String) -> ImageFailure { ImageFailure(file.name, .corrupt(problem)) }
    if header.littleEndian(at: 56) == Self.directoryAtEnd {
      // The footer is a newer header: the last sector but one.
      let length = try file.size()
      guard length >= 1536 else { throw ImageFailure(file.name, .truncated(what: "footer")) }
      header = try file.bytes(at: length - 1024, count: 512, what: "footer")
    }
    guard Array(header[..<4]) == Self.signature else { throw corrupt("it has no VMDK header where one should be") }
    let version: UInt32 = header.littleEndian(at: 4)
    guard 1...3 ~= version else {
      throw ImageFailure(file.name, .unsupported("its sparse extent has version \(version); 1 to 3 are supported"))
    }
    flags = header.littleEndian(at: 8)
    let capacity: UInt64 = header.littleEndian(at: 12)
    let grain: UInt64 = header.littleEndian(at: 20)
    guard grain.nonzeroBitCount == 1, grain <= 1 << 16 else { throw corrupt("its grains have \(grain) sectors") }
    guard capacity < 1 << 53 else { throw corrupt("it claims to be a disk of \(capacity) sectors") }
    tableLength = Int(header.littleEndian(at: 44, as: UInt32.self))
    guard 1...(1 << 16) ~= tableLength else { throw corrupt("its grain tables have \(tableLength) entries") }
    if flags & Self.isCompressed != 0, header.littleEndian(at: 77, as: UInt16.self) != 1 {
      throw ImageFailure(file.name, .unsupported("it is compressed by an unknown method"))
    }
    size = capacity * 512
    grainSize = grain * 512
    let descriptorStart: UInt64 = header.littleEndian(at: 28)
    let descriptorLength: UInt64 = header.littleEndian(at: 36)
    let fits = descriptorStart < 1 << 53 && descriptorLength <= UInt64(VMDKDescriptor.limit / 512)
    descriptorRange = fits ? descriptorStart * 512..<(descriptorStart + descriptorLength) * 512 : 0..<0
    let perTable = grain * UInt64(tableLength)
    let tableCount = capacity / perTable + (capacity % perTable == 0 ? 0 : 1)
    guard tableCount <= 1 << 24 else { throw corrupt("its grain directory would have \(tableCount) entries") }
    let directoryOffset: UInt64 = header.littleEndian(at: 56)
    guard directoryOffset < 1 << 53 else { throw corrupt("its grain directory is nowhere") }
    let bytes = try file.bytes(at: directoryOffset * 512, count: Int(tableCount) * 4, what: "grain directory")
    directory = (0..<Int(tableCount)).map { bytes.littleEndian(at: $0 * 4) }
    expanded = ExpandedClusters(clusterSize: Int(grainSize))
    self.file = file
  }

  /// The descriptor within the extent; nil: there is none.
  func descriptor() throws(ImageFailure) -> [UInt8]? {
    if descriptorRange.isEmpty { return nil }
    return try file.bytes(at: descriptorRange.lowerBound, count: descriptorRange.count, what: "descriptor")
  }

  private func grain(_ index: UInt64) throws(ImageFailure) -> Grain {
    let number = Int(index / UInt64(tableLength))
    guard number < directory.count, directory[number] != 0 else { return .zero }
    monitor.lock()
    defer { monitor.unlock() }
    if tables[number] == nil {
      let bytes = try file.bytes(at: UInt64(directory[number]) * 512, count: tableLength * 4, what: "grain tables")
      tables[number] = (0..<tableLength).map { bytes.littleEndian(at: $0 * 4) }
    }
    let entry = tables[number]?[Int(index % UInt64(tableLength))] ?? 0
    return entry == 0 || entry == 1 && flags & Self.hasZeroGrains != 0 ? .zero : .at(UInt64(entry) * 512)
  }

  /// `offset` and the buffers' end are within `size`.
  func read(_ buffers: [UnsafeMutableRawBufferPointer], at offset: UInt64) throws(ImageFailure) {
    let count = buffers.byteCount
    var done = 0
    while done < count {
      let position = offset + UInt64(done)
      let inGrain = position % grainSize
      let length = Int(min(grainSize - inGrain, UInt64(count - done)))
      let part = buffers.part(done..<done + length)
      switch try grain(position / grainSize) {
      case .zero: part.clear()
      case .at(let place) where flags & Self.isCompressed == 0:
        guard try file.read(part, at: place + inGrain) == length else {
          throw ImageFailure(file.name, .truncated(what: "grains"))
        }
      case .at(let place):
        let bytes = try expanded.bytes(of: place) { target throws(ImageFailure) in try expand(place, into: target) }
        bytes.withUnsafeBytes { part.copy(from: $0.part(Int(inGrain)..<Int(inGrain) + length)) }
      }
      done += length
    }
  }

  /// A compressed grain: its number, its length, and zlib data.
  private func expand(_ place: UInt64, into target: UnsafeMutableRawBufferPointer) throws(ImageFailure) {
    let marker = try file.bytes(at: place, count: 12, what: "grains")
    let length = Int(marker.littleEndian(at: 8, as: UInt32.self))
    // Incompressible data become a little longer.
    guard length <= 2 * target.count + 512 else {
      throw ImageFailure(file.name, .corrupt("a compressed grain claims to have \(length) bytes"))
    }
    let source = try file.bytes(at: place + 12, count: length, what: "grains")
    let isWhole = source.withUnsafeBytes { Compression.inflate($0, target, windowBits: 15) }
    guard isWhole else {
      throw ImageFailure(file.name, .corrupt("the compressed grain at offset \(place) cannot be expanded"))
    }
  }

  func extent(at offset: UInt64) throws(ImageFailure) -> ImageExtent {
    let first = try grain(offset / grainSize)
    var length = grainSize - offset % grainSize
    guard case .zero = first else { return ImageExtent(length: length, isZero: false) }
    while offset + length < size {
      let next = (offset + length) / grainSize
      let (number, index) = (Int(next / UInt64(tableLength)), next % UInt64(tableLength))
      // Without a table, all of its grains are zero.
      if index == 0, directory[number] == 0 {
        length += grainSize * UInt64(tableLength)
      } else if case .zero = try grain(next) {
        length += grainSize
      } else {
        break
      }
    }
    return ImageExtent(length: length, isZero: true)
  }
}
