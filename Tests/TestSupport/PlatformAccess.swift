import Foundation
import Machine

extension Device {
  /// Reads a register, by default a byte of region 0.
  public func peek(_ offset: UInt64, size: Int = 1, region: Int = 0) -> UInt64 {
    read(region: region, offset: offset, size: size)
  }

  /// Writes a register, by default a byte of region 0.
  public func poke(_ offset: UInt64, _ value: UInt64, size: Int = 1, region: Int = 0) {
    write(region: region, offset: offset, size: size, value: value)
  }

  /// What a snapshot file would give back: the device's state, written out and read again.
  public func storedState() throws -> State {
    try JSONDecoder().decode(State.self, from: JSONEncoder().encode(save()))
  }

  /// Throws `count` random accesses at regions 0 and 1, in range and out of it, of all sizes; `between` is called before
  /// each. The device has passed if the process is still there.
  public func withstand(
    _ count: Int, seed: UInt64, offsets: UInt64, between: (inout SeededRandom) -> Void = { _ in }
  ) {
    var random = SeededRandom(seed: seed)
    for _ in 0..<count {
      between(&random)
      let region = Int.random(in: 0...1, using: &random)
      // Now and then an offset that is far out.
      let offset =
        Int.random(in: 0..<64, using: &random) == 0 ? random.next() : UInt64.random(in: 0..<offsets, using: &random)
      let size = [1, 2, 4, 8].randomElement(using: &random)!
      if Bool.random(using: &random) {
        _ = read(region: region, offset: offset, size: size)
      } else {
        write(region: region, offset: offset, size: size, value: random.next())
      }
    }
  }
}
