import Glibc
import Host
import Storage

/// A file in memory beneath a disk image, which remembers all that was done with it.
public final class MemoryFile: ImageFile, @unchecked Sendable {
  /// Something that was done with the file.
  public enum Event: Sendable {
    case write(offset: Int, bytes: [UInt8])
    /// Reads as zeroes, by whatever call.
    case zero(Range<Int>)
    case resize(Int)
    case flush
  }

  public let name: String
  public let isReadOnly: Bool
  public var isZeroBeyondEnd: Bool { true }

  /// Guards what follows.
  private let monitor = Monitor()
  private var contents: [UInt8]
  private var log: [Event] = []
  private var sizeLimit: Int
  private var writesLeft = Int.max

  /// Longer than `limit` bytes it does not become: then its disk is full.
  public init(
    _ bytes: [UInt8] = [], name: String = "memory", isReadOnly: Bool = false, limit: Int = 64 << 20
  ) {
    contents = bytes
    self.name = name
    self.isReadOnly = isReadOnly
    sizeLimit = limit
  }

  public var bytes: [UInt8] { monitor.withLock { contents } }
  public var events: [Event] { monitor.withLock { log } }

  /// The disk is full from now on for what makes the file longer than it is.
  public func fill() { monitor.withLock { sizeLimit = contents.count } }

  /// The disk has room again.
  public func makeRoom(limit: Int = 64 << 20) { monitor.withLock { sizeLimit = limit } }

  /// Everything but reading fails after so many more changes: the disk has gone.
  public func fail(afterChanges count: Int) { monitor.withLock { writesLeft = count } }

  public func size() throws(ImageFailure) -> UInt64 { UInt64(monitor.withLock { contents.count }) }

  @discardableResult
  public func read(_ buffers: [UnsafeMutableRawBufferPointer], at offset: UInt64) throws(ImageFailure) -> Int {
    monitor.withLock {
      var position = Int(clamping: offset)
      var total = 0
      for buffer in buffers {
        let count = max(0, min(buffer.count, contents.count - min(position, contents.count)))
        contents.withUnsafeBytes { contents in
          if count > 0 {
            buffer.copyMemory(from: UnsafeRawBufferPointer(rebasing: contents[position..<position + count]))
          }
        }
        for index in count..<buffer.count { buffer[index] = 0 }
        position = position &+ buffer.count
        total += count
      }
      return total
    }
  }

  public func write(_ buffers: [UnsafeRawBufferPointer], at offset: UInt64) throws(ImageFailure) {
    let bytes = buffers.flatMap { Array($0) }
    try change {
      guard offset <= UInt64(sizeLimit), bytes.count <= sizeLimit - Int(offset) else { return ENOSPC }
      let start = Int(offset)
      if start + bytes.count > contents.count {
        contents += [UInt8](repeating: 0, count: start + bytes.count - contents.count)
      }
      contents.replaceSubrange(start..<start + bytes.count, with: bytes)
      log.append(.write(offset: start, bytes: bytes))
      return nil
    }
  }

  public func flush() throws(ImageFailure) {
    try change {
      log.append(.flush)
      return nil
    }
  }

  public func resize(to size: UInt64) throws(ImageFailure) {
    try change {
      guard size <= UInt64(sizeLimit) else { return EFBIG }
      let size = Int(size)
      if size < contents.count {
        contents.removeLast(contents.count - size)
      } else {
        contents += [UInt8](repeating: 0, count: size - contents.count)
      }
      log.append(.resize(size))
      return nil
    }
  }

  public func writeZeroes(_ range: Range<UInt64>, mayUnmap: Bool) throws(ImageFailure) { try discard(range) }

  public func discard(_ range: Range<UInt64>) throws(ImageFailure) {
    try change {
      let range = range.clamped(to: 0..<UInt64(contents.count))
      guard !range.isEmpty else { return nil }
      let inFile = Int(range.lowerBound)..<Int(range.upperBound)
      contents.replaceSubrange(inFile, with: repeatElement(0, count: inFile.count))
      log.append(.zero(inFile))
      return nil
    }
  }

  public func reserve(_ range: Range<UInt64>) throws(ImageFailure) {
    if range.upperBound > (try size()) { try resize(to: range.upperBound) }
  }

  public func extent(at offset: UInt64) throws(ImageFailure) -> ImageExtent {
    let size = try size()
    return offset < size
      ? ImageExtent(length: size - offset, isZero: false) : ImageExtent(length: .max - offset, isZero: true)
  }

  public func unlock() {}

  /// Runs `body`, which returns an error's number or nil.
  private func change(_ body: () -> Int32?) throws(ImageFailure) {
    monitor.lock()
    defer { monitor.unlock() }
    guard !isReadOnly else { throw ImageFailure(name, .readOnly) }
    guard writesLeft > 0 else { throw ImageFailure(name, .host(action: "write to", code: EIO)) }
    writesLeft -= 1
    if let code = body() { throw ImageFailure(name, .host(action: "write to", code: code)) }
  }
}
