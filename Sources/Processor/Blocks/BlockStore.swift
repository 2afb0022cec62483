import CHost
import Memory

/// Decoded blocks by guest-physical address.
final class BlockStore {
  func noteWrite(page: Int, address: UInt64, count: Int) {}
}
