import CHost
import Glibc
import Memory
import X86

/// The pages around the stack pointer, as they were at some moment.
///
/// Most of what a short run of code reads after having written it is there, so with these pages put back it can be run
/// again.
final class StackSnapshot {
  private let copies = UnsafeMutableRawPointer.allocate(byteCount: 2 * 4096, alignment: 64)
  /// Guest-physical addresses of the pages; nil: none.
  private var pages: [UInt64?] = [nil, nil]
  /// How far from the stack pointer it matters what is there, in bytes.
  private static let reach: UInt64 = 512

  deinit { copies.deallocate() }

  func take(_ cpu: UnsafeMutablePointer<CPUState>, _ memory: GuestMemory) {
    let reader = CodeReader(memory: memory, state: UnsafePointer(cpu))
    let pointer = cpu.pointee.gpr.4 &+ cpu.pointee.segments.2.base
    let (low, high) = (pointer &- Self.reach, pointer &+ Self.reach)
    save(reader.physical(low), 0, memory)
    save(low >> 12 == high >> 12 ? nil : reader.physical(high), 1, memory)
  }

  func restore(to memory: GuestMemory) {
    for (slot, page) in pages.enumerated() {
      guard let page, let host = memory.writableHostPage(of: GuestPhysicalAddress(page)) else { continue }
      memcpy(host, copies + 4096 * slot, 4096)
    }
  }

  private func save(_ address: UInt64?, _ slot: Int, _ memory: GuestMemory) {
    pages[slot] = nil
    guard let address, let host = memory.writableHostPage(of: GuestPhysicalAddress(address)) else { return }
    pages[slot] = address
    memcpy(copies + 4096 * slot, host, 4096)
  }
}
