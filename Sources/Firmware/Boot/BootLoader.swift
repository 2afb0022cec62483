import CHost
import Memory
import X86

/// What a kernel is booted with.
public struct BootParameters {
  public var kernel: BootFile
  /// In the order in which the kernel is to see them. For Linux, parts of the initial RAM disk.
  public var modules: [BootModule]
  /// Without a terminator.
  public var commandLine: String
  /// Where `ACPITables.install` has put the root pointer; nil: the machine has no ACPI.
  public var acpiRootPointer: GuestPhysicalAddress?
  /// There is a VGA, in mode 3 with a clear screen.
  public var hasDisplay: Bool

  public init(
    kernel: BootFile, modules: [BootModule] = [], commandLine: String = "",
    acpiRootPointer: GuestPhysicalAddress? = nil, hasDisplay: Bool = false
  ) {
    self.kernel = kernel
    self.modules = modules
    self.commandLine = commandLine
    self.acpiRootPointer = acpiRootPointer
    self.hasDisplay = hasDisplay
  }
}

/// What was loaded where, for messages and tests. Guest-physical.
public struct LoadedKernel: Equatable, Sendable {
  public enum BootProtocol: String, Sendable {
    case linux64 = "Linux, 64-bit entry"
    case linux32 = "Linux, 32-bit entry"
    case pvh = "PVH"
    case multiboot
    case multiboot2 = "multiboot 2"
    case flat = "flat binary, real-address mode"
  }

  public var bootProtocol: BootProtocol
  /// From the lowest to the highest byte that the kernel occupies at its start.
  public var kernel: Range<UInt64>
  public var entry: UInt64
  /// One for each module; for Linux, one for all.
  public var modules: [Range<UInt64>]
}

/// Loads a kernel into guest memory and sets the boot processor up to enter it, in the firmware's stead.
///
/// Which protocol is used is told by the file: a Linux bzImage is entered at its 64-bit entry point (or its 32-bit one if
/// it has no other), a kernel with a multiboot header as that says, another ELF file at the address in its PVH note. So no
/// guest code runs before the kernel, and no BIOS is needed; the price is that a kernel finds no BIOS services:
/// they answer that there is no such function.
///
/// Everything in a kernel file is somebody else's word. Headers are checked before they are used, sizes against the file
/// and addresses against the memory map, in arithmetic that cannot overflow; what does not fit is a `BootFailure`, which
/// names the file. The loader writes to guest memory only after the checks that concern the written part.
///
/// Memory below 1 MiB (see `BootLayout`) holds what is handed to the kernel; kernels are loaded from 1 MiB up, initial
/// RAM disks as high as the kernel can reach. The guest must not be running.
public enum BootLoader {
  /// Loads a kernel and what belongs to it. `state` comes as after a reset, and goes as the protocol wants it.
  public static func load(
    _ parameters: BootParameters, memory: GuestMemory, map: PhysicalMemoryMap, state: inout CPUState
  ) throws(BootFailure) -> LoadedKernel {
    let kernel =
      switch try BootImage.identify(parameters.kernel) {
      case .linux(let header):
        try loadLinux(header, parameters, memory: memory, map: map, state: &state)
      case .multiboot(let image):
        try loadMultiboot(image, parameters, memory: memory, map: map, state: &state)
      case .pvh(let image, let entry):
        try loadPVH(image, entry: entry, parameters, memory: memory, map: map, state: &state)
      }
    if !kernel.kernel.overlaps(BootLayout.biosAreas) { memory.placeBIOSAreas(hasDisplay: parameters.hasDisplay) }
    return kernel
  }

  /// Refuses a command line that no kernel, or not this one, can take. `limit` is the kernel's own, in bytes.
  static func checkCommandLine(_ parameters: BootParameters, limit: Int) throws(BootFailure) {
    let name = parameters.kernel.name
    let room = BootLayout.commandLine.upperBound - BootLayout.commandLine.lowerBound - 1
    let limit = min(limit, Int(room))
    for text in [parameters.commandLine] + parameters.modules.map(\.arguments) {
      guard !text.utf8.contains(0) else { throw BootFailure(name, .commandLineHasNUL) }
      guard text.utf8.count <= limit else {
        throw BootFailure(name, .commandLineTooLong(count: text.utf8.count, limit: limit))
      }
    }
  }

  /// Puts the command line, with its terminator, where the kernel is told to look.
  static func placeCommandLine(
    _ parameters: BootParameters, limit: Int, memory: GuestMemory
  ) throws(BootFailure) {
    try checkCommandLine(parameters, limit: limit)
    memory.place(Array(parameters.commandLine.utf8) + [0], at: BootLayout.commandLine.lowerBound)
  }
}
