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

  init(path: String) { self.path = path }

  /// A disk, as `--disk` names it. Throws with a message that says what is wrong and what would be right.
  init(parsing text: String) throws {
    self.init(path: text)
    try parse(
      text,
      Option(
        name: "--disk", example: "disk.img,if=ide",
        settings: ["if", "media", "format", "snapshot", "readonly", "serial"]))
    if media == .cdrom { isReadOnly = true }
  }

  /// A floppy disk, as `--floppy` names it. Throws as the other.
  init(parsingFloppy text: String) throws {
    self.init(path: text)
    try parse(
      text, Option(name: "--floppy", example: "floppy.img", settings: ["format", "snapshot", "readonly"]))
  }

  /// An option that names a disk.
  private struct Option {
    let name: String
    let example: String
    let settings: [String]

    /// "a, b or c".
    var listed: String { settings.dropLast().joined(separator: ", ") + " or " + (settings.last ?? "") }
  }

  private mutating func parse(_ text: String, _ option: Option) throws {
    var fields = Self.fields(text)
    path = fields.removeFirst()
    guard !path.isEmpty else { throw ValidationError("\(option.name): name a file, such as '\(option.example)'") }
    for field in fields {
      let parts = field.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
      guard parts.count == 2 else {
        throw ValidationError("\(option.name): '\(field)' is no setting: give \(option.listed), each as NAME=VALUE")
      }
      guard option.settings.contains(parts[0]) else {
        throw ValidationError("\(option.name): there is no setting '\(parts[0])': give \(option.listed)")
      }
      do throws(Problem) {
        try set(parts[0], parts[1])
      } catch {
        throw ValidationError("\(option.name): \(error.text)")
      }
    }
  }

  /// What is wrong with a setting.
  private struct Problem: Error { let text: String }

  private mutating func set(_ name: String, _ value: String) throws(Problem) {
    switch name {
    case "if": interface = try Self.choice(name, value) as DiskInterface
    case "media": media = try Self.choice(name, value)
    case "format": format = try Self.choice(name, value) as ImageFormat
    case "snapshot": isTemporary = try Self.flag(name, value)
    case "readonly": isReadOnly = try Self.flag(name, value)
    default:
      guard (1...Self.serialLength).contains(value.utf8.count), value.utf8.allSatisfy({ (0x20..<0x7f).contains($0) })
      else {
        throw Problem(text: "a serial number has 1 to \(Self.serialLength) characters of ASCII, not '\(value)'")
      }
      serial = value
    }
  }

  private static func choice<T: RawRepresentable & CaseIterable>(_ name: String, _ value: String) throws(Problem) -> T
  where T.RawValue == String {
    if let choice = T(rawValue: value) { return choice }
    let all = T.allCases.map(\.rawValue).joined(separator: ", ")
    throw Problem(text: "'\(name)=\(value)' is not possible: give one of \(all)")
  }

  private static func flag(_ name: String, _ value: String) throws(Problem) -> Bool {
    switch value {
    case "on": return true
    case "off": return false
    default: throw Problem(text: "'\(name)=\(value)' is not possible: give on or off")
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
