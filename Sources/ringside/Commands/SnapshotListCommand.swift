import ArgumentParser
import Glibc
import Host
import Machine

struct SnapshotListCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "list", abstract: "Lists the snapshots in a folder.")

  @Argument(help: "The folder, or single files.")
  var paths: [String] = ["."]

  func run() throws {
    try reportingFailures {
      var rows = [["FILE", "TAKEN", "MEMORY", "SIZE", "MACHINE"]]
      for path in try paths.flatMap(files) {
        guard let snapshot = try open(path) else { continue }
        rows.append([
          path, Self.text(ofTime: snapshot.created), MemorySize(bytes: snapshot.memorySize).description,
          MemorySize(bytes: snapshot.fileSize).description, snapshot.arguments.joined(separator: " "),
        ])
      }
      let widths = rows[0].indices.dropLast().map { column in rows.map { $0[column].count }.max() ?? 0 }
      for row in rows {
        let cells = zip(row, widths).map { $0 + String(repeating: " ", count: $1 - $0.count) }
        try StandardDescriptors.write((cells + [row[row.count - 1]]).joined(separator: "  ") + "\n")
      }
    }
  }

  /// A folder's files, or the file itself.
  private func files(_ path: String) throws -> [String] {
    guard let folder = opendir(path) else {
      guard errno == ENOTDIR else { throw HostFailure("open '\(path)'") }
      return [path]
    }
    defer { closedir(folder) }
    var names: [String] = []
    while let entry = readdir(folder) {
      let name = withUnsafePointer(to: &entry.pointee.d_name) {
        $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
      }
      if entry.pointee.d_type != UInt8(DT_DIR) { names.append(path == "." ? name : "\(path)/\(name)") }
    }
    return names.sorted()
  }

  /// In a folder, other files are passed over; one that was named must be a snapshot.
  private func open(_ path: String) throws -> SnapshotFile? {
    do throws(SnapshotFailure) {
      return try SnapshotFile(path: path)
    } catch {
      if error.reason == .notASnapshot, !paths.contains(path) { return nil }
      throw error
    }
  }

  /// Local time, as 2026-11-27 15:04.
  private static func text(ofTime seconds: UInt64) -> String {
    var time = time_t(clamping: seconds)
    var fields = tm()
    localtime_r(&time, &fields)
    var text = [CChar](repeating: 0, count: 32)
    let count = strftime(&text, text.count, "%Y-%m-%d %H:%M", &fields)
    return String(decoding: text[..<count].map { UInt8(bitPattern: $0) }, as: UTF8.self)
  }
}
