import CHost
import Devices
import Firmware
import Host
import Logging
import Machine
import Memory

// The catalogue of devices and the wiring between them: the only place that knows what a machine is made of. A new device
// is one function here, or a line in one.
//
// The machine is a PC of the late 1990s as far as ports go (440FX and PIIX chips, interrupt controllers in their usual
// places), which every operating system knows without being told, plus what ACPI tables describe.

/// Builds a PC.
struct MachineBuilder: MachineAssembly {
  let configuration: MachineConfiguration
  let machine: VirtualMachine
  /// The guest's serial ports, for their endpoints.
  let serialPorts: [Serial16550]
  /// The guest's virtio console and balloon; nil: it has none.
  let console: VirtioConsole?
  let balloon: VirtioBalloon?
  /// The guest's display; nil: it has none.
  let display: VGA?
  /// Where the guest's keys go.
  let keyboard: KeyboardController

  private let fabric: InterruptFabric
  private let ioAPIC: IOAPIC
  private let pic: PIC
  private let pciInterrupts: PCIInterruptRouter
  private let pciBus: PCIBus
  private let power: PowerManagement
  private let generation: GenerationIdentifier
  private let rtc: RTC
  private let gate = A20Gate()
  private let bootPaths = BootPaths()
  /// Interrupts 0 and 8.
  private let timerLines: [LegacyTimerLine]
  private let hostBridge: PCIBridge
  private let description: ACPIConfiguration

  /// Puts the machine together. `debugConsole` gets what the guest writes to port 0xe9, `firmwareLog` what firmware
  /// writes to port 0x402; both under the machine lock.
  init(
    _ configuration: MachineConfiguration, loop: EventLoop, log: Logger, debugConsole: @escaping ([UInt8]) -> Void,
    firmwareLog: (([UInt8]) -> Void)? = nil
  ) throws {
    self.configuration = configuration
    machine = try VirtualMachine(
      memory: GuestMemory(
        size: configuration.memory.bytes, readOnly: configuration.guest.readOnly,
        deviceMemory: (configuration.hasDisplay ? VGA.memorySize : 0)
          + UInt64(configuration.variables?.bytes.count ?? 0)), loop: loop,
      inputs: HostInput(), timeStampFrequency: .find(), log: log)
    machine.endsOnReset = configuration.endsOnReset

    fabric = InterruptFabric(cpuCount: configuration.processorCount, target: machine.interruptRouter)
    ioAPIC = IOAPIC(fabric)
    pic = PIC(output: fabric.line0)
    fabric.externalController = pic
    // Pins 16 to 19 of the I/O APIC, as the DSDT says.
    let isaLines = (0..<16).map { [pic, ioAPIC] in Self.line($0, pic, ioAPIC) }
    pciInterrupts = PCIInterruptRouter(inputs: (16..<20).map(ioAPIC.line)) { isaLines[$0] }
    pciBus = PCIBus(mapping: machine.bus, interrupts: pciInterrupts) { [fabric] in
      fabric.sendMessageSignalled(address: $0, data: $1)
    }
    serialPorts = [4, 3].prefix(configuration.serialPortCount).map {
      [pic, ioAPIC] in Serial16550(interrupt: Self.line($0, pic, ioAPIC))
    }
    console = configuration.makeConsole()
    balloon = configuration.makeBalloon()
    description = Self.description(of: configuration)
    let hardware = description.fixedHardware
    power = PowerManagement(
      interrupt: Self.line(Int(hardware.interrupt), pic, ioAPIC), timerWidth: hardware.has32BitTimer ? 32 : 24)
    generation = GenerationIdentifier { [power] in power.raiseGeneralPurposeEvent(ACPITables.identifierEvent) }
    timerLines = [LegacyTimerLine(Self.line(0, pic, ioAPIC)), LegacyTimerLine(Self.line(8, pic, ioAPIC))]
    let clockLine = timerLines[1].chip
    rtc = RTC(
      line: InterruptLine { [power] level in
        clockLine.set(level)
        if level { power.noteAlarm() }
      })
    hostBridge = PCIBridge.hostBridge440FX()
    display =
      configuration.hasDisplay
      ? VGA(
        memory: machine.memory.takeDeviceMemory(VGA.memorySize), startsInTextMode: !configuration.guest.isFirmware)
      : nil
    keyboard = KeyboardController(
      keyboardInterrupt: Self.line(1, pic, ioAPIC), mouseInterrupt: Self.line(12, pic, ioAPIC), a20: gate)

    try addInterruptControllers()
    try addTimers()
    try addPlatform()
    try addPCI()
    try addDisplay()
    try addDisks()
    try addFloppies()
    try addWatchers()
    try addVirtioDevices()
    try addConsoles(debugConsole, firmwareLog)
    try addFirmwareConfiguration()
    try addTestDevices()
    try configuration.addProcessors(to: machine)
    try addVariables()
    machine.reload = reload
    machine.onWake = wakeUp
    if case .firmware(let image) = configuration.guest { image.install(in: machine.memory) }
  }

