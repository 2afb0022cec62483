import CHost
import Glibc
import Machine
import Memory
import Processor
import X86

/// One engine, its state and its memory, for one thread at a time. The state lies between canaries; the memory has
/// unmapped pages behind it.
final class GuestBench: @unchecked Sendable {
  let memory: GuestMemory
  let cpu: UnsafeMutablePointer<CPUState>
  let engine: any ExecutionEngine
  private let block: UnsafeMutableRawPointer
  private static let margin = 4096
  private static let canary: UInt8 = 0xa5

  /// Size of all that is the architecture's in a `CPUState`.
  static let stateSize = MemoryLayout<CPUState>.offset(of: \CPUState.engine)!

  init(memory: GuestMemory, scenario: Scenario, codeWatch: CodeWatch? = nil) {
    self.memory = memory
    let size = MemoryLayout<CPUState>.size + 2 * Self.margin
    block = .allocate(byteCount: size, alignment: 4096)
    memset(block, Int32(Self.canary), size)
    memset(block + Self.margin, 0, MemoryLayout<CPUState>.size)
    cpu = (block + Self.margin).bindMemory(to: CPUState.self, capacity: 1)
    engine = SoftwareEngine(
      memory: memory, model: scenario.model, codeWatch: codeWatch, translation: scenario.translation)
    cpu.pointee.powerUp(isBootstrap: true)
    memory.onProtectedWrite = { [unowned self] range in engine.invalidate(range) }
  }

  deinit {
    memory.onProtectedWrite = nil
    block.deallocate()
  }

  /// Whether anything around the state was written.
  var hasLostCanary: Bool {
    let bytes = UnsafeRawBufferPointer(start: block, count: MemoryLayout<CPUState>.size + 2 * Self.margin)
    return bytes[..<Self.margin].contains { $0 != Self.canary }
      || bytes[(Self.margin + MemoryLayout<CPUState>.size)...].contains { $0 != Self.canary }
  }

  /// A copy of the architecture's part of the state.
  var snapshot: [UInt8] {
    // Scratch space of the engine; the page pointers are derived from CR3 and memory, and compared through it.
    cpu.pointee.temporary = (0, 0)
    return [UInt8](UnsafeRawBufferPointer(start: cpu, count: Self.stateSize))
  }
}
