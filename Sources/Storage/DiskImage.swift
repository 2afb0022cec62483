// Storage: disks as files of the host.
//
// A machine's devices see a `DiskImage`: a row of bytes that can be read, written, zeroed and made durable. Which format
// holds them (`ImageFormat`) is nobody's business but that format's. A format reaches the host through `ImageFile` alone,
// so that tests can stand between and, for one, cut the power. `ImageReference` opens what a user has named.
//
// Every call may block for as long as the host's disk likes, so nobody calls from a virtual CPU's thread or the event
// loop: devices hand requests to worker threads. Nothing here knows of those, or of guest memory: whoever calls brings
// buffers that stay where they are until the call returns.
//
// Files are other people's: whatever is read from one is checked before it is used, and no image, however broken, is
// written to at a place that does not belong to it.

/// A disk's contents as the machine's devices see them.
///
/// Thread-safe: called on several worker threads at once. Two calls that overlap in time and place are ordered in any
/// way, as on a real disk; one that starts after another has returned sees what that has done.
///
/// A call that throws may have done a part of its work. What it throws for is in `ImageFailure`; `isOutOfSpace` tells
/// the one that a person can cure while the machine waits.
public protocol DiskImage: AnyObject, Sendable {
  /// The file's path as it was given, for messages.
  var name: String { get }
  /// In bytes, a multiple of 512. Does not change while a machine has the disk.
  var size: UInt64 { get }
  /// Writes are refused.
  var isReadOnly: Bool { get }

  /// Fills the buffers, one after the other, from `offset` on. Any offset and length in bytes is fine; the whole range
  /// must lie within the disk.
  func read(_ buffers: [UnsafeMutableRawBufferPointer], at offset: UInt64) throws(ImageFailure)

  /// Writes the buffers, one after the other, from `offset` on. Durable after the next `flush`.
  func write(_ buffers: [UnsafeRawBufferPointer], at offset: UInt64) throws(ImageFailure)

  /// Everything whose call has returned before is on stable storage when it returns. After one that failed none
  /// succeeds any more: the host may have dropped what it could not write.
  func flush() throws(ImageFailure)

  /// Makes a range read as zeroes. Without `mayUnmap`, space that the range has on the host is kept where the format
  /// can.
  func writeZeroes(_ range: Range<UInt64>, mayUnmap: Bool) throws(ImageFailure)

  /// The range's contents are not needed any more: space may go back to the host. What it reads afterwards is, byte for
  /// byte, what it was or zero.
  func discard(_ range: Range<UInt64>) throws(ImageFailure)

  /// What is known, without reading it, about the contents from `offset` on, up to the disk's end at most. `offset` must
  /// lie within the disk.
  func extent(at offset: UInt64) throws(ImageFailure) -> ImageExtent

  /// Flushes, and leaves the file as one that was closed in good order. No other call may follow or be under way; a
  /// second `close` does nothing. An image that is dropped without it is as after a power cut.
  func close() throws(ImageFailure)
}

extension DiskImage {
  /// Refuses what is not within the disk.
  func requireRange(at offset: UInt64, count: UInt64) throws(ImageFailure) {
    guard offset <= size, count <= size - offset else {
      throw ImageFailure(name, .outOfBounds(offset: offset, count: count, size: size))
    }
  }

  /// Refuses a change of a disk that is read-only, or not within the disk.
  func requireWritable(at offset: UInt64, count: UInt64) throws(ImageFailure) {
    guard !isReadOnly else { throw ImageFailure(name, .readOnly) }
    try requireRange(at: offset, count: count)
  }
}
