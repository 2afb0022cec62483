import CHost

/// An attention word that nobody outside knows of.
final class AttentionWord {
  private let storage: UnsafeMutablePointer<UInt32>

  init() {
    // A cache line of its own, as the machine's have.
    storage = UnsafeMutableRawPointer.allocate(byteCount: 64, alignment: 64).bindMemory(to: UInt32.self, capacity: 16)
    storage.initialize(repeating: 0, count: 16)
  }

  deinit { UnsafeMutableRawPointer(storage).deallocate() }

  var word: UnsafePointer<UInt32> { UnsafePointer(storage) }

  func raise(_ bits: CPUAttention) { attentionRaise(storage, bits) }
}
