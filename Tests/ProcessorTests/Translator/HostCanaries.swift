import Foundation
import Memory

/// Pages of the host before and behind a guest's RAM, full of known bytes.
///
/// Where something else has these pages they are left alone.
final class HostCanaries {
  private var pages: [UnsafeMutableRawPointer] = []
  private static let value: UInt64 = 0xcaca_0a1e_cafe_f00d
  private static let size = 1 << 16

  init(around memory: GuestMemory) {
    guard let start = memory.hostPage(of: .init(0)) else { return }
    for place in [start - Self.size, start + Int(memory.size)] {
      // MAP_FIXED_NOREPLACE.
      let flags = MAP_PRIVATE | MAP_ANONYMOUS | 0x10_0000
      guard let page = mmap(place, Self.size, PROT_READ | PROT_WRITE, flags, -1, 0), page == place else { continue }
      for offset in stride(from: 0, to: Self.size, by: 8) {
        page.storeBytes(of: Self.value, toByteOffset: offset, as: UInt64.self)
      }
      pages.append(page)
    }
  }

  var areUntouched: Bool {
    pages.allSatisfy { page in
      stride(from: 0, to: Self.size, by: 8).allSatisfy { page.load(fromByteOffset: $0, as: UInt64.self) == Self.value }
    }
  }

  deinit {
    for page in pages { munmap(page, Self.size) }
  }
}
