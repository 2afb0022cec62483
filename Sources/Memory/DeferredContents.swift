import Glibc

/// Contents of a memory that stay where they are (in a snapshot's file) until somebody wants them.
///
/// They come in chunks. Whoever looks for a host address asks first (`bring`), so no guest access needs a look: an access
/// that finds its page in a TLB has been through here before. Chunks are brought under a lock, and marked after they are
/// there: who sees the mark sees the contents.
public final class DeferredContents: @unchecked Sendable {
  /// Bytes of a chunk, as a power of two.
  public static let chunkShift: UInt64 = 18
  public static let chunkSize = 1 << Int(chunkShift)

  /// One byte for each chunk: not zero while its contents are not there.
  @usableFromInline let absent: UnsafeMutablePointer<UInt8>
  private let count: Int
  private let fill: (Int) -> Void
  private let mutex: UnsafeMutablePointer<pthread_mutex_t>

  /// `isAbsent` says of each chunk whether it has contents that are to be brought. `fill` brings one: it is called once for
  /// each, by one thread at a time, with the chunk's number, and leaves zeros where it fails.
  public init(isAbsent: [Bool], fill: @escaping (Int) -> Void) {
    count = isAbsent.count
    absent = .allocate(capacity: max(1, count))
    for (index, flag) in isAbsent.enumerated() { absent[index] = flag ? 1 : 0 }
    self.fill = fill
    mutex = .allocate(capacity: 1)
    mutex.initialize(to: pthread_mutex_t())
    pthread_mutex_init(mutex, nil)
  }

  deinit {
    pthread_mutex_destroy(mutex)
    mutex.deallocate()
    absent.deallocate()
  }

  /// Sees to the chunks of `count` bytes at `offset` of the mapping. What lies behind the last chunk is there always.
  @inlinable func bring(_ offset: UInt64, count: UInt64) {
    guard count > 0 else { return }
    let first = Int(offset >> Self.chunkShift)
    let last = Int((offset &+ count &- 1) >> Self.chunkShift)
    if first == last {
      bringChunk(first)
    } else {
      for chunk in first...last { bringChunk(chunk) }
    }
  }

  @usableFromInline func bringChunk(_ chunk: Int) {
    guard chunk < count, absent[chunk] != 0 else { return }
    pthread_mutex_lock(mutex)
    if absent[chunk] != 0 {
      fill(chunk)
      absent[chunk] = 0
    }
    pthread_mutex_unlock(mutex)
  }
}