  /// The wire of an ISA interrupt: to its input of the 8259 pair and to its pin of the I/O APIC. Devices drive their wires
  /// at each access, mostly to the level that they have.
  private static func line(_ interrupt: Int, _ pic: PIC, _ ioAPIC: IOAPIC) -> InterruptLine {
    let old = pic.line(interrupt)
    let new = ioAPIC.line(interrupt == 0 ? 2 : interrupt)
    var current = false
    return InterruptLine { level in
      guard level != current else { return }
      current = level
      old.set(level)
      new.set(level)
    }
  }

  private func line(_ interrupt: Int) -> InterruptLine { Self.line(interrupt, pic, ioAPIC) }

  var powerButton: PowerButton { PowerButton(machine) { [power] in power.pressPowerButton() } }

  var keys: KeyboardController? { keyboard }

  private func addInterruptControllers() throws {
    try machine.addInterruptFabric(fabric)
    try machine.addIOAPIC(ioAPIC)
    machine.add(pic)
    try machine.bus.map(pic, region: 0, ports: 0x20...0x21, offset: 0)
    try machine.bus.map(pic, region: 1, ports: 0xa0...0xa1, offset: 0)
    try machine.bus.map(pic, region: 2, ports: 0x4d0...0x4d1, offset: 0)
  }

  private func addTimers() throws {
    if description.hasHighPrecisionTimer {
      let timer = HPET(line: ioAPIC.line, legacy: timerLines)
      machine.add(timer)
      let address = UInt64(ACPIConfiguration.highPrecisionTimerAddress)
      try machine.bus.map(timer, region: 0, memory: address..<address + HPET.size)
    }
    let pit = PIT(line: timerLines[0].chip)
    machine.add(pit)
    try machine.bus.map(pit, region: 0, ports: 0x40...0x43, offset: 0)
    try machine.bus.map(pit, region: 1, ports: 0x61...0x61, offset: 0)
    machine.add(rtc)
    try machine.bus.map(rtc, region: 0, ports: 0x70...0x71, offset: 0)
    let size = machine.memory.size
    configuration.addClock(to: machine)
    rtc.setEquipment(floppyDrives: configuration.floppies.compactMap { FloppyFormat(size: $0.size)?.drive })
    rtc.setMemorySize(
      below4GiB: min(size, GuestMemory.lowLimit),
      above4GiB: size > GuestMemory.lowLimit ? size - GuestMemory.lowLimit : 0)
    // The order in which SeaBIOS tries kinds of devices: three numbers of four bits, the first in the lowest.
    let order = configuration.bootOrder.map(\.number) + [0, 0, 0]
    rtc.setMemory(0x3d, order[1] << 4 | order[0])
    rtc.setMemory(0x38, order[2] << 4)
  }

  private func addPlatform() throws {
    gate.onChange = { [router = machine.interruptRouter] in router.setAddressLine20(isOpen: $0) }
    machine.add(keyboard)
    try machine.bus.map(keyboard, region: 0, ports: 0x60...0x60, offset: 0)
    try machine.bus.map(keyboard, region: 0, ports: 0x64...0x64, offset: 4)
    let control = SystemControlPort(a20: gate)
    machine.add(control)
    try machine.bus.map(control, region: 0, ports: 0x92...0x92, offset: 0)
    let latch = NumericErrorLatch(interrupt: line(13)) { [router = machine.interruptRouter] in
      router.ignoreNumericErrors()
    }
    machine.add(latch)
    machine.numericErrorLine = latch.input
    try machine.bus.map(latch, region: 0, ports: 0xf0...0xf0, offset: 0)
    let hardware = description.fixedHardware
    machine.add(generation)
    machine.onRestore = { [generation] in generation.renew() }
    machine.add(power)
    try machine.bus.map(power, region: 0, ports: hardware.base...(hardware.base + 63), offset: 0)
    try machine.bus.map(power, region: 1, ports: hardware.commandPort...(hardware.commandPort + 1), offset: 0)
  }

