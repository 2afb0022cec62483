import ArgumentParser
import Host
import Storage

struct ImageCheckCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "check", abstract: "Looks for contradictions in a qcow2 image.",
    discussion: """
      The exit status is 0 when the image is sound, 2 when it is corrupt, 3 when it only has clusters that nobody uses \
      (leaks), and 1 when it could not be checked. After a repair it is 0, unless that failed.
      """)

  /// Exit statuses of this command's own; qemu-img's.
  private static let corrupt: Int32 = 2
  private static let leaking: Int32 = 3

  enum Extent: String, ExpressibleByArgument, CaseIterable {
    case leaks, all
  }

  @Option(
    help: ArgumentHelp(
      "Put right what is wrong: 'leaks', or 'all'. Entries that lead nowhere become zeroes.", valueName: "extent"))
  var repair: Extent?

  @Flag(help: "Print JSON.")
  var json = false

  @Argument(help: "Path of the image.")
  var file: String

  func run() throws {
    try reportingFailures {
      let opened = try HostFile(path: file, isReadOnly: repair == nil)
      guard try ImageReference.probe(opened) == .qcow2 else {
        throw CommandFailure(description: "'\(file)' is no qcow2 image, and other formats have nothing to check")
      }
      let check = try Qcow2Check(opened)
      let report = try repair.map { try check.repair($0 == .leaks ? .leaks : .all) } ?? check.examine()
      try StandardDescriptors.write(json ? self.json(report).text() + "\n" : text(report))
      var rest = report
      if repair != nil { rest = try Qcow2Check(opened).examine() }
      if !rest.isSound { throw ExitCode(Self.corrupt) }
      if rest.leaks > 0 { throw ExitCode(Self.leaking) }
    }
  }

  private func text(_ report: ImageCheckReport) -> String {
    var text = report.problems.map { "corrupt: \($0)\n" }.joined()
    let hidden = report.corruptions - report.problems.count
    if hidden > 0 { text += "and \(hidden) more\n" }
    if report.isMarkedCorrupt { text += "The image is marked as corrupt.\n" }
    if report.isMarkedDirty { text += "The image was not closed in good order.\n" }
    if report.corruptions > 0 { text += "Contradictions: \(report.corruptions). Data may be lost.\n" }
    if report.leaks > 0 { text += "Clusters that nobody uses: \(report.leaks). They waste space, and harm nothing.\n" }
    if report.isSound, report.leaks == 0 { text += "No errors were found.\n" }
    if repair != nil, !report.isSound || report.leaks > 0 {
      text += repair == .leaks && !report.isSound ? "Nothing was repaired: that takes --repair all.\n" : "Repaired.\n"
    }
    let share = report.totalClusters == 0 ? 0 : report.allocatedClusters * 100 / report.totalClusters
    text += "\(report.allocatedClusters) of \(report.totalClusters) clusters (\(share)%) are in the image, "
    text +=
      "\(report.compressedClusters) of them compressed; \(report.fragmentedClusters) do not follow the one before. "
    return text + "The image ends at \(MemorySize(bytes: report.imageEnd)).\n"
  }

  private func json(_ report: ImageCheckReport) -> JSONValue {
    .object([
      ("filename", .text(file)), ("format", "qcow2"), ("corruptions", .number(UInt64(report.corruptions))),
      ("leaks", .number(UInt64(report.leaks))), ("dirty-flag", .boolean(report.isMarkedDirty)),
      ("corrupt-flag", .boolean(report.isMarkedCorrupt)), ("total-clusters", .number(report.totalClusters)),
      ("allocated-clusters", .number(report.allocatedClusters)),
      ("compressed-clusters", .number(report.compressedClusters)),
      ("fragmented-clusters", .number(report.fragmentedClusters)), ("image-end-offset", .number(report.imageEnd)),
      ("problems", .list(report.problems.map { .text($0) })),
    ])
  }
}
