import X86

/// A disk, as the controller in front of it sees it.
///
/// Requests complete later and in any order: a slow disk never stops a virtual processor. All calls come under the machine
/// lock, completions too.
public protocol BlockBackend: AnyObject {
  /// Bytes, a multiple of 512.
  var size: UInt64 { get }
  var isReadOnly: Bool { get }
  /// Begins a request and returns at once. `completion` is called exactly once, never from inside this call. Whatever is
  /// wrong with the request (a range beyond the disk, memory that is not RAM, a write to a disk that is read-only) comes
  /// back as its result: a controller passes on what the guest gave it.
  func submit(_ request: BlockRequest, completion: @escaping (BlockResult) -> Void)
}

/// One request to a disk.
public struct BlockRequest {
  public enum Operation: Equatable, Sendable {
    case read
    case write
    /// All writes that completed before are on stable storage when this completes.
    case flush
    /// The contents of the range do not matter any more.
    case discard
    /// The range reads as zeros from now on; its storage may be given back.
    case writeZeroes(mayUnmap: Bool)
  }

  public var operation: Operation
  /// The range on the disk, in bytes; multiples of 512. Empty for `flush`.
  public var offset: UInt64
  public var count: UInt64
  /// For `read` and `write`: where the data goes, or comes from, in order; `count` bytes in all.
  public var memory: [BlockMemory]

  public init(_ operation: Operation, offset: UInt64 = 0, count: UInt64 = 0, memory: [BlockMemory] = []) {
    self.operation = operation
    self.offset = offset
    self.count = count
    self.memory = memory
  }
}

/// A piece of memory for a disk's data.
public enum BlockMemory {
  /// Guest memory, as a controller's DMA reaches it.
  case guest(GuestPhysicalAddress, count: UInt64)
  /// A controller's own buffer, which it keeps alive and leaves alone until the request has completed.
  case buffer(UnsafeMutableRawBufferPointer)
}

/// How a request to a disk ended.
public enum BlockResult: Equatable, Sendable {
  case success
  /// The range is not wholly on the disk, or not made of whole sectors.
  case outOfRange
  /// The guest named memory that is not RAM, or not as much as the range has.
  case badMemory
  case readOnly
  /// The host has no room left for what was written.
  case noSpace
  /// The image or the host's disk could not do it; the log says why.
  case failed
}
