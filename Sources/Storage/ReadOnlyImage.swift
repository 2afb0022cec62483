/// A disk in a format that is only read. Nothing of it changes after it has been opened.
protocol ReadOnlyImage: DiskImage {}

extension ReadOnlyImage {
  public var isReadOnly: Bool { true }

  public func write(_ buffers: [UnsafeRawBufferPointer], at offset: UInt64) throws(ImageFailure) {
    try requireWritable(at: offset, count: UInt64(buffers.byteCount))
  }

  public func writeZeroes(_ range: Range<UInt64>, mayUnmap: Bool) throws(ImageFailure) {
    try requireWritable(at: range.lowerBound, count: range.upperBound - range.lowerBound)
  }

  public func discard(_ range: Range<UInt64>) throws(ImageFailure) {
    try requireWritable(at: range.lowerBound, count: range.upperBound - range.lowerBound)
  }

  public func flush() throws(ImageFailure) {}
}
