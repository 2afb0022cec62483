import Host
import Logging
import X86

/// Ports and guest-physical ranges on the way to their devices.
///
/// Ports are found in a table with one entry a port, memory in sorted ranges, tried first where the last access went.
/// Where nothing answers, reads give all ones and writes are lost, as on a PC's bus; debug logging tells of it, a few
/// times a second. An access that is not wholly inside one region is split into bytes, as the ISA bus does.
///
/// Fixed places are mapped before the machine runs; regions that the guest moves (PCI) are tried after them, in the order
/// in which they were placed first. Used under the machine lock.
public final class Bus: BusMapping {
  private let log: Logger
  private let logsUnclaimed: Bool
  private var unclaimed = RateLimiter(perSecond: 10)

  /// Index into `portRoutes` for each port; zero: nothing.
  private var ports = [UInt16](repeating: 0, count: 1 << 16)
  private var portRoutes: [BusRoute?] = [nil]
  /// By address.
  private var memoryRoutes: [BusRoute] = []
  private var lastMemoryRoute = 0
  /// Regions that the guest moves: few, and found one after another.
  private var movablePorts: [BusRoute] = []
  private var movableMemory: [BusRoute] = []

  public init(log: Logger) {
    self.log = log
    logsUnclaimed = log.logLevel <= .debug
  }

  public func map(
    _ device: any Device, region: Int, ports range: ClosedRange<UInt16>, offset: UInt64
  ) throws(BusConflict) {
    for port in range {
      guard let other = portRoutes[Int(ports[Int(port)])] else { continue }
      throw BusConflict("port \(hexadecimal(UInt64(port))) is claimed by both \(other.device.name) and \(device.name)")
    }
    // Each route has at least one port of its own, so the index fits.
    let index = UInt16(portRoutes.count)
    portRoutes.append(
      BusRoute(
        device: device, region: region, first: UInt64(range.lowerBound), last: UInt64(range.upperBound), offset: offset)
    )
    for port in range { ports[Int(port)] = index }
  }

  public func map(_ device: any Device, region: Int, memory range: Range<UInt64>) throws(BusConflict) {
    guard !range.isEmpty else { throw BusConflict("\(device.name) claims an empty range of memory") }
    let route = BusRoute(
      device: device, region: region, first: range.lowerBound, last: range.upperBound - 1, offset: 0)
    if let other = memoryRoutes.first(where: { $0.first <= route.last && route.first <= $0.last }) {
      throw BusConflict(
        "memory at \(hexadecimal(max(other.first, route.first))) is claimed by both \(other.device.name) and \(device.name)"
      )
    }
    memoryRoutes.append(route)
    memoryRoutes.sort { $0.first < $1.first }
  }

  public func place(_ device: any Device, region: Int, at placement: BusPlacement?) {
    movablePorts.removeAll { $0.device === device && $0.region == region }
    movableMemory.removeAll { $0.device === device && $0.region == region }
    switch placement {
    case .ports(let range):
      movablePorts.append(
        BusRoute(
          device: device, region: region, first: UInt64(range.lowerBound), last: UInt64(range.upperBound), offset: 0))
    case .memory(let range) where !range.isEmpty:
      movableMemory.append(
        BusRoute(device: device, region: region, first: range.lowerBound, last: range.upperBound - 1, offset: 0))
    case .memory, nil: break
    }
  }

  /// IN. `size` is 1, 2 or 4.
  public func readPort(_ port: UInt16, size: Int) -> UInt64 {
    if let route = portRoute(port), route.covers(UInt64(port), size: size) {
      return route.read(UInt64(port), size: size)
    }
    guard size > 1, claimsAny(port, size) else {
      noteUnclaimed { "read of \(size) bytes from port \(hexadecimal(UInt64(port)))" }
      return allOnes(size)
    }
    var value: UInt64 = 0
    for index in 0..<size {
      let byte = readPort(port &+ UInt16(index), size: 1)
      value |= (byte & 0xff) << UInt64(index * 8)
    }
    return value
  }

