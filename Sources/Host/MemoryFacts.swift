/// What memory the host has, in bytes.
public struct MemoryFacts: Sendable {
  public var total: UInt64
  /// What could be used without pushing others out, swap included, within this process's control group.
  public var available: UInt64
  /// Size of the host's explicit huge pages, how many it keeps, and how many of these are free.
  public var hugePageSize: UInt64
  public var hugePages: UInt64
  public var freeHugePages: UInt64
  /// The kernel's mode for transparent huge pages: "always", "madvise", "never"; nil where it has none.
  public var transparentHugePages: String?
  /// The same for shared memory, which guest RAM is: "always", "within_size", "advise", "never" …
  public var sharedTransparentHugePages: String?

  /// As the kernel says now.
  public static func read() -> MemoryFacts {
    let table = parse(TextFile.read("/proc/meminfo") ?? "")
    let free = (table["MemAvailable"] ?? 0) &+ (table["SwapFree"] ?? 0)
    let directory = "/sys/kernel/mm/transparent_hugepage/"
    return MemoryFacts(
      total: table["MemTotal"] ?? 0, available: min(free, controlGroupRoom() ?? .max),
      hugePageSize: table["Hugepagesize"] ?? 0, hugePages: table["HugePages_Total"] ?? 0,
      freeHugePages: table["HugePages_Free"] ?? 0,
      transparentHugePages: TextFile.read(directory + "enabled").flatMap(chosen),
      sharedTransparentHugePages: TextFile.read(directory + "shmem_enabled").flatMap(chosen))
  }

  /// Lines such as `MemTotal:  24684032 kB` and `HugePages_Total:  0`; kilobytes become bytes.
  static func parse(_ text: String) -> [Substring: UInt64] {
    var table: [Substring: UInt64] = [:]
    for line in text.split(separator: "\n") {
      let words = line.split(whereSeparator: { $0 == " " || $0 == ":" })
      guard words.count >= 2, let value = UInt64(words[1]) else { continue }
      table[words[0]] = words.count > 2 && words[2] == "kB" ? value &* 1024 : value
    }
    return table
  }

  /// The word in brackets of `always [madvise] never`.
  static func chosen(_ text: String) -> String? {
    guard let start = text.firstIndex(of: "["), let end = text[start...].firstIndex(of: "]") else { return nil }
    return String(text[text.index(after: start)..<end])
  }

  /// What the tightest memory limit of this process's control groups (version 2) leaves; nil without a limit.
  private static func controlGroupRoom() -> UInt64? {
    guard let line = TextFile.read("/proc/self/cgroup")?.split(separator: "\n").first(where: { $0.hasPrefix("0::") })
    else { return nil }
    var room: UInt64?
    var components = line.dropFirst(3).split(separator: "/")
    while true {
      let directory = "/sys/fs/cgroup/" + components.map { $0 + "/" }.joined()
      if let limit = TextFile.number(directory + "memory.max"),
        let used = TextFile.number(directory + "memory.current")
      {
        // Page cache counts as used but is given back under pressure.
        let statistics = parse(TextFile.read(directory + "memory.stat") ?? "")
        let cache = (statistics["inactive_file"] ?? 0) &+ (statistics["active_file"] ?? 0)
        let firm = used > cache ? used - cache : 0
        room = min(room ?? .max, limit > firm ? limit - firm : 0)
      }
      guard components.popLast() != nil else { return room }
    }
  }
}
