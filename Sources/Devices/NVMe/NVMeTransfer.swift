import Machine
import Memory
import X86

/// The guest memory of a command's data: physical pages in order (PRPs, NVMe 1.4, 4.3).
struct NVMeTransfer {
  static let pageSize: UInt64 = 4096

  /// Why a list of pages is none.
  struct Failure: Error {
    let status: NVMeStatus
  }

  /// Pieces in order, neighbours joined.
  private(set) var pieces: [(address: UInt64, count: UInt64)] = []

  /// `count` bytes as `page1` and `page2` say: the first page, from an offset on; then the second, or, where there are more,
  /// lists of pages, each of whose last entry leads to the next list.
  init(page1: UInt64, page2: UInt64, count: UInt64, memory: GuestMemory) throws(Failure) {
    guard page1 & 3 == 0 else { throw Failure(status: .invalidPageOffset) }
    var remaining = count
    try add(page1, min(remaining, Self.pageSize - page1 % Self.pageSize), &remaining, memory)
    guard remaining > 0 else { return }
    guard remaining > Self.pageSize else {
      guard page2 % Self.pageSize == 0 else { throw Failure(status: .invalidPageOffset) }
      try add(page2, remaining, &remaining, memory)
      return
    }
    guard page2 & 7 == 0 else { throw Failure(status: .invalidPageOffset) }
    var list = page2
    while remaining > 0 {
      guard let entry = memory.load(GuestPhysicalAddress(list), as: UInt64.self) else {
        throw Failure(status: .dataTransferError)
      }
      let isLast = (list &+ 8) % Self.pageSize == 0
      if isLast, remaining > Self.pageSize {
        guard entry % Self.pageSize == 0 else { throw Failure(status: .invalidPageOffset) }
        list = entry
        continue
      }
      guard entry % Self.pageSize == 0 else { throw Failure(status: .invalidPageOffset) }
      try add(entry, min(remaining, Self.pageSize), &remaining, memory)
      list &+= 8
    }
  }

  private mutating func add(
    _ address: UInt64, _ count: UInt64, _ remaining: inout UInt64, _ memory: GuestMemory
  ) throws(Failure) {
    guard memory.contains(GuestPhysicalAddress(address), count: count) else {
      throw Failure(status: .dataTransferError)
    }
    remaining -= count
    if let last = pieces.last, last.address &+ last.count == address, address != GuestMemory.highBase {
      pieces[pieces.count - 1].count += count
    } else {
      pieces.append((address, count))
    }
  }

  /// As a disk wants it.
  var blockMemory: [BlockMemory] { pieces.map { .guest(GuestPhysicalAddress($0.address), count: $0.count) } }

  /// Puts bytes there, as many as there is room for.
  func write(_ bytes: [UInt8], memory: GuestMemory) {
    bytes.withUnsafeBytes { buffer in
      var position = 0
      for piece in pieces where position < buffer.count {
        let end = min(position + Int(piece.count), buffer.count)
        _ = memory.write(
          GuestPhysicalAddress(piece.address), from: UnsafeRawBufferPointer(rebasing: buffer[position..<end]))
        position = end
      }
    }
  }

  /// What is there.
  func read(memory: GuestMemory) -> [UInt8] {
    pieces.flatMap { piece in
      [UInt8](unsafeUninitializedCapacity: Int(piece.count)) { buffer, count in
        let raw = UnsafeMutableRawBufferPointer(start: buffer.baseAddress, count: Int(piece.count))
        count = memory.read(GuestPhysicalAddress(piece.address), into: raw) ? raw.count : 0
      }
    }
  }
}
