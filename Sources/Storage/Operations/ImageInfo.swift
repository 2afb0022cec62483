import Glibc

/// What there is to know of an image without reading its contents.
public struct ImageInfo: Sendable {
  /// What qcow2 images have.
  public struct Qcow2: Sendable {
    public var version: UInt32
    /// In bytes.
    public var clusterSize: UInt64
    public var refcountBits: Int
    public var usesLazyRefcounts: Bool
    public var compression: Compression
    public var isDirty: Bool
    public var isCorrupt: Bool
    public var snapshots: [Qcow2Snapshot]
  }

  public var path: String
  public var format: ImageFormat
  /// Of the disk, in bytes.
  public var size: UInt64
  /// What the file takes of the host's disk, in bytes.
  public var allocatedSize: UInt64
  public var backing: BackingReference?
  /// Where the backing file is, as a path from here.
  public var backingPath: String?
  public var qcow2: Qcow2?

  /// Looks at the image at `path`, also while a machine uses it.
  public init(path: String, format given: ImageFormat? = nil) throws(ImageFailure) {
    let file = try HostFile(path: path, isReadOnly: true, isShared: true)
    self.path = path
    if let given { format = given } else { format = try ImageReference.probe(file) }
    allocatedSize = try file.allocatedSize()
    guard format == .qcow2 else {
      let image = try ImageReference(path: path, format: format, isReadOnly: true, isShared: true).open { _ in }
      size = image.size
      return
    }
    let header = try Qcow2Header(of: file)
    size = header.size & ~511
    backing = try BackingReference(of: file)
    backingPath = try backing?.image(beside: path).path
    qcow2 = Qcow2(
      version: header.version, clusterSize: 1 << UInt64(header.clusterBits), refcountBits: 1 << header.refcountOrder,
      usesLazyRefcounts: header.usesLazyRefcounts, compression: header.compression, isDirty: header.isDirty,
      isCorrupt: header.isCorrupt, snapshots: try Qcow2Snapshot.readTable(from: file, header: header))
  }
}