  /// OUT. `size` is 1, 2 or 4.
  public func writePort(_ port: UInt16, size: Int, value: UInt64) {
    if let route = portRoute(port), route.covers(UInt64(port), size: size) {
      return route.write(UInt64(port), size: size, value: value & allOnes(size))
    }
    guard size > 1, claimsAny(port, size) else {
      return noteUnclaimed { "write of \(hexadecimal(value)) (\(size) bytes) to port \(hexadecimal(UInt64(port)))" }
    }
    for index in 0..<size { writePort(port &+ UInt16(index), size: 1, value: value >> UInt64(index * 8) & 0xff) }
  }

  /// A load from memory that is not RAM. `size` is 1, 2, 4 or 8.
  public func readMemory(_ address: GuestPhysicalAddress, size: Int) -> UInt64 {
    if let route = memoryRoute(address.rawValue), route.covers(address.rawValue, size: size) {
      return route.read(address.rawValue, size: size)
    }
    guard size > 1, memoryRoute(address.rawValue) != nil || memoryRoute(address.rawValue &+ UInt64(size - 1)) != nil
    else {
      noteUnclaimed { "read of \(size) bytes from \(address)" }
      return allOnes(size)
    }
    var value: UInt64 = 0
    for index in 0..<UInt64(size) { value |= (readMemory(address &+ index, size: 1) & 0xff) << (index * 8) }
    return value
  }

  /// A store to memory that is not RAM. `size` is 1, 2, 4 or 8.
  public func writeMemory(_ address: GuestPhysicalAddress, size: Int, value: UInt64) {
    if let route = memoryRoute(address.rawValue), route.covers(address.rawValue, size: size) {
      return route.write(address.rawValue, size: size, value: value & allOnes(size))
    }
    guard size > 1, memoryRoute(address.rawValue) != nil || memoryRoute(address.rawValue &+ UInt64(size - 1)) != nil
    else { return noteUnclaimed { "write of \(hexadecimal(value)) (\(size) bytes) to \(address)" } }
    for index in 0..<UInt64(size) { writeMemory(address &+ index, size: 1, value: value >> (index * 8) & 0xff) }
  }

  /// Name of the device that answers at a port or an address, for reports.
  public func deviceName(port: UInt16) -> String? { portRoute(port)?.device.name }

  /// Name of a device on the page of `address`.
  public func deviceName(page address: UInt64) -> String? {
    func isOnPage(_ route: BusRoute) -> Bool { route.first <= address | 0xfff && address & ~0xfff <= route.last }
    return (memoryRoutes.first(where: isOnPage) ?? movableMemory.first(where: isOnPage))?.device.name
  }

  private func claimsAny(_ port: UInt16, _ size: Int) -> Bool {
    (0..<UInt16(size)).contains { portRoute(port &+ $0) != nil }
  }

  private func portRoute(_ port: UInt16) -> BusRoute? {
    let index = ports[Int(port)]
    guard index == 0 else { return portRoutes[Int(index)] }
    return movablePorts.first { $0.first <= UInt64(port) && UInt64(port) <= $0.last }
  }

  private func memoryRoute(_ address: UInt64) -> BusRoute? {
    if lastMemoryRoute < memoryRoutes.count {
      let route = memoryRoutes[lastMemoryRoute]
      if address >= route.first && address <= route.last { return route }
    }
    var (low, high) = (0, memoryRoutes.count)
    while low < high {
      let middle = (low + high) / 2
      if memoryRoutes[middle].last < address { low = middle + 1 } else { high = middle }
    }
    guard low < memoryRoutes.count, memoryRoutes[low].first <= address else {
      return movableMemory.first { $0.first <= address && address <= $0.last }
    }
    lastMemoryRoute = low
    return memoryRoutes[low]
  }

  private func noteUnclaimed(_ what: () -> String) {
    guard logsUnclaimed, let held = unclaimed.pass() else { return }
    log.debug("\(what()), where nothing answers\(held > 0 ? " (and \(held) more)" : "")")
  }
}

/// The value of a read that nobody answers.
func allOnes(_ size: Int) -> UInt64 { size >= 8 ? ~0 : 1 << UInt64(size * 8) &- 1 }

func hexadecimal(_ value: UInt64) -> String { "0x" + String(value, radix: 16) }
