import CHost
import X86

/// A stretch of guest memory, up to a page, that an instruction reads or writes in parts: through one host address where
/// the TLB has all of it on one page, through the slow path elsewhere.
struct GuestArea {
  private let processor: SoftwareProcessor
  private let address: UInt64
  private let host: UnsafeMutableRawPointer?

  /// An area that is read. What is not there faults when it is read.
  init(reading address: UInt64, count: Int, _ processor: SoftwareProcessor) {
    self.processor = processor
    self.address = address
    host = processor.readHit(address, count)
  }

  /// An area that is written; faults if any byte of it cannot be.
  init(writing address: UInt64, count: Int, _ processor: SoftwareProcessor) throws(GuestFault) {
    self.processor = processor
    self.address = address
    if let hit = processor.writeHit(address, count) {
      host = hit
      return
    }
    try processor.checkWritable(address, count: count)
    host = processor.writeHit(address, count)
  }

  /// Reads the first `count` bytes. Another processor may change them meanwhile: each field is to be loaded once.
  @inline(__always)
  func withBytes(_ count: Int, _ body: (UnsafeRawPointer) throws(GuestFault) -> Void) throws(GuestFault) {
    if let host { return try body(UnsafeRawPointer(host)) }
    let copy = UnsafeMutableRawPointer.allocate(byteCount: count, alignment: 64)
    defer { copy.deallocate() }
    try processor.loadBytes(address, into: copy, count: count)
    try body(UnsafeRawPointer(copy))
  }

  @inline(__always)
  func write(_ offset: Int, from buffer: UnsafeRawPointer, count: Int) throws(GuestFault) {
    if let host { return (host + offset).copyMemory(from: buffer, byteCount: count) }
    try processor.storeBytes(buffer, at: address &+ UInt64(offset), count: count)
  }

  @inline(__always)
  func load<T: FixedWidthInteger & BitwiseCopyable>(_ offset: Int, as type: T.Type = T.self) throws(GuestFault) -> T {
    if let host { return host.loadUnaligned(fromByteOffset: offset, as: T.self) }
    return try processor.load(address &+ UInt64(offset), as: T.self)
  }

  @inline(__always)
  func store<T: FixedWidthInteger & BitwiseCopyable>(_ value: T, _ offset: Int) throws(GuestFault) {
    if let host { return host.storeBytes(of: value, toByteOffset: offset, as: T.self) }
    try processor.store(value, at: address &+ UInt64(offset))
  }
}
