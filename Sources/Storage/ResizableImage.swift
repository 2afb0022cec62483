/// A disk whose size can be changed. Not while a machine has it.
public protocol ResizableImage: DiskImage {
  /// Makes the disk `newSize` bytes large, a multiple of 512. What it grows by reads as zeroes; what it shrinks by is lost.
  func resize(to newSize: UInt64) throws(ImageFailure)
}
