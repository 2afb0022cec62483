import Memory
import X86

/// A chain of descriptors on its way through a device: first what the driver has written for the device, then room for
/// what the device has to say. Every piece is memory that a device can reach; the queue has seen to that.
public struct VirtioChain {
  struct Segment {
    var address: GuestPhysicalAddress
    var count: UInt64
  }

  /// Its queue, and its name there.
  let queue: Int
  let head: UInt16
  /// The device's life, from one reset to the next, that the chain belongs to.
  let era: UInt64
  private let segments: [Segment]
  private let readableCount: Int
  /// Bytes of each part: 4 GiB at most.
  let readableBytes: UInt64
  let writableBytes: UInt64

  /// The first `readableCount` of `segments` are for the device to read.
  init(queue: Int, head: UInt16, era: UInt64, segments: [Segment], readableCount: Int) {
    self.queue = queue
    self.head = head
    self.era = era
    self.segments = segments
    self.readableCount = readableCount
    readableBytes = segments[..<readableCount].reduce(0) { $0 + $1.count }
    writableBytes = segments[readableCount...].reduce(0) { $0 + $1.count }
  }

  private var readable: ArraySlice<Segment> { segments[..<readableCount] }
  private var writable: ArraySlice<Segment> { segments[readableCount...] }

  /// The pieces of `count` bytes from `offset` on of what the driver has written; fewer where it ends before.
  func readable(from offset: UInt64, count: UInt64) -> [Segment] { Self.cut(readable, offset, count) }

  /// The pieces of `count` bytes of room from `offset` on.
  func writable(from offset: UInt64, count: UInt64) -> [Segment] { Self.cut(writable, offset, count) }

  /// Bytes that the driver has written; fewer where they end before.
  func read(from offset: UInt64, count: Int, in memory: GuestMemory) -> [UInt8] {
    let pieces = readable(from: offset, count: UInt64(count))
    let total = pieces.reduce(0) { $0 + Int($1.count) }
    return [UInt8](unsafeUninitializedCapacity: total) { buffer, initialized in
      for piece in pieces {
        let end = initialized + Int(piece.count)
        guard
          memory.read(
            piece.address,
            into: UnsafeMutableRawBufferPointer(rebasing: UnsafeMutableRawBufferPointer(buffer)[initialized..<end]))
        else { return }
        initialized = end
      }
    }
  }

  /// Puts bytes into the room from `offset` on. Returns how many there was room for.
  @discardableResult
  func write(_ bytes: [UInt8], at offset: UInt64 = 0, in memory: GuestMemory) -> UInt64 {
    bytes.withUnsafeBytes { buffer in
      var position = 0
      for piece in writable(from: offset, count: UInt64(buffer.count)) {
        let end = position + Int(piece.count)
        guard memory.write(piece.address, from: UnsafeRawBufferPointer(rebasing: buffer[position..<end])) else { break }
        position = end
      }
      return UInt64(position)
    }
  }

  private static func cut(_ segments: ArraySlice<Segment>, _ offset: UInt64, _ count: UInt64) -> [Segment] {
    var result: [Segment] = []
    result.reserveCapacity(segments.count)
    var (skipped, wanted) = (offset, count)
    for segment in segments where wanted > 0 {
      guard segment.count > skipped else {
        skipped -= segment.count
        continue
      }
      let part = min(segment.count - skipped, wanted)
      result.append(Segment(address: segment.address &+ skipped, count: part))
      wanted -= part
      skipped = 0
    }
    return result
  }
}
