import CHost
import Memory
import X86

/// Linux's own boot protocol (Documentation/arch/x86/boot.rst and zero-page.rst).
extension BootLoader {
  /// Offsets in the zero page, `struct boot_params`.
  private enum ZeroPage {
    // `struct screen_info`.
    static let videoMode = 0x006
    static let videoColumns = 0x007
    static let videoMemory = 0x00a
    static let videoLines = 0x00e
    static let isVGA = 0x00f
    static let characterHeight = 0x010

    static let acpiRootPointer = 0x070
    static let mapEntryCount = 0x1e8
    static let map = 0x2d0
    static let mapCapacity = 128
    static let size = 4096
  }

  /// A loader without a number of its own.
  private static let undefinedLoader: UInt8 = 0xff
  /// From the load address.
  private static let entry64Offset: UInt64 = 0x200
  /// Where a kernel that cannot be relocated expects its protected-mode part.
  private static let fixedAddress: UInt64 = 0x10_0000

  static func loadLinux(
    _ header: LinuxHeader, _ parameters: BootParameters, memory: GuestMemory, map: PhysicalMemoryMap,
    state: inout CPUState
  ) throws(BootFailure) -> LoadedKernel {
    let room = map.loadable
    let (address, end) = try place(header, room: room, file: parameters.kernel)
    let loaded = address..<address + header.kernelSize
    try placeCommandLine(parameters, limit: header.commandLineLimit, memory: memory)
    try memory.load(parameters.kernel, at: header.kernelOffset, count: header.kernelSize, to: address)

    let top = min(room.upperBound, header.ramDiskAddressMax + 1)
    let ramDisk = try InitialRAMDisk.load(
      parameters.modules.map(\.file), check: .linuxFormats, room: min(end, top)..<top, memory: memory)

    let zeroPage = zeroPage(header, parameters, address: address, ramDisk: ramDisk, map: map)
    memory.place(zeroPage, at: BootLayout.zeroPage)
    if header.is64Bit {
      state.enterLongMode(memory: memory)
      state.rip = address + entry64Offset
    } else {
      state.enterProtectedMode(memory: memory)
      state.rip = address
    }
    state.gpr.6 = BootLayout.zeroPage
    return LoadedKernel(
      bootProtocol: header.is64Bit ? .linux64 : .linux32, kernel: loaded, entry: state.rip,
      modules: ramDisk.map { [$0] } ?? [])
  }

  /// Where the kernel is loaded, and the end of the memory that it uses before it knows the memory map. A relocatable
  /// kernel goes where it prefers to run, and if it does not say, to the first aligned address; others copy themselves
  /// from 1 MiB to where they run.
  private static func place(
    _ header: LinuxHeader, room: Range<UInt64>, file: BootFile
  ) throws(BootFailure) -> (address: UInt64, end: UInt64) {
    let address: UInt64
    if !header.isRelocatable {
      address = fixedAddress
    } else if header.preferredAddress >= fixedAddress {
      address = header.preferredAddress
    } else {
      address = max(fixedAddress, header.alignment)
    }
    let runs = max(address, header.preferredAddress)
    let end = runs.addingClamped(header.initSize)
    guard end <= room.upperBound else {
      throw BootFailure(file.name, .kernelDoesNotFit(needs: end, has: room.upperBound))
    }
    return (address, end)
  }

  private static func zeroPage(
    _ header: LinuxHeader, _ parameters: BootParameters, address: UInt64, ramDisk: Range<UInt64>?,
    map: PhysicalMemoryMap
  ) -> [UInt8] {
    var setup = [UInt8](repeating: 0, count: ZeroPage.size)
    setup.replaceSubrange(
      LinuxHeader.Offset.setupSectors..<LinuxHeader.Offset.setupSectors + header.bytes.count, with: header.bytes)
    var page = ByteWriter(setup)
    page.put(undefinedLoader, at: LinuxHeader.Offset.typeOfLoader)
    page.put(UInt32(truncatingIfNeeded: address), at: LinuxHeader.Offset.code32Start)
    page.put(UInt32(BootLayout.commandLine.lowerBound), at: LinuxHeader.Offset.commandLine)
    if let ramDisk {
      page.put(UInt32(truncatingIfNeeded: ramDisk.lowerBound), at: LinuxHeader.Offset.ramDiskImage)
      page.put(UInt32(truncatingIfNeeded: ramDisk.count), at: LinuxHeader.Offset.ramDiskSize)
    }
    if let pointer = parameters.acpiRootPointer { page.put(pointer.rawValue, at: ZeroPage.acpiRootPointer) }
    if parameters.hasDisplay {
      page.put(UInt8(TextMode.number), at: ZeroPage.videoMode)
      page.put(UInt8(TextMode.columns), at: ZeroPage.videoColumns)
      // More than the 0x10 of an adapter that could not tell: 256 KiB.
      page.put(UInt16(3), at: ZeroPage.videoMemory)
      page.put(UInt8(TextMode.rows), at: ZeroPage.videoLines)
      page.put(UInt8(1), at: ZeroPage.isVGA)
      page.put(UInt16(TextMode.characterHeight), at: ZeroPage.characterHeight)
    }

    let entries = map.entries.prefix(ZeroPage.mapCapacity)
    page.put(UInt8(entries.count), at: ZeroPage.mapEntryCount)
    for (index, entry) in entries.enumerated() {
      let offset = ZeroPage.map + 20 * index
      page.put(entry.range.lowerBound, at: offset)
      page.put(entry.range.upperBound - entry.range.lowerBound, at: offset + 8)
      page.put(entry.kind.rawValue, at: offset + 16)
    }
    return page.bytes
  }
}
