import CHost
import Memory
import X86

/// Xen's direct boot protocol for hardware-virtualized guests, which Linux, the BSDs and unikernels also offer to other
/// monitors (Xen, docs/misc/pvh.pandoc and include/public/arch-x86/hvm/start_info.h).
extension BootLoader {
  private static let startInfoMagic: UInt32 = 0x336e_c578
  private static let startInfoSize: UInt64 = 56
  private static let moduleSize: UInt64 = 32

  static func loadPVH(
    _ image: ELFImage, _ parameters: BootParameters, memory: GuestMemory, map: PhysicalMemoryMap, state: inout CPUState
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
    var ramDisk: Range<UInt64>?
    if let file = parameters.initialRAMDisk {
      ramDisk = try InitialRAMDisk.load(file, check: .none, room: end..<room.upperBound, memory: memory)
    }

    memory.place(startInfo(parameters, ramDisk: ramDisk, map: map), at: BootLayout.startInfo)
    state.enterProtectedMode(memory: memory)
    state.rip = image.entry
    state.gpr.3 = BootLayout.startInfo
    return LoadedKernel(bootProtocol: .pvh, kernel: start..<end, entry: image.entry, initialRAMDisk: ramDisk)
  }

  /// `hvm_start_info` version 1, followed by the module list and the memory map.
  private static func startInfo(
    _ parameters: BootParameters, ramDisk: Range<UInt64>?, map: PhysicalMemoryMap
  ) -> [UInt8] {
    let modules = BootLayout.startInfo + startInfoSize
    let entries = modules + moduleSize
    var info = ByteWriter()
    info.append(startInfoMagic)
    info.append(UInt32(1))
    info.append(UInt32(0))
    info.append(UInt32(ramDisk == nil ? 0 : 1))
    info.append(ramDisk == nil ? 0 : modules)
    info.append(BootLayout.commandLine.lowerBound)
    info.append(parameters.acpiRootPointer?.rawValue ?? 0)
    info.append(entries)
    info.append(UInt32(map.entries.count))
    info.append(UInt32(0))

    info.append(ramDisk?.lowerBound ?? 0)
    info.append(UInt64(ramDisk?.count ?? 0))
    info.append(UInt64(0))
    info.append(UInt64(0))

    for entry in map.entries {
      info.append(entry.range.lowerBound)
      info.append(entry.range.upperBound - entry.range.lowerBound)
      info.append(entry.kind.rawValue)
      info.append(UInt32(0))
    }
    return info.bytes
  }
}
