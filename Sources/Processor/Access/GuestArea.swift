import CHost
import X86

/// A memory operand, of less than a page, that an instruction reads or writes in parts: through one host address where the
/// TLB has all of it on one page, through the slow path elsewhere.
struct GuestArea {
  private unowned(unsafe) let processor: SoftwareProcessor
  private let count: Int
  /// Linear address of the first part.
  let address: UInt64
  /// Bytes before the first part whose offset has wrapped, all of them mostly; the others begin at `wrapped`.
  private let split: Int
  private let wrapped: UInt64
  private var host: UnsafeMutableRawPointer?

  /// The memory operand of `op`, after segment checks of all its parts: #GP(0), or #SS(0) through SS.
  @inline(__always)
  init(
    _ processor: SoftwareProcessor, _ op: Op, _ parts: OperandParts, count: Int, for access: AccessKind
  ) throws(GuestFault) {
    self.processor = processor
    self.count = count
    let offset = processor.effectiveAddress(op)
    let rest = op.pointee.addressMask &- offset
    split = rest < UInt64(count - 1) ? min(count, parts.length(beginningIn: Int(rest) + 1, of: count)) : count
    let segment = Int(op.pointee.segmentRegister)
    address = try processor.linearAddress(segment: segment, offset: offset, count: split, for: access)
    guard split == count else {
      wrapped = try processor.linearAddress(
        segment: segment, offset: (offset &+ UInt64(split)) & op.pointee.addressMask, count: count - split, for: access)
      return
    }
    wrapped = address
    host = access == .write ? processor.writeHit(address, count) : processor.readHit(address, count)
  }

  /// #PF unless all of it can be read. What is not there faults when it is read, otherwise.
  func checkReadable() throws(GuestFault) {
    guard host == nil else { return }
    try processor.checkReadable(address, count: split)
    if split < count { try processor.checkReadable(wrapped, count: count - split) }
  }

  /// #PF unless all of it can be written; to be asked before anything is written.
  mutating func checkWritable() throws(GuestFault) {
    guard host == nil else { return }
    try processor.checkWritable(address, count: split)
    if split < count {
      try processor.checkWritable(wrapped, count: count - split)
    } else {
      host = processor.writeHit(address, count)
    }
  }

  /// Reads the first `count` bytes. Another processor may change them meanwhile: each field is to be loaded once.
  @inline(__always)
  func withBytes(_ count: Int, _ body: (UnsafeRawPointer) throws(GuestFault) -> Void) throws(GuestFault) {
    if let host { return try body(UnsafeRawPointer(host)) }
    let copy = UnsafeMutableRawPointer.allocate(byteCount: count, alignment: 64)
    defer { copy.deallocate() }
    try read(0, into: copy, count: count)
    try body(UnsafeRawPointer(copy))
  }

  @inline(__always)
  func read(_ offset: Int, into buffer: UnsafeMutableRawPointer, count: Int) throws(GuestFault) {
    if let host { return buffer.copyMemory(from: host + offset, byteCount: count) }
    let first = bytesBeforeSplit(offset, count)
    try processor.loadBytes(place(offset), into: buffer, count: first)
    if first < count { try processor.loadBytes(wrapped, into: buffer + first, count: count - first) }
  }

  @inline(__always)
  func write(_ offset: Int, from buffer: UnsafeRawPointer, count: Int) throws(GuestFault) {
    if let host { return (host + offset).copyMemory(from: buffer, byteCount: count) }
    let first = bytesBeforeSplit(offset, count)
    try processor.storeBytes(buffer, at: place(offset), count: first)
    if first < count { try processor.storeBytes(buffer + first, at: wrapped, count: count - first) }
  }

  @inline(__always)
  func load<T: FixedWidthInteger & BitwiseCopyable>(_ offset: Int, as type: T.Type = T.self) throws(GuestFault) -> T {
    if let host { return host.loadUnaligned(fromByteOffset: offset, as: T.self) }
    var value: T = 0
    try read(offset, into: &value, count: MemoryLayout<T>.size)
    return value
  }

  @inline(__always)
  func store<T: FixedWidthInteger & BitwiseCopyable>(_ value: T, _ offset: Int) throws(GuestFault) {
    if let host { return host.storeBytes(of: value, toByteOffset: offset, as: T.self) }
    var value = value
    try write(offset, from: &value, count: MemoryLayout<T>.size)
  }

  /// Linear address of the byte at `offset`.
  private func place(_ offset: Int) -> UInt64 {
    offset < split ? address &+ UInt64(offset) : wrapped &+ UInt64(offset - split)
  }

  /// How many of `count` bytes at `offset` come before what has wrapped; all of them if they have wrapped themselves.
  private func bytesBeforeSplit(_ offset: Int, _ count: Int) -> Int {
    offset < split ? min(split - offset, count) : count
  }
}
