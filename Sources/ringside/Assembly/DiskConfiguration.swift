import Storage

/// A disk of the machine that is to be built.
struct DiskConfiguration {
  var image: any DiskImage
  var interface: DiskInterface
  var media: DiskArgument.Media
  /// Nil: one is made up from its position.
  var serial: String?

  /// What the guest reads; `index` is the disk's place among all.
  func serialNumber(at index: Int) -> String { serial ?? "RS\(index + 1)" }
}
