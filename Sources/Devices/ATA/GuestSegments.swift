import Machine
import Memory
import X86

/// Pieces of guest memory that stand for one range of bytes: what a controller's table of regions describes.
struct GuestSegments {
  private(set) var memory: [BlockMemory] = []
  private(set) var count: UInt64 = 0

  /// Adds a piece behind the others, of `limit` bytes in all at most.
  mutating func append(_ address: UInt64, count pieceCount: UInt64, limit: UInt64) {
    let piece = min(pieceCount, limit &- min(limit, count))
    guard piece > 0 else { return }
    memory.append(.guest(GuestPhysicalAddress(address), count: piece))
    count &+= piece
  }

  /// The first `limit` bytes.
  func prefix(_ limit: UInt64) -> GuestSegments {
    var result = GuestSegments()
    for case .guest(let address, let piece) in memory { result.append(address.rawValue, count: piece, limit: limit) }
    return result
  }

  /// Puts bytes there, as many as there is room for. False where some of it is no RAM.
  func write(_ bytes: [UInt8], to guest: GuestMemory) -> Bool {
    bytes.withUnsafeBytes { bytes in
      var position = 0
      for case .guest(let address, let piece) in memory {
        let part = bytes[position..<min(bytes.count, position + Int(piece))]
        guard guest.write(address, from: UnsafeRawBufferPointer(rebasing: part)) else { return false }
        position += part.count
      }
      return true
    }
  }

  /// All bytes, or nil where some of it is no memory.
  func read(from guest: GuestMemory) -> [UInt8]? {
    var result = [UInt8](repeating: 0, count: Int(count))
    let isThere = result.withUnsafeMutableBytes { bytes in
      var position = 0
      for case .guest(let address, let piece) in memory {
        let part = bytes[position..<position + Int(piece)]
        guard guest.read(address, into: UnsafeMutableRawBufferPointer(rebasing: part)) else { return false }
        position += part.count
      }
      return true
    }
    return isThere ? result : nil
  }
}
