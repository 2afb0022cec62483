import CHost
import Glibc

/// Holes, zeroes and the size. What the host cannot do is done by hand or left, as each call says; that it cannot is
/// remembered.
extension HostFile {
  public func resize(to size: UInt64) throws(ImageFailure) {
    guard !isBlockDevice else {
      guard try self.size() >= size else {
        throw ImageFailure(name, .invalid("a block device cannot be made larger; \(size) bytes are needed"))
      }
      return
    }
    guard size <= Self.offsetLimit else { throw ImageFailure(name, .host(action: "resize", code: EFBIG)) }
    guard ftruncate(descriptor, off_t(size)) == 0 else { throw ImageFailure(name, failedTo: "resize") }
  }

  /// What the file takes of the host's disk, in bytes.
  func allocatedSize() throws(ImageFailure) -> UInt64 {
    var status = stat()
    guard fstat(descriptor, &status) == 0 else { throw ImageFailure(name, failedTo: "find the size of") }
    return isBlockDevice ? try size() : UInt64(clamping: status.st_blocks) &* 512
  }

  public func discard(_ range: Range<UInt64>) throws(ImageFailure) { _ = try punch(range) }

  public func writeZeroes(_ range: Range<UInt64>, mayUnmap: Bool) throws(ImageFailure) {
    guard !range.isEmpty else { return }
    if mayUnmap, try punch(range) { return }
    if !cannotZero.load(ordering: .relaxed), range.upperBound <= Self.offsetLimit {
      if hostZeroRange(descriptor, off_t(range.lowerBound), off_t(range.count)) == 0 { return }
      switch errno {
      case EOPNOTSUPP, ENOSYS: cannotZero.store(true, ordering: .relaxed)
      // A block device wants whole blocks.
      case EINVAL: break
      default: throw ImageFailure(name, failedTo: "write zeroes to")
      }
    }
    try writeZeroBytes(range)
  }

  /// Whether the range is a hole now. What is beyond the file's end is one already.
  private func punch(_ range: Range<UInt64>) throws(ImageFailure) -> Bool {
    guard !range.isEmpty else { return true }
    guard !cannotPunch.load(ordering: .relaxed), range.upperBound <= Self.offsetLimit else { return false }
    if hostPunchHole(descriptor, off_t(range.lowerBound), off_t(range.count)) == 0 { return true }
    switch errno {
    case EOPNOTSUPP, ENOSYS, EPERM: cannotPunch.store(true, ordering: .relaxed)
    case EINVAL: break
    default: throw ImageFailure(name, failedTo: "make a hole in")
    }
    return false
  }

  public func reserve(_ range: Range<UInt64>) throws(ImageFailure) {
    guard !range.isEmpty, !isBlockDevice else { return }
    guard range.upperBound <= Self.offsetLimit else { throw ImageFailure(name, .host(action: "reserve", code: EFBIG)) }
    if hostReserveRange(descriptor, off_t(range.lowerBound), off_t(range.count)) == 0 { return }
    guard errno == EOPNOTSUPP else { throw ImageFailure(name, failedTo: "reserve space for") }
    try writeZeroBytes(range)
  }

  public func extent(at offset: UInt64) throws(ImageFailure) -> ImageExtent {
    let beyond = ImageExtent(length: .max - offset, isZero: true)
    guard offset <= Self.offsetLimit else { return beyond }
    let data = hostSeekExtent(descriptor, off_t(offset), false)
    if data < 0 {
      // No data from here on: a hole up to the end, and nothing beyond.
      if errno == ENXIO { return isBlockDevice ? try toEnd(offset) : beyond }
      return try toEnd(offset)
    }
    if data > off_t(offset) { return ImageExtent(length: UInt64(data) - offset, isZero: true) }
    let hole = hostSeekExtent(descriptor, off_t(offset), true)
    guard hole > off_t(offset) else { return try toEnd(offset) }
    return ImageExtent(length: UInt64(hole) - offset, isZero: false)
  }

  /// For hosts that know nothing of holes.
  private func toEnd(_ offset: UInt64) throws(ImageFailure) -> ImageExtent {
    let size = try size()
    return offset < size
      ? ImageExtent(length: size - offset, isZero: false) : ImageExtent(length: .max - offset, isZero: true)
  }
}
