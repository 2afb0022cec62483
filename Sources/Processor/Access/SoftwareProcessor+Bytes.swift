import CHost
import X86

/// Operands of more than 8 bytes.
extension SoftwareProcessor {
  /// Copies `count` bytes (at most a page) from a linear address with the current rights.
  func loadBytes(_ address: UInt64, into buffer: UnsafeMutableRawPointer, count: Int) throws(GuestFault) {
    if let host = readHit(address, count) { return buffer.copyMemory(from: host, byteCount: count) }
    var done = 0
    while done < count {
      let size = min(8, count - done)
      let value = try loadSlowly(address &+ UInt64(done), size: size, rights: .current)
      withUnsafeBytes(of: value) { (buffer + done).copyMemory(from: $0.baseAddress!, byteCount: size) }
      done += size
    }
  }

  /// Copies `count` bytes (at most a page) to a linear address with the current rights. `checkWritable` has been asked: a
  /// fault would leave a part of them written.
  func storeBytes(_ buffer: UnsafeRawPointer, at address: UInt64, count: Int) throws(GuestFault) {
    if let host = writeHit(address, count) { return host.copyMemory(from: buffer, byteCount: count) }
    var done = 0
    while done < count {
      let size = min(8, count - done)
      var value: UInt64 = 0
      withUnsafeMutableBytes(of: &value) { $0.baseAddress!.copyMemory(from: buffer + done, byteCount: size) }
      try storeSlowly(value, at: address &+ UInt64(done), size: size, rights: .current)
      done += size
    }
  }
}
