import ArgumentParser
import Devices
import Firmware
import Glibc
import Host
import Lockstep
import Logging
import Machine
import Processor
import Storage

struct RunCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "run", abstract: "Runs a virtual machine.",
    discussion: """
      Without arguments it boots the default guest, a small Linux with a shell, in this terminal. The terminal then \
      belongs to the guest: all keys go to it, Ctrl-c included. `Ctrl-a x` ends the machine, `Ctrl-a h` helps, and \
      `Ctrl-a Ctrl-a` sends Ctrl-a. `Ctrl-a p`, or the signal USR1, presses the machine's power button.

      The exit status is 0 when the guest has switched itself off, 3 when it has crashed (with --no-reboot), 1 when \
      something failed on this side, and 64 when the command line makes no sense.

      Examples:
        ringside run
        ringside run --memory 2G --stats
        ringside run --kernel /boot/vmlinuz --initrd my.cpio.gz --append 'console=ttyS0 quiet'
        ringside run --serial file:boot.log --no-reboot
        ringside run --rng --balloon 0 --console unix:hvc0.sock
      """)

  @Option(help: ArgumentHelp("How guest code is run; 'auto' takes the fastest that works here.", valueName: "engine"))
  var engine = EngineSelection(kind: nil)

  @Option(
    help: ArgumentHelp(
      """
      Run the guest on two engines at once, such as 'interpret,translate', and end with status 1 and a report where \
      they first differ. One processor only.
      """, valueName: "engine,engine"))
  var lockstep: LockstepSelection?

  @Option(
    help: ArgumentHelp(
      "With --lockstep: most instructions between two comparisons. Default: \(LockstepEngine.standardWindow).",
      valueName: "count"))
  var lockstepWindow: Int?

  @Option(
    help: ArgumentHelp(
      """
      What the machine is: 'pc', with all that old systems look for, or 'micro', which has virtio devices in memory, no \
      firmware and no PCI, and starts at once.
      """, valueName: "machine"))
  var machine = MachineKind.pc

  @Option(
    help: ArgumentHelp(
      "Kernel to boot: a Linux bzImage, a multiboot kernel or an ELF file with a PVH note. Default: the default guest's.",
      valueName: "file"))
  var kernel: String?

  @Option(
    help: ArgumentHelp(
      "Initial RAM disk to hand to the kernel. Several become one for Linux, and modules for others.",
      valueName: "file"))
  var initrd: [String] = []

  @Option(
    help: ArgumentHelp(
      "Module to hand to the kernel: a file, and behind a space what is to follow its name. Can be given repeatedly.",
      valueName: "'file text'"))
  var module: [ModuleArgument] = []

  @Option(
    help: ArgumentHelp(
      "The kernel is a file without a header: load it here and run it in real mode (0x7c00, or 07c0:0000).",
      valueName: "address"))
  var flat: RealModeAddress?

  @Option(
    help: ArgumentHelp(
      "Start the machine with 'bios' (SeaBIOS), 'uefi' (OVMF) or a ROM image of yours. Default for a PC with a disk and no kernel: bios.",
      valueName: "firmware"))
  var firmware: FirmwareSelection?

  @Option(
    help: ArgumentHelp(
      "Keep UEFI's variables in this file, which is made if need be. Default: they are gone in the end.",
      valueName: "file"))
  var uefiVars: String?

  @Option(
    help: ArgumentHelp(
      "Write what firmware says of its work, which is much, to this file.", valueName: "file"))
  var firmwareLog: String?

  @Option(
    help: ArgumentHelp(
      """
      A disk: an image or a block device, and by commas if=\(DiskInterface.allCases.map(\.rawValue).joined(separator: "|")), \
      media=disk|cdrom, format=FORMAT, snapshot=on (what the guest writes is dropped at the end), readonly=on, \
      serial=TEXT. Can be given repeatedly.
      """, valueName: "file,…"),
    transform: { try DiskArgument(parsing: $0) })
  var disk: [DiskArgument] = []

  @Option(
    help: ArgumentHelp(
      """
      A floppy disk, 160 KiB to 2.88 MiB: an image, and by commas format=FORMAT, snapshot=on, readonly=on. Given twice, \
      the second is in drive B.
      """, valueName: "file,…"),
    transform: { try DiskArgument(parsingFloppy: $0) })
  var floppy: [DiskArgument] = []

  @Option(
    help: ArgumentHelp(
      """
      Keep what the guest's display shows in this file: text as UTF-8, or, if the name ends in .ppm, a picture as well. \
      Written anew whenever it has changed, a few times a second at most. Gives a kernel that is \
      loaded directly a display in text mode; multiboot kernels and --flat have it in any case.
      """, valueName: "file"))
  var screen: String?

  @Option(
    help: ArgumentHelp(
      """
      Type this on the guest's keyboard. In angle brackets: keys such as <enter>, <esc>, <tab>, <up>, <f12> or <ctrl-c>, \
      <wait TEXT> until the screen shows a text, <pause SECONDS>, and << for an angle bracket.
      """, valueName: "text"),
    transform: { try KeySequence(parsing: $0) })
  var keys: KeySequence?

  @Option(
    help: ArgumentHelp(
      "Kinds of devices that firmware tries to boot from, in order: \(BootDevice.allCases.map(\.rawValue).joined(separator: ", ")).",
      valueName: "kind,…"),
    transform: { try BootOrder(parsing: $0) })
  var boot: BootOrder?

  @Option(help: ArgumentHelp("Command line for the kernel.", valueName: "text"))
  var append = "console=ttyS0"

  @Option(
    help: ArgumentHelp(
      """
      Processor that the guest sees: \(CPUSpecification.modelNames.joined(separator: ", ")), then +feature, -feature \
      and vendor=intel or vendor=amd, by commas, such as 'x86-64-v3,-avx2,+pku'. Features have Linux's names.
      """, valueName: "model"),
    transform: { try ProcessorSelection($0) })
  var cpu = ProcessorSelection.standard

  @Option(help: ArgumentHelp("Number of virtual processors, 1 to 64.", valueName: "count"))
  var cpus = 1

  @Option(help: ArgumentHelp("Memory of the guest: a number with K, M, G or T.", valueName: "size"))
  var memory = MemorySize(bytes: 512 << 20)

  @Option(
    help: ArgumentHelp(
      """
      Where the guest's serial port leads: 'stdio', 'none', 'file:PATH' (written anew) or 'unix:PATH' (a socket). Given \
      twice, the guest has a second one. Default: stdio, unless --console leads there.
      """, valueName: "target"))
  var serial: [SerialTarget] = []

  @Option(
    help: ArgumentHelp(
      "Give the guest a virtio console (Linux: hvc0) that leads to a target such as --serial's.", valueName: "target"))
  var console: SerialTarget?

  @Flag(help: "Give the guest a virtio source of random bytes.")
  var rng = false

  @Option(
    help: ArgumentHelp(
      """
      Give the guest a virtio balloon, and ask it to leave so much memory to this computer (0: none for now; 'ringside \
      balloon' asks for more or less). Pages that are free in the guest are given back in any case.
      """, valueName: "size"))
  var balloon: MemorySize?

  @Option(
    help: ArgumentHelp(
      "Listen at this socket for 'ringside snapshot save' and 'ringside balloon'.", valueName: "socket"))
  var control: String?

  @Option(
    help: ArgumentHelp(
      """
      Add a port by which a guest tells that its kernel has crashed (pvpanic), and do this then: \
      \(FailureResponse.allValueStrings.joined(separator: ", ")). 'end' ends with status 3.
      """, valueName: "action"))
  var panic: FailureResponse?

  @Option(
    help: ArgumentHelp(
      """
      Add a watchdog (i6300esb), and do this when the guest has let it run out: \
      \(FailureResponse.allValueStrings.joined(separator: ", ")). 'end' ends with status 3.
      """, valueName: "action"))
  var watchdog: FailureResponse?

  @Flag(help: "End, instead of starting the guest again, when it resets or crashes.")
  var noReboot = false

  @Option(
    help: ArgumentHelp(
      "Let the guest end the program by writing to this port (such as 0xf4): the exit status is (value << 1) | 1.",
      valueName: "port"))
  var debugExit: PortNumber?

  @Flag(help: "Add what kvm-unit-tests needs: a test device, and a port that ends the program (0xf4).")
  var testDevice = false

  @Flag(
    help: """
      Print how often and why the guest was left, and what it cost, at the end; and what the translator has done.
      """)
  var stats = false

  @Option(
    help: ArgumentHelp(
      "Memory for each virtual processor's translated code, \(CodeCacheSize.limits).", valueName: "size"))
  var codeCache: CodeCacheSize?

  @Flag(help: "Name translated code for 'perf report', in /tmp/perf-PID.map.")
  var perfMap = false

  @Option(
    help: ArgumentHelp(
      "Print each translation of code at this guest-linear address (hexadecimal) beside it on standard error.",
      valueName: "address"))
  var dumpCode: LinearAddress?

  @Option(help: ArgumentHelp("Least important messages to print on standard error.", valueName: "level"))
  var log = LogLevel.warning

  func validate() throws {
    guard 1...CodeWatch.memberLimit ~= cpus else {
      throw ValidationError("--cpus: \(cpus) is not possible: give a number from 1 to \(CodeWatch.memberLimit)")
    }
    if let problem = memory.problem(available: MemoryFacts.read().available) {
      throw ValidationError("--memory: \(problem)")
    }
    try validateLockstep()
    try validateGuest()
    try validateTranslation()
    try validateDisks()
    try validateSerial()
    try validateVirtio()
    try validateMachine()
    if let debugExit, debugExit.value > 0xfffc {
      throw ValidationError("--debug-exit: the device has four ports, so the first can be 0xfffc at most")
    }
  }

  /// Where each serial port leads.
  var serialTargets: [SerialTarget] { serial.isEmpty ? [console == .stdio ? .none : .stdio] : serial }

  private func validateLockstep() throws {
    guard lockstep != nil else {
      if lockstepWindow != nil { throw ValidationError("--lockstep-window: there are no windows without --lockstep") }
      return
    }
    if engine.kind != nil { throw ValidationError("--lockstep: it names the engines itself; give no --engine") }
    if cpus != 1 {
      throw ValidationError(
        "--lockstep: \(cpus) processors are not possible, because nothing orders their accesses to memory the same way "
          + "twice: give --cpus 1")
    }
    if let lockstepWindow, lockstepWindow < 1 {
      throw ValidationError("--lockstep-window: \(lockstepWindow) is not possible: give a number of 1 or more")
    }
    // There are two of it.
    let available = MemoryFacts.read().available
    if let problem = memory.problem(available: available / 2) {
      throw ValidationError("--memory: \(problem); with --lockstep the guest has its memory twice")
    }
  }

  var engineChoice: EngineChoice {
    lockstep.map { .lockstep($0, window: lockstepWindow ?? LockstepEngine.standardWindow) } ?? .single(engine.chosen)
  }

  /// What cannot be given together.
  private func validateGuest() throws {
    let hasModules = !initrd.isEmpty || !module.isEmpty
    if firmware != nil, kernel != nil || hasModules || flat != nil {
      throw ValidationError("--firmware: a ROM image starts by itself; give no --kernel, --flat, --initrd or --module")
    }
    if uefiVars != nil, chosenFirmware != .uefi {
      throw ValidationError("--uefi-vars: only UEFI firmware has variables; give --firmware uefi")
    }
    if boot != nil, chosenFirmware == nil {
      throw ValidationError("--boot: firmware looks for a system to boot, and there is none; give --firmware bios")
    }
    if flat != nil, kernel == nil { throw ValidationError("--flat: name the file to load with --kernel") }
    if flat != nil, hasModules { throw ValidationError("--flat: a file without a header takes no modules") }
  }

  private func validateTranslation() throws {
    if let problem = codeCache?.problem { throw ValidationError("--code-cache: \(problem)") }
    guard !engineChoice.translates else { return }
    for (option, isGiven) in [
      ("--code-cache", codeCache != nil), ("--perf-map", perfMap), ("--dump-code", dumpCode != nil),
    ] where isGiven {
      throw ValidationError("\(option): nothing is translated here; give --engine translate")
    }
  }

  private func validateDisks() throws {
    guard floppy.count <= FloppyController.driveLimit else {
      throw ValidationError(
        "--floppy: \(floppy.count) are too many: there are \(FloppyController.driveLimit) drives")
    }
    for interface in DiskInterface.allCases {
      let count = disk.count { self.interface(of: $0) == interface }
      if let limit = interface.limit, count > limit {
        throw ValidationError("--disk: \(count) disks with if=\(interface.rawValue) are too many: it takes \(limit)")
      }
    }
  }

  private func interface(of disk: DiskArgument) -> DiskInterface { disk.interface ?? machine.standardDiskInterface }

  /// What a small machine does not have.
  private func validateMachine() throws {
    guard machine == .micro else { return }
    for (option, isGiven) in [
      ("--firmware", firmware != nil), ("--screen", screen != nil), ("--keys", keys != nil),
      ("--test-device", testDevice), ("--firmware-log", firmwareLog != nil), ("--floppy", !floppy.isEmpty),
      ("--panic", panic != nil), ("--watchdog", watchdog != nil),
    ] where isGiven {
      throw ValidationError("\(option): a 'micro' machine has nothing of that kind; give --machine pc")
    }
    for disk in disk where !machine.has(interface(of: disk)) {
      throw ValidationError(
        "--disk: a 'micro' machine has no \(interface(of: disk).rawValue): give if=virtio, or --machine pc")
    }
  }

  private func validateSerial() throws {
    let limit = machine == .micro ? 1 : 2
    guard serial.count <= limit else {
      throw ValidationError(
        "--serial: \(serial.count) serial ports are too many: a '\(machine.rawValue)' machine has at most \(limit)")
    }
    if serialTargets.count(where: { $0 == .stdio }) > 1 {
      throw ValidationError("--serial: both ports lead to stdio: give one of them another target")
    }
  }

  private func validateVirtio() throws {
    if let problem = balloon?.balloonProblem(memory: memory) { throw ValidationError("--balloon: \(problem)") }
    if let console, console != .none, serial.contains(console) {
      throw ValidationError("--console: a serial port leads to the same place: give one of them another, or none")
    }
  }

  func run() throws {
    try run(restoring: nil, arguments: Array(CommandLine.arguments.dropFirst(2)))
  }

  /// Runs the machine from its start, or from where it was saved. `arguments` are those that made this command.
  ///
  /// As a clone, it leaves the disks' images alone.
  func run(restoring snapshot: SnapshotFile?, arguments: [String], isClone: Bool = false) throws {
    LoggingSystem.bootstrap { [log] _ in ConsoleLogHandler(level: log.level) }
    try reportingFailures {
      let lines =
        serialTargets.map { ("serial port", "serial", $0) } + (console.map { [("console", "console", $0)] } ?? [])
      if let option = lines.first(where: { $0.2 == .stdio }),
        !StandardDescriptors.isWritable(StandardDescriptors.output)
      {
        throw CommandFailure(
          description: "standard output is closed, and the guest's \(option.0) leads there: "
            + "give --\(option.1) none or --\(option.1) file:PATH, or open it")
      }
      // Opening a file may take as long as somebody likes (a FIFO); until then signals end the process as ever.
      let configuration = try machineConfiguration(cloning: isClone ? snapshot : nil)
      if let snapshot, snapshot.memorySize != memory.bytes {
        throw ValidationError(
          "--memory: the saved machine has \(MemorySize(bytes: snapshot.memorySize)) of memory, and keeps it")
      }
      let recorded = RecordedArguments(arguments, directory: WorkingDirectory.path)
      RunSession.prepare()
      let status: Int32
      do {
        status = try RunSession(arguments: recorded, snapshot: snapshot, isClone: isClone).run(
          configuration, serial: serialTargets, console: console, display: DisplaySession(file: screen, keys: keys),
          firmwareLog: firmwareLog,
          control: control, printsStatistics: stats, log: Logger(label: "ringside"))
      } catch let conflict as BusConflict {
        // The one address that the user chooses.
        throw ValidationError("--debug-exit: \(conflict.description); 0xf4 is free")
      }
      if status != ExitStatus.success { throw ExitCode(status) }
    }
  }

  private func translationOptions() throws -> TranslationOptions {
    var options = TranslationOptions(capacity: (codeCache ?? .standard).bytes)
    options.countsInstructions = stats
    if perfMap { options.symbols = try PerfMap() }
    if let dumpCode {
      options.listing = TranslationOptions.ListingRequest(address: dumpCode.value) { Ringside.say($0) }
    }
    return options
  }

  /// `snapshot` is what the machine is to be a clone of.
  private func machineConfiguration(cloning snapshot: SnapshotFile?) throws -> MachineConfiguration {
    let images = try openDisks(cloning: snapshot)
    let guest = try guestSource()
    let hasDisplay = screen != nil || machine == .pc && guest.expectsDisplay
    if let keys, keys.waits, !hasDisplay {
      throw ValidationError("--keys: <wait …> needs a display; give --screen FILE")
    }
    return MachineConfiguration(
      kind: machine, engine: engineChoice, translation: try translationOptions(), memory: memory, processor: cpu,
      processorCount: cpus,
      guest: guest,
      disks: zip(disk, images).map {
        DiskConfiguration(image: $1, interface: interface(of: $0), media: $0.media, serial: $0.serial)
      },
      floppies: try floppies(images.dropFirst(disk.count)),
      hasEntropySource: rng, hasConsole: console != nil, balloon: balloon,
      hasDisplay: hasDisplay, displayROM: chosenFirmware == nil ? nil : try FirmwareLibrary.displayROM(),
      variables: try variables(), serialPortCount: serialTargets.count,
      hasSerialConsole: serialTargets.first != SerialTarget.none,
      bootOrder: boot?.devices ?? BootDevice.standardOrder,
      panicResponse: panic, watchdogResponse: watchdog, hasTestDevice: testDevice,
      debugExitPort: debugExit?.value ?? (testDevice ? 0xf4 : nil), endsOnReset: noReboot)
  }

  /// OVMF's variables: those of the user's file, which is made where there is none, or a copy that is gone in the end.
  private func variables() throws -> FlashContents? {
    guard chosenFirmware == .uefi else { return nil }
    let initial = try FirmwareLibrary.uefi().variables
    return try uefiVars.map { try FlashContents(path: $0, initial: initial) } ?? FlashContents(initial)
  }

  private func openDisks(cloning snapshot: SnapshotFile?) throws -> [any DiskImage] {
    let names = DiskArgument.snapshotNames(of: disk, floppies: floppy, on: machine, in: snapshot?.disks ?? [])
    return try zip(disk + floppy, names).map { disk, name in
      try name.map { try disk.openClone(of: $0) { Ringside.report($0) } } ?? disk.open { Ringside.report($0) }
    }
  }

  /// Refuses what no floppy disk is as large as.
  private func floppies(_ images: some Sequence<any DiskImage>) throws -> [any DiskImage] {
    try images.map { image in
      guard FloppyFormat(size: image.size) != nil else {
        let sizes = Set(FloppyFormat.all.map { $0.size >> 10 }).sorted().map { "\($0)" }.joined(separator: ", ")
        throw CommandFailure(
          description: "'\(image.name)' has \(image.size) bytes, but floppy disks have \(sizes) KiB")
      }
      return image
    }
  }

  /// Firmware to start with; nil: a kernel is loaded.
  private var chosenFirmware: FirmwareSelection? {
    firmware ?? (machine == .pc && kernel == nil && !(disk + floppy).isEmpty ? .bios : nil)
  }

  private func guestSource() throws -> GuestSource {
    switch chosenFirmware {
    case .bios: return .firmware(try FirmwareLibrary.bios())
    case .uefi: return .firmware(try FirmwareLibrary.uefi().code)
    case .file(let path): return .firmware(try FirmwareImage(BootFile(path: path)))
    case nil: break
    }
    if let flat, let kernel { return .flat(try BootFile(path: kernel), flat) }
    let guest = kernel == nil ? try GuestFiles.find() : nil
    let ramDisks = initrd.isEmpty ? [guest?.initialRAMDisk].compactMap(\.self) : initrd
    var modules: [BootModule] = []
    for path in ramDisks { modules.append(BootModule(try BootFile(path: path))) }
    for module in module { modules.append(BootModule(try BootFile(path: module.path), arguments: module.arguments)) }
    return .kernel(try BootFile(path: kernel ?? guest?.kernel ?? ""), modules: modules, commandLine: append)
  }
}
