import CHost
import Memory
import X86

/// The multiboot protocols, which GRUB, hobby and research kernels, Xen and test suites speak.
///
/// The kernel goes where it says, in conventional memory too; modules follow behind it in whole pages, from 1 MiB on;
/// what the kernel is told, in conventional memory from 64 KiB on, if the kernel has left any. All of it is free memory as
/// far as the memory map goes: kernels know that they must not overwrite it before they have read it.
extension BootLoader {
  /// What EAX holds at the entry point.
  private static func magic(_ version: MultibootImage.Version) -> UInt64 {
    switch version {
    case .one: 0x2bad_b002
    case .two: 0x36d7_6289
    }
  }

  private static let pageSize: UInt64 = 4096
  /// Everything that a 32-bit pointer reaches, without the page of null pointers.
  private static let reachable: Range<UInt64> = 0x1000..<1 << 32

  static func loadMultiboot(
    _ image: MultibootImage, _ parameters: BootParameters, memory: GuestMemory, map: PhysicalMemoryMap,
    state: inout CPUState
  ) throws(BootFailure) -> LoadedKernel {
    var free = FreeMemory(map)
    let offset = try displacement(of: image, in: free, file: parameters.kernel)
    let segments = image.segments.map { $0.moved(by: offset) }
    for segment in segments where !free.contains(segment.memory) {
      throw BootFailure(parameters.kernel.name, .segmentOutsideMemory(segment.memory))
    }
    let kernel = image.extent.lowerBound &+ offset..<image.extent.upperBound &+ offset
    free.remove(kernel)
    let places = try placeModules(parameters, behind: kernel, free: &free)
    try checkCommandLine(parameters, limit: .max)

    let modules = zip(parameters.modules, places).map { MultibootInformation.Module(range: $1, text: $0.commandLine) }
    let information = MultibootInformation(
      version: image.version, commandLine: BootModule(parameters.kernel, arguments: parameters.commandLine).commandLine,
      modules: modules, map: map, rootPointer: rootPointer(parameters, memory),
      loadBase: image.relocation == nil ? nil : kernel.lowerBound)
    let tableSize = UInt64(CPUState.bootDescriptorTableSize)
    let size = tableSize + UInt64(information.bytes(at: 0).count)
    guard
      let table = free.lowest(size, alignment: pageSize, in: BootLayout.startInfo..<reachable.upperBound)
        ?? free.lowest(size, alignment: pageSize, in: reachable)
    else {
      let end = map.loadable.upperBound
      throw BootFailure(parameters.kernel.name, .kernelDoesNotFit(needs: end + size, has: end))
    }

    for segment in segments {
      try memory.load(
        parameters.kernel, at: segment.fileOffset, count: segment.fileSize, to: segment.memory.lowerBound)
      memory.clear(segment.memory.lowerBound + segment.fileSize..<segment.memory.upperBound)
    }
    for (module, place) in zip(parameters.modules, places) {
      try memory.load(module.file, at: 0, count: module.file.size, to: place.lowerBound)
    }
    memory.place(information.bytes(at: table + tableSize), at: table + tableSize)
    state.enterProtectedMode(memory: memory, descriptorTable: table, selectors: .multiboot)
    state.rip = image.entry &+ offset
    state.gpr.0 = magic(image.version)
    state.gpr.3 = table + tableSize
    return LoadedKernel(
      bootProtocol: image.version == .one ? .multiboot : .multiboot2, kernel: kernel, entry: state.rip, modules: places)
  }

  /// How much higher than it says a kernel is loaded, modulo 2^64.
  private static func displacement(
    of image: MultibootImage, in free: FreeMemory, file: BootFile
  ) throws(BootFailure) -> UInt64 {
    guard let relocation = image.relocation else { return 0 }
    let extent = image.extent
    let isGoodAsLinked =
      extent.clamped(to: relocation.range) == extent && extent.lowerBound & (relocation.alignment - 1) == 0
      && free.contains(extent)
    if relocation.hasNoPreference, isGoodAsLinked { return 0 }
    let size = extent.upperBound - extent.lowerBound
    let bounds = relocation.range.clamped(to: PhysicalMemoryMap.legacyArea.upperBound..<reachable.upperBound)
    let place =
      relocation.prefersHighest
      ? free.highest(size, alignment: relocation.alignment, in: bounds)
      : free.lowest(size, alignment: relocation.alignment, in: bounds)
    guard let place else {
      let least = max(bounds.lowerBound, PhysicalMemoryMap.legacyArea.upperBound)
      throw BootFailure(
        file.name, .kernelDoesNotFit(needs: least.addingClamped(size), has: free.largest(in: bounds)))
    }
    return place &- extent.lowerBound
  }

  /// One range for each module, in order.
  private static func placeModules(
    _ parameters: BootParameters, behind kernel: Range<UInt64>, free: inout FreeMemory
  ) throws(BootFailure) -> [Range<UInt64>] {
    var places: [Range<UInt64>] = []
    var start = max(kernel.upperBound, PhysicalMemoryMap.legacyArea.upperBound)
    for module in parameters.modules {
      let file = module.file
      guard file.size > 0 else { throw BootFailure(file.name, .empty) }
      // Where a kernel is at the top of memory, there may still be room below it.
      guard
        let place = free.lowest(file.size, alignment: pageSize, in: start..<reachable.upperBound)
          ?? free.lowest(
            file.size, alignment: pageSize, in: PhysicalMemoryMap.legacyArea.upperBound..<reachable.upperBound)
      else {
        let room = free.largest(in: PhysicalMemoryMap.legacyArea.upperBound..<reachable.upperBound)
        throw BootFailure(file.name, .ramDiskDoesNotFit(size: file.size, room: room))
      }
      let range = place..<place + file.size
      free.remove(range)
      places.append(range)
      start = max(start, range.upperBound)
    }
    return places
  }

  /// A copy of ACPI's root pointer, both revisions of it.
  private static func rootPointer(_ parameters: BootParameters, _ memory: GuestMemory) -> [UInt8] {
    guard let address = parameters.acpiRootPointer else { return [] }
    var bytes = [UInt8](repeating: 0, count: ACPITables.rootPointerSize)
    return bytes.withUnsafeMutableBytes { memory.read(address, into: $0) } ? bytes : []
  }
}
