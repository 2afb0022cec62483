import CHost
import Glibc
import Machine
import Memory
import X86

/// State and memory of a processor that does what the machine's own does.
final class SecondProcessor {
  let memory: GuestMemory
  let state: UnsafeMutablePointer<CPUState>
  let attention = AttentionWord()

  init(of context: EngineContext) throws {
    memory = try GuestMemory(
      size: context.memory.size, readOnly: context.memory.readOnly, deviceMemory: context.memory.deviceMemorySize)
    context.memory.observeRemapping { [weak memory, unowned original = context.memory] change in
      memory?.takeOver(change, from: original)
    }
    let block = UnsafeMutableRawPointer.allocate(byteCount: MemoryLayout<CPUState>.size, alignment: 64)
    memset(block, 0, MemoryLayout<CPUState>.size)
    state = block.bindMemory(to: CPUState.self, capacity: 1)
    StateLayout.copy(from: context.state, to: state)
    state.pointee.engine.attention = attention.word
  }

  deinit { UnsafeMutableRawPointer(state).deallocate() }

  /// From now on, what is written to `original` from outside is written here too, and `engine` hears of writes to code.
  func mirror(_ original: GuestMemory, into engine: any ExecutionEngine) {
    // Called by whoever writes, as any engine's `invalidate` may be.
    nonisolated(unsafe) let engine = engine
    memory.onProtectedWrite = { range in engine.invalidate(range) }
    original.onOutsideWrite = { [memory, unowned original] range in
      let address = GuestPhysicalAddress(range.lowerBound)
      guard let offset = original.writableOffset(of: address) else { return }
      let bytes = UnsafeRawBufferPointer(start: original.base + Int(offset), count: range.count)
      _ = memory.write(address, from: bytes)
    }
  }

  func endMirroring(_ original: GuestMemory) {
    original.onOutsideWrite = nil
    memory.onProtectedWrite = nil
  }

  /// Takes over what was there before `mirror`, ROM, and the map of pages.
  func copyMemory(from original: GuestMemory) {
    let contents = original.contents
    for page in 0..<contents.count >> 12 where original.dirty[page] != 0 {
      memcpy(memory.base + page << 12, contents.baseAddress! + page << 12, 4096)
      memory.dirty[page] = 1
    }
    memcpy(
      memory.base + Int(memory.size), original.base + Int(original.size), Int(original.mappedSize - original.size))
    memory.takeOver(.everything, from: original)
  }
}
