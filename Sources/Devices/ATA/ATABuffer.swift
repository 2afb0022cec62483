/// Bytes on their way through a data register. A request to a disk holds a reference for as long as it uses them.
final class ATABuffer {
  let bytes: UnsafeMutableRawBufferPointer

  /// Zeros.
  init(count: Int) {
    bytes = .allocate(byteCount: count, alignment: 4096)
    bytes.initializeMemory(as: UInt8.self, repeating: 0)
  }

  convenience init(_ contents: [UInt8]) {
    self.init(count: contents.count)
    bytes.copyBytes(from: contents)
  }

  deinit { bytes.deallocate() }

  var contents: [UInt8] { [UInt8](bytes) }
}
