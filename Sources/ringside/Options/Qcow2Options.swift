import ArgumentParser
import Storage

/// How a new qcow2 image is to be; other formats take none of these.
struct Qcow2Options: ParsableArguments {
  @Option(help: ArgumentHelp("qcow2: bytes of a cluster, 512 to 2M. Default: 64K.", valueName: "size"))
  var clusterSize: MemorySize?

  @Option(help: ArgumentHelp("qcow2: version of the format, 2 or 3. Default: 3.", valueName: "version"))
  var formatVersion: Int?

  @Option(help: ArgumentHelp("qcow2: bits of a refcount, a power of two from 1 to 64. Default: 16.", valueName: "bits"))
  var refcountBits: Int?

  @Option(help: ArgumentHelp("qcow2: how compressed clusters are compressed. Default: zlib.", valueName: "method"))
  var compression: Compression?

  private var isGiven: Bool {
    clusterSize != nil || formatVersion != nil || refcountBits != nil || compression != nil
  }

  /// What is to be made for a disk of `size` bytes.
  func creation(_ format: ImageFormat, size: UInt64) throws -> ImageCreation {
    switch format {
    case .raw:
      if isGiven { throw ValidationError("raw images have no clusters, versions, refcounts or compression") }
      return .raw(size: size)
    case .qcow2:
      var creation = Qcow2Creation(size: size)
      if let clusterSize { creation.clusterSize = clusterSize.bytes }
      if let formatVersion {
        guard 2...3 ~= formatVersion else {
          throw ValidationError("--format-version: \(formatVersion) is not possible: give 2 or 3")
        }
        creation.version = formatVersion
      }
      if let refcountBits { creation.refcountBits = refcountBits }
      if let compression { creation.compression = compression }
      if let problem = creation.problem { throw ValidationError(problem) }
      return .qcow2(creation)
    case .vmdk, .vhdx:
      throw ValidationError("\(format.rawValue) images can only be read: give raw or qcow2")
    }
  }
}