  private func addPCI() throws {
    if configuration.guest.isFirmware {
      let map = ProgrammableAttributeMap(machine.memory)
      hostBridge.pci.onChange = { [unowned hostBridge] in
        map.apply(
          ProgrammableAttributeMap.registers.map { hostBridge.pci.read(UInt8($0)) },
          smram: hostBridge.pci.read(UInt8(ProgrammableAttributeMap.smramRegister)))
      }
    }
    let isaBridge = PCIBridge.isaBridgePIIX3()
    isaBridge.pci.onChange = { [pciInterrupts, unowned isaBridge] in
      pciInterrupts.setRoutes((0x60...0x63).map { isaBridge.pci.read($0) })
    }
    addPCIFunction(hostBridge, at: PCIAddress(device: 0))
    addPCIFunction(isaBridge, at: PCIAddress(device: 1))
    addPCIFunction(
      PCIBridge.powerManagementPIIX4(base: description.fixedHardware.base), at: PCIAddress(device: 1, function: 3))
    let ports = PCIConfigurationPorts(bus: pciBus)
    machine.add(ports)
    try machine.bus.map(ports, region: 0, ports: 0xcf8...0xcff, offset: 0)
  }

  private func addPCIFunction(_ function: any PCIFunction, at address: PCIAddress) {
    machine.add(function)
    pciBus.insert(function, at: address)
  }

  /// The display. Its memory is where a guest's RAM would be, so that this comes behind what the host bridge does there.
  private func addDisplay() throws {
    guard let display else { return }
    addPCIFunction(display, at: PCIAddress(device: 2))
    try machine.bus.map(display, region: 2, ports: 0x3b0...0x3bb, offset: 0)
    try machine.bus.map(display, region: 2, ports: 0x3c0...0x3df, offset: 0x10)
    try machine.bus.map(display, region: 3, memory: VGA.window)
    try machine.bus.map(display, region: 4, ports: 0x1ce...0x1d1, offset: 0)
  }

  /// UEFI's variables, in flash memory right below its code.
  private func addVariables() throws {
    guard let variables = configuration.variables else { return }
    let size = UInt64(variables.bytes.count)
    let end = configuration.guest.readOnly.lowerBound
    let flash = Flash(variables.bytes, memory: machine.memory.takeDeviceMemory(size), at: end - size..<end)
    flash.onChange = { [log = machine.log] offset, bytes in
      do throws(HostFailure) {
        try variables.write(bytes, at: offset)
      } catch {
        log.error("UEFI variables are not kept: \(error.description)")
      }
    }
    machine.add(flash)
    try machine.bus.map(flash, region: 0, memory: end - size..<end)
  }

  /// The disks, each behind the controller of its interface, where there are any.
  private func addDisks() throws {
    for interface in DiskInterface.allCases {
      let disks = configuration.disks.enumerated().filter { $0.element.interface == interface }
      guard !disks.isEmpty else { continue }
      switch interface {
      case .ide:
        let ide = IDEController(
          drives: disks.map { drive($0.element, index: $0.offset, cable: .parallel) }, interrupts: [line(14), line(15)])
        addPCIFunction(ide, at: PCIAddress(device: 1, function: 1))
        for (place, disk) in disks.enumerated() {
          bootPaths.add(disk.element.media, "ide@1,1/drive@\(place / 2)/disk@\(place % 2)")
        }
        for (region, ports) in [0x1f0...0x1f7, 0x3f6...0x3f6, 0x170...0x177, 0x376...0x376].enumerated() {
          try machine.bus.map(
            ide, region: region, ports: UInt16(ports.lowerBound)...UInt16(ports.upperBound), offset: 0)
        }
      case .ahci:
        let controller = AHCIController(drives: disks.map { drive($0.element, index: $0.offset, cable: .serial) })
        let address = try freePCIAddress()
        addPCIFunction(controller, at: address)
        for (place, disk) in disks.enumerated() {
          bootPaths.add(disk.element.media, "\(BootPaths.node(controller, at: address))/drive@\(place)/disk@0")
        }
      case .virtio:
        for (index, disk) in disks {
          let model = configuration.makeVirtioBlock(disk, index: index, for: machine)
          let address = try freePCIAddress()
          addPCIFunction(VirtioPCI(model), at: address)
          bootPaths.add(disk.media, "scsi@\(BootPaths.place(address))/disk@0,0")
        }
      case .nvme:
        for (index, disk) in disks {
          // OVMF makes two pairs of queues and does not ask whether there are so many.
          let controller = NVMeController(
            machine.addDisk(disk.image), serial: disk.serialNumber(at: index),
            queueCount: max(configuration.diskQueueCount, 2))
          let address = try freePCIAddress()
          addPCIFunction(controller, at: address)
          // OVMF knows NVMe disks by the identity of QEMU's controller.
          bootPaths.add(disk.media, "pci8086,5845@\(BootPaths.place(address))/namespace@1,0")
        }
      }
    }
  }

