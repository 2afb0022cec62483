import Machine
import TestSupport

@testable import Devices

/// A machine of local APICs with an I/O APIC and an 8259 pair around them, as on a PC.
final class APICBench {
  let platform: FakePlatform
  let target = RecordedTarget()
  let fabric: InterruptFabric
  let ioapic: IOAPIC
  let pic: PIC

  var clock: FakeClock { platform.clock }

  /// - Parameter isEnabled: software-enables all local APICs.
  init(
    cpuCount: Int = 1, isEnabled: Bool = true, version: IOAPIC.Version = .withEndOfInterrupt,
    clock: FakeClock = FakeClock()
  ) throws {
    platform = try FakePlatform(clock: clock)
    fabric = InterruptFabric(cpuCount: cpuCount, target: target)
    ioapic = IOAPIC(fabric, version: version)
    pic = PIC(output: fabric.line0)
    fabric.externalController = pic
    _ = platform.start(fabric)
    _ = platform.start(ioapic)
    _ = platform.start(pic)
    guard isEnabled else { return }
    for cpu in 0..<cpuCount { write(0xf0, 0x1ff, cpu: cpu) }
  }

  // MARK: xAPIC registers, by offset in the page

  func read(_ offset: UInt64, cpu: Int = 0) -> UInt32 {
    fabric.currentCPU = cpu
    return UInt32(truncatingIfNeeded: fabric.read(region: 0, offset: offset, size: 4))
  }

  func write(_ offset: UInt64, _ value: UInt32, cpu: Int = 0) {
    fabric.currentCPU = cpu
    fabric.write(region: 0, offset: offset, size: 4, value: UInt64(value))
  }

  /// Sends an interprocessor interrupt through ICR.
  func command(_ low: UInt32, destination: UInt32 = 0, cpu: Int = 0) {
    write(0x310, destination << 24, cpu: cpu)
    write(0x300, low, cpu: cpu)
  }

  func endOfInterrupt(cpu: Int = 0) { write(0xb0, 0, cpu: cpu) }

  /// All vectors that a processor gets when it takes and finishes one after another.
  func drain(cpu: Int = 0) -> [UInt8] {
    var vectors: [UInt8] = []
    while let vector = fabric.acknowledge(cpu: cpu) {
      vectors.append(vector)
      endOfInterrupt(cpu: cpu)
      guard vectors.count < 1000 else { break }
    }
    return vectors
  }

  // MARK: Model-specific registers

  @discardableResult func enterX2APIC(cpu: Int = 0) -> Bool {
    let base = fabric.apicBase(cpu: cpu)
    return fabric.writeMSR(0x1b, value: base | 1 << 10, cpu: cpu)
  }

  func readMSR(_ index: UInt32, cpu: Int = 0) -> UInt64? { fabric.readMSR(index, cpu: cpu) }

  @discardableResult func writeMSR(_ index: UInt32, _ value: UInt64, cpu: Int = 0) -> Bool {
    fabric.writeMSR(index, value: value, cpu: cpu)
  }

  // MARK: The I/O APIC's registers

  func readIOAPIC(_ register: UInt64) -> UInt32 {
    ioapic.write(region: 0, offset: 0, size: 4, value: register)
    return UInt32(truncatingIfNeeded: ioapic.read(region: 0, offset: 0x10, size: 4))
  }

  func writeIOAPIC(_ register: UInt64, _ value: UInt32) {
    ioapic.write(region: 0, offset: 0, size: 4, value: register)
    ioapic.write(region: 0, offset: 0x10, size: 4, value: UInt64(value))
  }

  func redirect(_ pin: UInt64, _ entry: UInt64) {
    writeIOAPIC(0x10 + 2 * pin, UInt32(truncatingIfNeeded: entry))
    writeIOAPIC(0x11 + 2 * pin, UInt32(truncatingIfNeeded: entry >> 32))
  }
}
