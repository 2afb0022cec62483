import Devices
import Machine
import TestSupport

/// A guest that misuses a device: its registers, its queues, and the memory that it reads them from, at any moment. The
/// device may do what it likes with that, but not trap; and after a reset an honest driver is served.
struct DeviceRun {
  enum Kind: CaseIterable {
    case ide, ahci, nvme, blockPCI, blockMMIO, consolePCI, consoleMMIO, entropyPCI, entropyMMIO, balloonPCI, balloonMMIO
  }

  let seed: UInt64
  var kind: Kind { Kind.allCases[Int(seed % UInt64(Kind.allCases.count))] }
  private static let steps = 1500

  /// Returns how many requests have reached a disk.
  func run() throws -> Int {
    let bench = try DeviceBench(seed: seed)
    let kind = kind
    switch kind {
    case .ide, .ahci: try drive(bench, isAHCI: kind == .ahci)
    case .nvme: try nvme(bench)
    case .blockPCI: try virtio(bench, pci(bench, Self.block(bench)), isPCI: true, queues: 2, kind)
    case .blockMMIO: try virtio(bench, mmio(bench, Self.block(bench)), isPCI: false, queues: 2, kind)
    case .consolePCI: try virtio(bench, pci(bench, VirtioConsole()), isPCI: true, queues: 2, kind)
    case .consoleMMIO: try virtio(bench, mmio(bench, VirtioConsole()), isPCI: false, queues: 2, kind)
    case .entropyPCI: try virtio(bench, pci(bench, VirtioEntropy()), isPCI: true, queues: 1, kind)
    case .entropyMMIO: try virtio(bench, mmio(bench, VirtioEntropy()), isPCI: false, queues: 1, kind)
    case .balloonPCI: try virtio(bench, pci(bench, VirtioBalloon()), isPCI: true, queues: 2, kind)
    case .balloonMMIO: try virtio(bench, mmio(bench, VirtioBalloon()), isPCI: false, queues: 2, kind)
    }
    return bench.disk.requests.count + bench.disc.requests.count
  }

  private static func block(_ bench: DeviceBench) -> VirtioBlock {
    VirtioBlock(bench.disk, serial: "fuzz", queueCount: 2)
  }

  private func pci<Model: VirtioModel>(_ bench: DeviceBench, _ model: Model) -> VirtioPCI<Model> {
    let device = bench.platform.start(VirtioPCI(model))
    device.pci.write(4, 7)
    return device
  }

  private func mmio<Model: VirtioModel>(_ bench: DeviceBench, _ model: Model) -> VirtioMMIO<Model> {
    bench.platform.start(VirtioMMIO(model, interrupt: InterruptLine { _ in }))
  }

  private func virtio(
    _ bench: DeviceBench, _ device: some Device, isPCI: Bool, queues: Int, _ kind: Kind
  ) throws {
    let guest = VirtioGuest(bench, device, isPCI: isPCI, queueCount: queues)
    guest.start(isWild: false)
    for _ in 0..<Self.steps {
      switch bench.random.below(40) {
      case 0: guest.start(isWild: true)
      case 1: bench.scramble()
      case 2: try bench.roundTrip(device)
      case 3, 4: bench.access(device, regions: isPCI ? 3 : 1, offsets: isPCI ? 0x4000 : 0x140)
      case 5...18: bench.disturb()
      default:
        guest.offerAnything()
        if guest.needsReset, bench.random.oneIn(2) { guest.start(isWild: true) }
      }
    }
    bench.settle()
    if isPCI, let function = device as? any PCIFunction { function.pci.write(4, 7) }
    guest.start(isWild: false)
    let isServed =
      switch kind {
      case .blockPCI, .blockMMIO: guest.readsSector(5)
      // The second queue: what the guest prints. The first: randomness, or pages that it gives up.
      case .consolePCI, .consoleMMIO: guest.takesBuffer(1, isWritable: false)
      case .entropyPCI, .entropyMMIO: guest.takesBuffer(0, isWritable: true)
      default: guest.takesBuffer(0, isWritable: false)
      }
    guard isServed else { throw GuestFailure("\(kind) does not serve an honest driver any more") }
  }

  private func nvme(_ bench: DeviceBench) throws {
    let guest = NVMeGuest(bench)
    try misuse(bench, guest, guest.device, accesses: 3...5, regions: 3, offsets: 0x1100)
    guest.device.reset()
    guest.device.pci.write(4, 6)
    guest.start()
    guard guest.readsSector(5) else { throw GuestFailure("NVMe does not serve an honest driver any more") }
  }

  private func drive(_ bench: DeviceBench, isAHCI: Bool) throws {
    let guest = DriveGuest(bench, isAHCI: isAHCI)
    try misuse(
      bench, guest, guest.device, accesses: 3...6, regions: isAHCI ? 2 : 6, offsets: isAHCI ? 0x300 : 16)
    guest.start()
    guard guest.readsSector(5) else {
      throw GuestFailure("\(isAHCI ? "AHCI" : "IDE") does not serve an honest driver any more")
    }
  }

  /// A disk controller's guest does anything, in any order. `accesses` of 40 steps are wild accesses to registers.
  private func misuse(
    _ bench: DeviceBench, _ guest: any DiskControllerGuest, _ device: some Device, accesses: ClosedRange<Int>,
    regions: Int, offsets: UInt64
  ) throws {
    guest.start()
    for _ in 0..<Self.steps {
      switch bench.random.below(40) {
      case 0, 20, 21: guest.start()
      case 1: bench.scramble()
      case 2: try bench.roundTrip(device)
      case accesses: bench.access(device, regions: regions, offsets: offsets)
      case ...18: bench.disturb()
      default: guest.submitAnything()
      }
    }
    bench.settle()
  }
}

/// A guest with a driver of a disk controller, honest or not.
protocol DiskControllerGuest: AnyObject {
  func start()
  func submitAnything()
}
