import CHost
import Glibc

/// A guest of three instructions that counts down, for measuring KVM.
enum KVMProbe {
  /// `1: dec ecx; jnz 1b; hlt` in real mode.
  private static let program: [UInt8] = [0x66, 0x49, 0x75, 0xfc, 0xf4]
  private static let origin: UInt64 = 0x1000

  /// Instructions per second. Takes a few milliseconds, whether KVM is fast or not.
  static func run(_ device: Int32) throws(HostFailure) -> UInt64 {
    let machine = hostControl(device, KVMCreateVM, 0)
    guard machine >= 0 else { throw HostFailure("create a KVM virtual machine") }
    defer { close(machine) }
    guard let page = mmap(nil, hostPageSize, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0),
      page != MAP_FAILED
    else { throw HostFailure("map memory for KVM") }
    defer { munmap(page, hostPageSize) }
    page.copyMemory(from: program, byteCount: program.count)
    var region = kvm_userspace_memory_region(
      slot: 0, flags: 0, guest_phys_addr: origin, memory_size: UInt64(hostPageSize),
      userspace_addr: UInt64(UInt(bitPattern: page)))
    try call(machine, KVMSetUserMemoryRegion, &region, "give KVM memory")

    let processor = hostControl(machine, KVMCreateVCPU, 0)
    guard processor >= 0 else { throw HostFailure("create a KVM virtual processor") }
    defer { close(processor) }
    let size = Int(hostControl(device, KVMGetVCPUMapSize, 0))
    guard size >= MemoryLayout<kvm_run>.size,
      let area = mmap(nil, size, PROT_READ | PROT_WRITE, MAP_SHARED, processor, 0),
      area != MAP_FAILED
    else { throw HostFailure("map KVM's run area") }
    defer { munmap(area, size) }

    var special = kvm_sregs()
    try call(processor, KVMGetSpecialRegisters, &special, "read KVM's registers")
    special.cs.base = 0
    special.cs.selector = 0
    try call(processor, KVMSetSpecialRegisters, &special, "set KVM's registers")
    // Few rounds tell an emulating KVM from hardware; hardware then gets enough of them to drown the entry's cost.
    _ = try time(processor, area, rounds: 16)
    let first = try time(processor, area, rounds: 1000)
    return first >= KVMFacts.slow / 10 ? try time(processor, area, rounds: 2_000_000) : first
  }

  private static func time(
    _ processor: Int32, _ area: UnsafeMutableRawPointer, rounds: UInt64
  ) throws(HostFailure) -> UInt64 {
    var registers = kvm_regs()
    registers.rip = origin
    registers.rcx = rounds
    registers.rflags = 2
    try call(processor, KVMSetRegisters, &registers, "set KVM's registers")
    let start = MonotonicTime.now
    while hostControl(processor, KVMRun, 0) != 0 {
      guard errno == EINTR || errno == EAGAIN else { throw HostFailure("run a guest in KVM") }
    }
    let duration = max(1, MonotonicTime.now &- start)
    let reason = area.load(fromByteOffset: MemoryLayout<kvm_run>.offset(of: \.exit_reason)!, as: UInt32.self)
    guard reason == UInt32(KVM_EXIT_HLT) else { throw HostFailure("run a guest in KVM", code: EIO) }
    return rounds * 2 * 1_000_000_000 / duration
  }

  private static func call<Argument>(
    _ descriptor: Int32, _ request: UInt, _ argument: inout Argument, _ action: String
  ) throws(HostFailure) {
    let result = withUnsafeMutablePointer(to: &argument) {
      hostControl(descriptor, request, UInt(bitPattern: $0))
    }
    guard result == 0 else { throw HostFailure(action) }
  }
}
