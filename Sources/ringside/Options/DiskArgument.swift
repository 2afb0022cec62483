import ArgumentParser
import Storage

/// A disk as `--disk` names it: a path, and behind commas what else is to be said. A comma in the path is written twice.
struct DiskArgument: Equatable {
  enum Media: String, CaseIterable { case disk, cdrom }

  var path: String
  /// Nil: the machine's standard.
  var interface: DiskInterface?
  var media = Media.disk
  /// Nil: as the file's first bytes say.
  var format: ImageFormat?
  /// What the guest writes goes elsewhere, and is gone in the end.
  var isTemporary = false
  var isReadOnly = false
  /// What the guest reads as the disk's serial number.
  var serial: String?

  /// Of a serial number, so much fits into every interface's field.
  private static let serialLength = 20

  /// What can be said of a floppy disk.
  private static let floppySettings = ["format", "snapshot", "readonly"]

  init(path: String) { self.path = path }

  /// A floppy disk, as `--floppy` names it.
  init(parsingFloppy text: String) throws {
    var fields = Self.fields(text)
    path = fields.removeFirst()
    guard !path.isEmpty else { throw ValidationError("--floppy: name a file, such as 'floppy.img'") }
    for field in fields {
      let parts = field.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
      guard parts.count == 2, Self.floppySettings.contains(parts[0]) else {
        throw ValidationError(
          "--floppy: '\(field)' is no setting: give \(Self.floppySettings.joined(separator: ", ")), each as NAME=VALUE")
      }
      try set(parts[0], parts[1])
    }
  }

  /// Throws with a message that says what is wrong and what would be right.
  init(parsing text: String) throws {
    var fields = Self.fields(text)
    path = fields.removeFirst()
    guard !path.isEmpty else { throw ValidationError("--disk: name a file, such as 'disk.img,if=ide'") }
    for field in fields {
      let parts = field.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
      guard parts.count == 2 else {
        throw ValidationError("--disk: '\(field)' is no setting: give \(Self.settings), each as NAME=VALUE")
      }
      try set(parts[0], parts[1])
    }
    if media == .cdrom { isReadOnly = true }
  }

  private static let settings = "if, media, format, snapshot, readonly or serial"

  private mutating func set(_ name: String, _ value: String) throws {
    switch name {
    case "if": interface = try Self.choice(name, value) as DiskInterface
    case "media": media = try Self.choice(name, value)
    case "format": format = try Self.choice(name, value) as ImageFormat
    case "snapshot": isTemporary = try Self.flag(name, value)
    case "readonly": isReadOnly = try Self.flag(name, value)
    case "serial":
      guard (1...Self.serialLength).contains(value.utf8.count), value.utf8.allSatisfy({ (0x20..<0x7f).contains($0) })
      else {
        throw ValidationError(
          "--disk: a serial number has 1 to \(Self.serialLength) characters of ASCII, not '\(value)'")
      }
      serial = value
    default: throw ValidationError("--disk: there is no setting '\(name)': give \(Self.settings)")
    }
  }

  private static func choice<T: RawRepresentable & CaseIterable>(_ name: String, _ value: String) throws -> T
  where T.RawValue == String {
    if let choice = T(rawValue: value) { return choice }
    let all = T.allCases.map(\.rawValue).joined(separator: ", ")
    throw ValidationError("--disk: '\(name)=\(value)' is not possible: give one of \(all)")
  }

  private static func flag(_ name: String, _ value: String) throws -> Bool {
    switch value {
    case "on": return true
    case "off": return false
    default: throw ValidationError("--disk: '\(name)=\(value)' is not possible: give on or off")
    }
  }

  /// Splits at single commas; two are one that belongs to the text.
  private static func fields(_ text: String) -> [String] {
    var fields = [""]
    var rest = text[...]
    while let character = rest.popFirst() {
      if character == "," {
        if rest.first == "," {
          rest.removeFirst()
        } else {
          fields.append("")
          continue
        }
      }
      fields[fields.count - 1].append(character)
    }
    return fields
  }

  /// For each of `disks`, and of the floppy disks behind them, the name of its internal snapshot in that of a machine, which
  /// has them in the machine's order: by their controllers. Nil where it has none.
  static func snapshotNames(
    of disks: [DiskArgument], floppies: [DiskArgument], on machine: MachineKind, in snapshots: [String]
  ) -> [String?] {
    var names = [String?](repeating: nil, count: disks.count + floppies.count)
    let order = DiskInterface.allCases.flatMap { interface in
      disks.indices.filter { (disks[$0].interface ?? machine.standardDiskInterface) == interface }
    }
    for (index, name) in zip(order + (disks.count..<names.count), snapshots) where !name.isEmpty { names[index] = name }
    return names
  }

  /// Opens the disk as it was in an internal snapshot of its image, which is only read; what the machine writes is gone in
  /// the end. `warn` gets what the user should know.
  func openClone(of snapshot: String, warn: (String) -> Void) throws(ImageFailure) -> any DiskImage {
    try ImageReference(path: path, format: .qcow2, isTemporary: true, snapshot: snapshot).open(warn: warn)
  }

  /// Opens the image. `warn` gets what the user should know.
  func open(warn: (String) -> Void) throws(ImageFailure) -> any DiskImage {
    try ImageReference(path: path, format: format, isReadOnly: isReadOnly, isTemporary: isTemporary).open(warn: warn)
  }
}