  /// What tells the host that the guest is not well.
  private func addWatchers() throws {
    if let response = configuration.panicResponse {
      machine.panicResponse = response
      let port = PanicPort()
      machine.add(port)
      let number = ACPIConfiguration.panicPort
      try machine.bus.map(port, region: 0, ports: number...number, offset: 0)
    }
    if let response = configuration.watchdogResponse {
      machine.watchdogResponse = response
      addPCIFunction(WatchdogTimer(interrupt: ioAPIC.line(10)), at: try freePCIAddress())
    }
  }

  /// The ISA bus's DMA controller, and the floppy disks that use it.
  private func addFloppies() throws {
    let dma = DMAController()
    machine.add(dma)
    for (region, ports) in [0x00...0x0f, 0xc0...0xdf, 0x80...0x8f].enumerated() {
      try machine.bus.map(dma, region: region, ports: UInt16(ports.lowerBound)...UInt16(ports.upperBound), offset: 0)
    }
    guard !configuration.floppies.isEmpty else { return }
    let controller = FloppyController(
      disks: configuration.floppies.map { machine.addDisk($0) }, dma: dma, interrupt: line(6))
    machine.add(controller)
    try machine.bus.map(controller, region: 0, ports: 0x3f0...0x3f5, offset: 0)
    try machine.bus.map(controller, region: 1, ports: 0x3f7...0x3f7, offset: 0)
    for drive in configuration.floppies.indices { bootPaths.addFloppy("isa@1/fdc@03f0/floppy@\(drive)") }
  }

  private func addVirtioDevices() throws {
    if configuration.hasEntropySource { try addVirtioDevice(VirtioEntropy()) }
    if let console { try addVirtioDevice(console) }
    if let balloon { try addVirtioDevice(balloon) }
  }

  private func addVirtioDevice(_ model: some VirtioModel) throws {
    addPCIFunction(VirtioPCI(model), at: try freePCIAddress())
  }

  private func freePCIAddress() throws -> PCIAddress {
    guard let address = pciBus.freeAddress else {
      throw CommandFailure(description: "there are more devices than a PCI bus has slots: give fewer")
    }
    return address
  }

  /// A drive for an ATA cable; `index` is its place among all disks.
  private func drive(_ disk: DiskConfiguration, index: Int, cable: ATADrive.Cable) -> ATADrive {
    let queue = machine.addDisk(disk.image)
    let serial = disk.serialNumber(at: index)
    return switch disk.media {
    case .disk: .disk(queue, serial: serial, cable: cable)
    case .cdrom: .opticalDrive(queue, serial: serial, cable: cable)
    }
  }

  private func addConsoles(_ debugConsole: @escaping ([UInt8]) -> Void, _ firmwareLog: (([UInt8]) -> Void)?) throws {
    for (port, first) in zip(serialPorts, [0x3f8, 0x2f8] as [UInt16]) {
      machine.add(port)
      try machine.bus.map(port, region: 0, ports: first...(first + 7), offset: 0)
    }
    if let firmwareLog {
      let console = DebugConsole(name: "firmware-log", sink: firmwareLog)
      machine.add(console)
      try machine.bus.map(console, region: 0, ports: 0x402...0x402, offset: 0)
    }
    // The test device has the port.
    guard !configuration.hasTestDevice else { return }
    try configuration.addDebugConsole(to: machine, sink: debugConsole)
  }

  private func addFirmwareConfiguration() throws {
    var items = FirmwareConfigurationItems(
      memory: machine.memory.size, processorCount: configuration.processorCount)
    if configuration.guest.isFirmware {
      for (name, bytes) in firmwareFiles { items.add(name, bytes) }
      items.addWritable(ACPILoaderFiles.identifierAddressName, count: 8) { [generation] bytes in
        generation.place(at: bytes.reversed().reduce(0) { $0 << 8 | UInt64($1) })
      }
    }
    let device = FirmwareConfiguration(items)
    machine.add(device)
    try machine.bus.map(device, region: 0, ports: 0x510...0x511, offset: 0)
    try machine.bus.map(device, region: 1, ports: 0x514...0x51b, offset: 0)
  }

