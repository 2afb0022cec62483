/// What a multiboot kernel is told: the structure that EBX points to, with everything that it points to in turn (Multiboot
/// 0.6.96, 3.3; Multiboot2 2.0, 3.4 to 3.6).
struct MultibootInformation {
  /// A loaded module.
  struct Module {
    var range: Range<UInt64>
    var text: String
  }

  static let loaderName = "Ringside"

  var version: MultibootImage.Version
  var commandLine: String
  var modules: [Module]
  var map: PhysicalMemoryMap
  /// Copy of ACPI's root pointer; empty: the machine has no ACPI.
  var rootPointer: [UInt8]
  /// Where a kernel that can be relocated was loaded.
  var loadBase: UInt64?

  /// The structure as it stands at `address`, which is a multiple of 8. Its size does not depend on the address.
  func bytes(at address: UInt64) -> [UInt8] {
    switch version {
    case .one: version1(at: address)
    case .two: version2()
    }
  }

  /// KiB of conventional memory, and of memory from 1 MiB on in one piece.
  private var sizes: (lower: UInt32, upper: UInt32) {
    let loadable = map.loadable
    return (
      UInt32(PhysicalMemoryMap.conventionalEnd >> 10),
      UInt32(truncatingIfNeeded: (loadable.upperBound - loadable.lowerBound) >> 10)
    )
  }

  // MARK: Version 1

  private enum Flag {
    static let memory: UInt32 = 1 << 0
    static let commandLine: UInt32 = 1 << 2
    static let modules: UInt32 = 1 << 3
    static let map: UInt32 = 1 << 6
    static let loaderName: UInt32 = 1 << 9
  }

  /// Of the structure itself, with the fields for a display at its end, which nothing is said of.
  private static let size1 = 120

  private func version1(at address: UInt64) -> [UInt8] {
    var info = ByteWriter(count: Self.size1)
    func pointer() -> UInt32 { UInt32(truncatingIfNeeded: address) &+ UInt32(info.bytes.count) }
    func put(_ text: String) -> UInt32 {
      defer { info.append(Array(text.utf8) + [0]) }
      return pointer()
    }

    info.put(Flag.memory | Flag.commandLine | Flag.modules | Flag.map | Flag.loaderName, at: 0)
    info.put(sizes.lower, at: 4)
    info.put(sizes.upper, at: 8)

    info.put(UInt32(map.entries.count * 24), at: 44)
    info.put(pointer(), at: 48)
    for entry in map.entries {
      // The size of what follows it.
      info.append(UInt32(20))
      append(entry, to: &info)
    }

    let list = info.bytes.count
    info.put(UInt32(modules.count), at: 20)
    info.put(pointer(), at: 24)
    for module in modules {
      info.append(UInt32(truncatingIfNeeded: module.range.lowerBound))
      info.append(UInt32(truncatingIfNeeded: module.range.upperBound))
      info.append(UInt64(0))
    }
    for (index, module) in modules.enumerated() { info.put(put(module.text), at: list + 16 * index + 8) }
    info.put(put(commandLine), at: 16)
    info.put(put(Self.loaderName), at: 64)
    return info.bytes
  }

  /// Base, length and type.
  private func append(_ entry: PhysicalMemoryMap.Entry, to info: inout ByteWriter) {
    info.append(entry.range.lowerBound)
    info.append(entry.range.upperBound - entry.range.lowerBound)
    info.append(entry.kind.rawValue)
  }

  // MARK: Version 2

  /// Types of information tags.
  private enum Tag: UInt32 {
    case end = 0
    case commandLine = 1
    case loaderName = 2
    case module = 3
    case memory = 4
    case map = 6
    case oldRootPointer = 14
    case newRootPointer = 15
    case loadBase = 21
  }

  /// The part of the root pointer that ACPI 1.0 knows.
  private static let oldRootPointerSize = 20

  private func version2() -> [UInt8] {
    var info = ByteWriter(count: 8)
    func tag(_ type: Tag, _ body: (inout ByteWriter) -> Void) {
      info.pad(toMultipleOf: 8)
      let start = info.bytes.count
      info.append(type.rawValue)
      info.append(UInt32(0))
      body(&info)
      info.put(UInt32(info.bytes.count - start), at: start + 4)
    }
    func text(_ type: Tag, _ text: String) { tag(type) { $0.append(Array(text.utf8) + [0]) } }

    text(.commandLine, commandLine)
    text(.loaderName, Self.loaderName)
    for module in modules {
      tag(.module) {
        $0.append(UInt32(truncatingIfNeeded: module.range.lowerBound))
        $0.append(UInt32(truncatingIfNeeded: module.range.upperBound))
        $0.append(Array(module.text.utf8) + [0])
      }
    }
    tag(.memory) {
      $0.append(sizes.lower)
      $0.append(sizes.upper)
    }
    tag(.map) {
      // Size and version of an entry.
      $0.append(UInt32(24))
      $0.append(UInt32(0))
      for entry in map.entries {
        append(entry, to: &$0)
        $0.append(UInt32(0))
      }
    }
    if !rootPointer.isEmpty {
      tag(.oldRootPointer) { $0.append(Array(rootPointer.prefix(Self.oldRootPointerSize))) }
      tag(.newRootPointer) { $0.append(rootPointer) }
    }
    if let loadBase { tag(.loadBase) { $0.append(UInt32(truncatingIfNeeded: loadBase)) } }
    tag(.end) { _ in }
    info.put(UInt32(info.bytes.count), at: 0)
    return info.bytes
  }
}
