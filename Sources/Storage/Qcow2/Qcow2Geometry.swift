/// Sizes and indices that follow from an image's cluster size and refcount width.
struct Qcow2Geometry: Equatable {
  let clusterBits: UInt64
  /// Log2 of the refcount's bits.
  let refcountOrder: UInt64

  init(clusterBits: Int, refcountOrder: Int) {
    self.clusterBits = UInt64(clusterBits)
    self.refcountOrder = UInt64(refcountOrder)
  }

  /// In bytes.
  var clusterSize: UInt64 { 1 << clusterBits }
  var clusterMask: UInt64 { clusterSize - 1 }
  /// Log2 of the entries of an L2 table.
  var l2Bits: UInt64 { clusterBits - 3 }
  var l2Count: Int { 1 << Int(l2Bits) }
  /// Log2 of the refcounts in a refcount block.
  var blockBits: UInt64 { clusterBits + 3 - refcountOrder }
  var blockCount: Int { 1 << Int(blockBits) }
  var maximumRefcount: UInt64 { refcountOrder == 6 ? .max : 1 << (1 << refcountOrder) - 1 }

  func cluster(of offset: UInt64) -> UInt64 { offset >> clusterBits }
  func offset(ofCluster cluster: UInt64) -> UInt64 { cluster << clusterBits }
  func l1Index(_ guestCluster: UInt64) -> Int { Int(guestCluster >> l2Bits) }
  func l2Index(_ guestCluster: UInt64) -> Int { Int(guestCluster & (1 << l2Bits - 1)) }
  /// Clusters that `count` bytes take.
  func clusters(forBytes count: UInt64) -> UInt64 { (count >> clusterBits) + (count & clusterMask == 0 ? 0 : 1) }
  /// L1 entries that a disk of `size` bytes takes.
  func l1Count(forSize size: UInt64) -> Int { Int((clusters(forBytes: size) + UInt64(l2Count) - 1) >> l2Bits) }
}
