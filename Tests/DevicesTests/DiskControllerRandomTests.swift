import Machine
import Memory
import TestSupport
import Testing
import X86

@testable import Devices

/// Guests that write anything into the registers of disk controllers, at any time, with anything in memory: nothing may
/// trap, nothing may be written outside of the disk, and after a reset the drive works.
@Suite struct DiskControllerRandomTests {
  /// Commands that lead somewhere, among all others.
  private static let commands: [UInt64] = [
    0x06, 0x20, 0x24, 0x25, 0x29, 0x2f, 0x30, 0x34, 0x35, 0x39, 0x3d, 0x60, 0x61, 0x90, 0x91, 0xa0, 0xa1, 0xb0, 0xc4,
    0xc5,
    0xc6, 0xc8, 0xca, 0xe4, 0xe7, 0xe8, 0xec, 0xef, 0x08,
  ]

  /// INQUIRY, READ and others that drives know.
  private static let packetCommands: [UInt8] = [0x00, 0x03, 0x12, 0x1b, 0x25, 0x28, 0x28, 0x43, 0x46, 0x4a, 0x5a, 0xa8]

  /// A packet command, half of them with numbers that make sense for a read.
  private func packet(_ random: inout SeededRandom) -> [UInt8] {
    var packet = (0..<12).map { _ in UInt8(truncatingIfNeeded: random.next() % 8 == 0 ? random.next() : 0) }
    if random.next() & 1 == 0 {
      packet = [UInt8](repeating: 0, count: 12)
      packet[5] = UInt8(random.next() % 16)
      packet[8] = UInt8(random.next() % 4)
    }
    packet[0] = Self.packetCommands.randomElement(using: &random)!
    return packet
  }

  private func scramble(_ memory: GuestMemory, _ random: inout SeededRandom) {
    let address = random.next() % (memory.size - 8)
    let low = UInt64.random(in: 0...3, using: &random) == 0 ? random.next() : random.next() % memory.size
    let value = random.next() % 2 == 0 ? low | random.next() << 40 : low
    _ = memory.store(value, at: GuestPhysicalAddress(address & ~7))
  }

  private func disturb(_ disks: [FakeBlockBackend], _ random: inout SeededRandom) {
    let disk = disks.randomElement(using: &random)!
    switch random.next() % 8 {
    case 0: disk.failure = { _ in .failed }
    case 1: disk.failure = { $0.operation == .write ? .noSpace : nil }
    case 2: disk.failure = nil
    default: if disk.pendingCount > 0 { disk.complete(Int.random(in: 0..<disk.pendingCount, using: &random)) }
    }
  }

  @Test(arguments: 1...4 as ClosedRange<UInt64>) func ide(seed: UInt64) throws {
    var random = SeededRandom(seed: seed)
    let bench = try IDEBench()
    for step in 0..<60_000 {
      let region = Int.random(in: 0...5, using: &random)
      switch random.next() % 16 {
      case 0: scramble(bench.platform.memory, &random)
      case 1, 2: disturb([bench.disk, bench.disc], &random)
      case 3: bench.ide.poke(0, random.next() & 0x0f, region: region | 1)
      case 4:
        let command = Self.commands.randomElement(using: &random)!
        if random.next() & 1 == 0 {
          bench.ide.poke(7, command, region: region & 2)
        } else {
          bench.command(UInt8(command), lba: random.next() % 64, count: UInt8(random.next() % 8))
        }
      case 5: bench.ide.poke(4 + 8 * (random.next() & 1), random.next() % 0x10_0000, size: 4, region: 4)
      case 6: bench.ide.poke(8 * (random.next() & 1), random.next() & 9, region: 4)
      case 7:
        for _ in 0..<Int.random(in: 1...600, using: &random) {
          if random.next() & 1 == 0 {
            _ = bench.ide.peek(0, size: 2, region: region & 2)
          } else {
            bench.ide.poke(0, random.next() & 0xffff, size: 2, region: region & 2)
          }
        }
      case 8:
        bench.send(packet(&random), channel: 1)
      case 9 where step % 64 == 0:
        bench.ide.pci.write(UInt8(random.next() % 256), UInt8(truncatingIfNeeded: random.next()))
      case 10 where step % 256 == 0: bench.ide.restore(try bench.ide.storedState())
      case 11 where step % 512 == 0: bench.ide.reset()
      default: bench.ide.withstand(1, seed: random.next(), offsets: 9)
      }
    }
    // The accesses got as far as the disk.
    #expect(bench.disk.requests.count > 0)
    bench.disk.failure = nil
    bench.ide.reset()
    bench.disk.completeAll()
    bench.command(0x20, lba: 1)
    bench.disk.completeAll()
    #expect(bench.takeInterrupt() && bench.bytes(512) == Array(bench.disk.contents[512..<1024]))
  }

  @Test(arguments: 1...4 as ClosedRange<UInt64>) func ahci(seed: UInt64) throws {
    var random = SeededRandom(seed: seed)
    let bench = try AHCIBench()
    for step in 0..<40_000 {
      let port = random.next() % 3
      switch random.next() % 16 {
      case 0: scramble(bench.platform.memory, &random)
      case 1, 2, 3: disturb([bench.disk, bench.disc], &random)
      case 4: bench.start(port: port % 2)
      case 5, 6, 7:
        let slot = random.next() % 32
        bench.prepare(
          slot, UInt8(Self.commands.randomElement(using: &random)!),
          lba: random.next() % (random.next() & 1 == 0 ? 64 : 5000),
          count: UInt16(truncatingIfNeeded: random.next() % (random.next() & 1 == 0 ? 8 : 300)),
          features: UInt16(truncatingIfNeeded: random.next() % 300),
          regions: [(random.next() % 0x12_0000, 1 + random.next() % 0x1_0000)],
          packet: packet(&random),
          port: port % 2)
        bench.issue(UInt32(1) << UInt32(slot), queued: random.next() & 1 == 0, port: port % 2)
      case 8: _ = bench.takeInterrupt(port: port)
      case 9: bench.set(random.next() % 0x40 & ~3, UInt32(truncatingIfNeeded: random.next()), port: port)
      case 10: bench.set(0x2c, UInt32(random.next() % 5), port: port)
      case 11 where step % 64 == 0: bench.ahci.poke(4, random.next(), size: 4)
      case 12 where step % 256 == 0 && bench.disk.pendingCount + bench.disc.pendingCount == 0:
        bench.ahci.restore(try bench.ahci.storedState())
      case 13 where step % 512 == 0: bench.ahci.reset()
      default: bench.ahci.withstand(1, seed: random.next(), offsets: 0x500)
      }
    }
    // The accesses got as far as the disk.
    #expect(bench.disk.requests.count > 0)
    bench.disk.failure = nil
    bench.ahci.reset()
    bench.disk.completeAll()
    bench.ahci.pci.write(4, 6)
    bench.start()
    bench.prepare(0, 0x25, lba: 3, regions: [(0x30000, 512)])
    bench.issue()
    bench.disk.completeAll()
    #expect(bench.port(0x20) == 0x50 && bench.memory(0x30000, count: 512) == Array(bench.disk.contents[1536..<2048]))
  }
}