  private var inventory: SMBIOSTables {
    SMBIOSTables(memory: machine.memory.ranges, processorCount: configuration.processorCount)
  }

  /// What firmware asks for by name.
  private var firmwareFiles: [(name: String, bytes: [UInt8])] {
    let ranges = machine.memory.ranges
    var files = [FirmwareFiles.memoryMap(ranges), FirmwareFiles.systemStates(description.fixedHardware)]
    files += ACPILoaderFiles.files(description)
    files += inventory.files
    let order = bootPaths.ordered(configuration.bootOrder)
    if !order.isEmpty { files.append(FirmwareFiles.bootOrder(order)) }
    if let rom = configuration.displayROM {
      files.append(FirmwareFiles.displayROM(rom, vendor: VGA.vendor, device: VGA.device))
    }
    if configuration.panicResponse != nil {
      files.append(FirmwareFiles.panicPort(ACPIConfiguration.panicPort))
    }
    if configuration.hasSerialConsole { files.append(FirmwareFiles.serialConsole(port: 0x3f8)) }
    return files
  }

  private func addTestDevices() throws {
    if configuration.hasTestDevice {
      let device = TestDevice(
        lines: (0..<Int(TestDevice.lineCount)).map { $0 < 16 ? line($0) : ioAPIC.line($0) })
      machine.add(device)
      try machine.bus.map(device, region: 0, ports: 0x2000...(0x2000 + TestDevice.lineCount - 1), offset: 0)
      for (region, port) in zip(1..., [0xe0, 0xe4, 0xe8] as [UInt16]) {
        try machine.bus.map(device, region: region, ports: port...(port + 3), offset: 0)
      }
      try machine.bus.map(device, region: 4, memory: 0xff00_0000..<(0xff00_0000 + TestDevice.memorySize))
    }
    try configuration.addDebugExit(to: machine)
  }

  /// What firmware would do at power-up and after each reset: describe the machine, load the guest, and leave the
  /// processor as the guest expects it. Firmware does it itself.
  private func reload() throws {
    // Firmware tells later where.
    if case .firmware = configuration.guest { generation.place(at: 0) }
    try loader.load(description) {
      MultiProcessorTable.install(description, in: machine.memory)
      InterruptRoutingTable.install(in: machine.memory)
      inventory.install(in: machine.memory)
      generation.place(at: ACPITables.identifierAddress)
      startInterruptControllers()
    }
  }

  /// Leaves the interrupt controllers, which were reset, as firmware would.
  private func startInterruptControllers() {
    fabric.enableVirtualWire()
    // Register 0, which is selected: the identifier that the tables name.
    ioAPIC.write(region: 0, offset: 0x10, size: 4, value: UInt64(description.ioAPICIdentifier) << 24)
  }

  private var loader: GuestLoader { GuestLoader(configuration, machine: machine, serialPorts: serialPorts) }

  /// What firmware would do when the machine wakes from a suspension to RAM.
  private func wakeUp() throws {
    power.wake()
    // Firmware that is the guest's own begins as always, and finds out: by the cause of the shutdown in the clock's memory,
    // and by its variables in the memory that it had put itself into.
    if case .firmware = configuration.guest {
      hostBridge.wake()
      rtc.setMemory(0x0f, 0xfe)
      // SeaBIOS and OVMF leave them as they are then; a kernel that speaks early expects them open.
      loader.openSerialLines()
      return
    }
    loader.enableCaches()
    startInterruptControllers()
    guard BootLoader.wake(memory: machine.memory, state: &machine.cpus[0].state.pointee) else { return try reload() }
    loader.openSerialLines()
  }

  /// What the firmware's tables, or ours, say of the machine.
  private static func description(of configuration: MachineConfiguration) -> ACPIConfiguration {
    var description = ACPIConfiguration(processorCount: configuration.processorCount)
    description.hasDisplay = configuration.hasDisplay
    description.hasFloppy = !configuration.floppies.isEmpty
    description.hasGenerationIdentifier = true
    description.hasPanicPort = configuration.panicResponse != nil
    description.serialPortCount = configuration.serialPortCount
    // Firmware puts devices right behind the RAM.
    description.memoryWindow = UInt32(min(configuration.memory.bytes, GuestMemory.lowLimit))...0xfebf_ffff
    description.hasHighPrecisionTimer = configuration.guest.isFirmware
    // OVMF takes it for granted that the power-management ports are where it would put them (OVMF, PIIX4_PMBA_VALUE).
    if configuration.variables != nil { description.fixedHardware.base = 0xb000 }
    return description
  }
}
