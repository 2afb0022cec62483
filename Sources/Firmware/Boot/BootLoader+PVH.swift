import CHost
import Memory
import X86

/// Xen's direct boot protocol for hardware-virtualized guests, which Linux, the BSDs and unikernels also offer to other
/// monitors (Xen, docs/misc/pvh.pandoc and include/public/arch-x86/hvm/start_info.h).
extension BootLoader {
  private static let startInfoMagic: UInt32 = 0x336e_c578
  private static let startInfoSize: UInt64 = 56
  private static let moduleSize: UInt64 = 32
  private static let entrySize: UInt64 = 24
  /// Bytes for everything but the command line.
  private static let startInfoLimit = Int(BootLayout.commandLine.lowerBound - BootLayout.startInfo)

  static func loadPVH(
    _ image: ELFImage, entry: UInt64, _ parameters: BootParameters, memory: GuestMemory, map: PhysicalMemoryMap,
    state: inout CPUState
  ) throws(BootFailure) -> LoadedKernel {
    let room = map.loadable
    for segment in image.segments where segment.memory.clamped(to: room) != segment.memory {
      throw BootFailure(parameters.kernel.name, .segmentOutsideMemory(segment.memory))
    }
    // The image has an entry point in a segment, so there is one.
    let start = image.segments.map(\.memory.lowerBound).min() ?? room.lowerBound
    let end = image.segments.map(\.memory.upperBound).max() ?? room.lowerBound

    // The protocol has no limit; kernels have their own.
    try placeCommandLine(parameters, limit: .max, memory: memory)
    for segment in image.segments {
      try memory.load(
        parameters.kernel, at: segment.fileOffset, count: segment.fileSize, to: segment.memory.lowerBound)
      memory.clear(segment.memory.lowerBound + segment.fileSize..<segment.memory.upperBound)
    }
    var top = room.upperBound
    var modules: [Range<UInt64>] = []
    for module in parameters.modules {
      let place = try InitialRAMDisk.load([module.file], check: .none, room: end..<top, memory: memory)
      guard let place else { continue }
      modules.append(place)
      top = place.lowerBound
    }

    let info = startInfo(parameters, modules: modules, map: map)
    guard BootLayout.startInfo + UInt64(info.count) <= BootLayout.commandLine.lowerBound else {
      throw BootFailure(parameters.kernel.name, .commandLineTooLong(count: info.count, limit: startInfoLimit))
    }
    memory.place(info, at: BootLayout.startInfo)
    state.enterProtectedMode(memory: memory)
    state.rip = entry
    state.gpr.3 = BootLayout.startInfo
    return LoadedKernel(bootProtocol: .pvh, kernel: start..<end, entry: entry, modules: modules)
  }

  /// `hvm_start_info` version 1, followed by the module list, the memory map and the modules' command lines.
  private static func startInfo(
    _ parameters: BootParameters, modules: [Range<UInt64>], map: PhysicalMemoryMap
  ) -> [UInt8] {
    let list = BootLayout.startInfo + startInfoSize
    let entries = list + moduleSize * UInt64(modules.count)
    var texts = ByteWriter()
    let textsStart = entries + entrySize * UInt64(map.entries.count)
    var info = ByteWriter()
    info.append(startInfoMagic)
    info.append(UInt32(1))
    info.append(UInt32(0))
    info.append(UInt32(modules.count))
    info.append(modules.isEmpty ? 0 : list)
    info.append(BootLayout.commandLine.lowerBound)
    info.append(parameters.acpiRootPointer?.rawValue ?? 0)
    info.append(entries)
    info.append(UInt32(map.entries.count))
    info.append(UInt32(0))

    for (range, module) in zip(modules, parameters.modules) {
      info.append(range.lowerBound)
      info.append(UInt64(range.count))
      info.append(module.arguments.isEmpty ? 0 : textsStart + UInt64(texts.bytes.count))
      info.append(UInt64(0))
      if !module.arguments.isEmpty { texts.append(Array(module.arguments.utf8) + [0]) }
    }

    for entry in map.entries {
      info.append(entry.range.lowerBound)
      info.append(entry.range.upperBound - entry.range.lowerBound)
      info.append(entry.kind.rawValue)
      info.append(UInt32(0))
    }
    return info.bytes + texts.bytes
  }
}
