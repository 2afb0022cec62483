/// One device's region at one place on the bus.
struct BusRoute {
  let device: any Device
  let region: Int
  /// First and last address that it answers.
  let first: UInt64
  let last: UInt64
  /// The device's offset at `first`.
  let offset: UInt64

  func read(_ address: UInt64, size: Int) -> UInt64 {
    device.read(region: region, offset: offset &+ (address &- first), size: size)
  }

  func write(_ address: UInt64, size: Int, value: UInt64) {
    device.write(region: region, offset: offset &+ (address &- first), size: size, value: value)
  }

  /// Whether all of `size` bytes at `address` are this route's.
  func covers(_ address: UInt64, size: Int) -> Bool {
    address >= first && address <= last && last &- address >= UInt64(size - 1)
  }
}
