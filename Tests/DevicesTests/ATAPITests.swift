import Machine
import TestSupport
import Testing

@testable import Devices

/// A disc of 800 MiB that nobody reads.
private final class EmptyDisc: BlockBackend {
  let size: UInt64 = 800 << 20
  let isReadOnly = true

  func submit(_ request: BlockRequest, completion: @escaping (BlockResult) -> Void) {}
}

/// The CD-ROM drive, as its packets show it. It is drive 0 of the bench's second channel.
@Suite struct ATAPITests {
  private let bench: IDEBench

  init() throws {
    bench = try IDEBench()
    // The first command is told of the power-on.
    #expect(bench.answer([0]) == nil && bench.sense() == [6, 0x29, 0])
  }

  private func blocks(_ range: Range<Int>) -> [UInt8] {
    Array(bench.disc.contents[2048 * range.lowerBound..<2048 * range.upperBound])
  }

  /// The phases as registers and interrupts show them.
  @Test func phases() {
    bench.write(6, 0xa0, channel: 1)
    bench.write(1, 0, channel: 1)
    bench.write(4, 0x00, channel: 1)
    bench.write(5, 0x08, channel: 1)
    bench.write(7, 0xa0, channel: 1)
    #expect(bench.alternateStatus(channel: 1) == 0x58 && bench.read(2, channel: 1) == 1 && !bench.lines[1].level)
    bench.send([0x28, 0, 0, 0, 0, 5, 0, 0, 2, 0, 0, 0], channel: 1)
    #expect(bench.alternateStatus(channel: 1) == 0x80)
    bench.disc.completeAll()
    for block in 5..<7 {
      #expect(bench.lines[1].level && bench.read(7, channel: 1) == 0x58 && !bench.lines[1].level)
      #expect(bench.read(2, channel: 1) == 2 && bench.read(4, channel: 1) == 0 && bench.read(5, channel: 1) == 8)
      #expect(bench.bytes(2048, channel: 1) == blocks(block..<block + 1))
    }
    #expect(bench.lines[1].level && bench.read(7, channel: 1) == 0x50 && bench.read(2, channel: 1) == 3)
  }

  @Test func reading() {
    #expect(bench.answer([0x28, 0, 0, 0, 0, 1, 0, 0, 40]) == blocks(1..<41))
    #expect(bench.answer([0xa8, 0, 0, 0, 0, 200, 0, 0, 0, 3]) == blocks(200..<203))
    #expect(bench.answer([0xbe, 0, 0, 0, 0, 7, 0, 0, 1, 0x10]) == blocks(7..<8))
    #expect(bench.answer([0x28, 0, 0, 0, 0, 1, 0, 0, 0]) == [])
    // Limits that are less than a block, odd, and nothing.
    for limit: UInt16 in [1, 3, 512, 2049, 0xffff, 0] {
      bench.packet([0x28, 0, 0, 0, 0, 9, 0, 0, 2], limit: limit)
      #expect(bench.packetData() == blocks(9..<11), "\(limit)")
    }
    #expect(bench.answer([0x28, 0, 0, 0, 0, 255, 0, 0, 2]) == nil && bench.sense() == [5, 0x21, 0])
    #expect(bench.answer([0xa8, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]) == nil)
    #expect(bench.answer([0xbe, 0, 0, 0, 0, 7, 0, 0, 1, 0xf8]) == nil && bench.sense() == [5, 0x24, 0])
  }

  @Test func readingByDMA() {
    bench.regions([(0x8000, 4096)], channel: 1)
    bench.packet([0x28, 0, 0, 0, 0, 3, 0, 0, 2], usesDMA: true)
    bench.startBusMaster(toMemory: true, channel: 1)
    bench.disc.completeAll()
    #expect(bench.busMasterStatus(channel: 1) == 4 && bench.takeInterrupt(channel: 1))
    #expect(bench.memory(0x8000, count: 4096) == blocks(3..<5) && bench.read(2, channel: 1) == 3)
    bench.ide.poke(8, 0, region: 4)
    // An answer that the drive makes: the region is longer.
    bench.packet([0x12, 0, 0, 0, 36], usesDMA: true)
    bench.startBusMaster(toMemory: true, channel: 1)
    #expect(bench.memory(0x8008, count: 8) == Array("RINGSIDE".utf8))
    #expect(bench.busMasterStatus(channel: 1) == 5)
  }

  @Test func failuresOfTheImage() {
    bench.disc.failure = { _ in .failed }
    #expect(bench.answer([0x28, 0, 0, 0, 0, 1, 0, 0, 1]) == nil)
    #expect(bench.read(1, channel: 1) == 0x34 && bench.read(2, channel: 1) == 3)
    #expect(bench.sense() == [3, 0x11, 0] && bench.sense() == [0, 0, 0])
  }

  @Test func whatTheDriveIs() {
    let inquiry = bench.answer([0x12, 0, 0, 0, 255]) ?? []
    #expect(inquiry.count == 36 && inquiry.starts(with: [5, 0x80, 0, 0x21, 31]))
    #expect(bench.answer([0x12, 0, 0, 0, 5])?.count == 5)
    #expect(bench.answer([0x12, 1, 0, 0, 36]) == nil && bench.sense() == [5, 0x24, 0])
    #expect(bench.answer([0x25]) == [0, 0, 0, 255, 0, 0, 8, 0])
    #expect(bench.answer([0xbd, 0, 0, 0, 0, 0, 0, 0, 0, 8])?.count == 8)
    #expect(bench.answer([0xf0]) == nil && bench.sense() == [5, 0x20, 0])
    let capabilities = bench.answer([0x5a, 0, 0x2a, 0, 0, 0, 0, 0, 128]) ?? []
    #expect(capabilities.count == 30 && capabilities[0...1] == [0, 28] && capabilities[8...9] == [0x2a, 20])
    #expect(bench.answer([0x1a, 0, 0x3f, 0, 255])?.count == 4 + 12 + 22)
    #expect(bench.answer([0x5a, 0, 0x05, 0, 0, 0, 0, 0, 128]) == nil)
    #expect(bench.answer([0x5a, 0, 0xea, 0, 0, 0, 0, 0, 128]) == nil && bench.sense() == [5, 0x39, 0])
    // Profiles: none but the CD is current.
    let configuration = bench.answer([0x46, 0, 0, 0, 0, 0, 0, 1, 0]) ?? []
    #expect(configuration.starts(with: [0, 0, 0, UInt8(configuration.count - 4), 0, 0, 0, 8, 0, 0, 3, 8]))
    #expect(configuration[12...19] == [0, 0x10, 0, 0, 0, 8, 1, 0])
    #expect(bench.answer([0x46, 2, 0, 3, 0, 0, 0, 0, 16]) == [0, 0, 0, 12, 0, 0, 0, 8, 0, 3, 3, 4, 0x29, 0, 0, 0])
  }

  @Test func whatTheDiscIs() {
    #expect(
      bench.answer([0x43, 0, 0, 0, 0, 0, 0, 0, 100])
        == [0, 18, 1, 1, 0, 0x14, 1, 0, 0, 0, 0, 0, 0, 0x14, 0xaa, 0, 0, 0, 1, 0])
    // 256 blocks and the lead-in are 5 seconds and 31 frames.
    #expect(bench.answer([0x43, 2, 0, 0, 0, 0, 0xaa, 0, 100])?.suffix(8) == [0, 0x14, 0xaa, 0, 0, 0, 5, 31])
    #expect(bench.answer([0x43, 0, 1, 0, 0, 0, 0, 0, 12]) == [0, 10, 1, 1, 0, 0x14, 1, 0, 0, 0, 0, 0])
    #expect(bench.answer([0x43, 2, 2, 0, 0, 0, 0, 0, 100])?.count == 4 + 4 * 11)
    #expect(bench.answer([0x43, 0, 0, 0, 0, 0, 2, 0, 100]) == nil)
    let disc = bench.answer([0x51, 0, 0, 0, 0, 0, 0, 0, 34]) ?? []
    #expect(disc.starts(with: [0, 32, 0x0e, 1, 1, 1, 1, 0x20]) && disc.count == 34)
    #expect(bench.answer([0x52, 1, 0, 0, 0, 1, 0, 0, 36])?[24...27] == [0, 0, 1, 0])
    #expect(bench.answer([0xad, 0, 0, 0, 0, 0, 0, 0, 8, 0]) == nil && bench.sense() == [5, 0x30, 2])
  }

  /// Eject, load, and what the host is told of it.
  @Test func tray() {
    #expect(bench.answer([0x1e, 0, 0, 0, 1]) == [])
    #expect(bench.answer([0x1b, 0, 0, 0, 2]) == nil && bench.sense() == [5, 0x53, 2])
    #expect(bench.answer([0x1e, 0, 0, 0, 0]) == [])
    #expect(bench.answer([0x4a, 1, 0, 0, 0x10, 0, 0, 0, 8]) == [0, 6, 4, 0x10, 0, 2, 0, 0])
    #expect(bench.answer([0x1b, 0, 0, 0, 2]) == [])
    #expect(bench.answer([0x4a, 1, 0, 0, 0x10, 0, 0, 0, 8]) == [0, 6, 4, 0x10, 3, 1, 0, 0])
    #expect(bench.answer([0]) == nil && bench.sense() == [2, 0x3a, 2])
    #expect(
      bench.answer([0x28, 0, 0, 0, 0, 1, 0, 0, 1]) == nil && bench.answer([0x43, 0, 0, 0, 0, 0, 0, 0, 100]) == nil)
    #expect(bench.answer([0x1b, 0, 0, 0, 3]) == [])
    #expect(bench.answer([0x4a, 1, 0, 0, 0x10, 0, 0, 0, 8]) == [0, 6, 4, 0x10, 2, 2, 0, 0])
    #expect(bench.answer([0x25]) == nil && bench.sense() == [6, 0x28, 0])
    #expect(bench.answer([0x25]) != nil)
    #expect(bench.answer([0x4a, 0, 0, 0, 0x10, 0, 0, 0, 8]) == nil)
    #expect(bench.answer([0x4a, 1, 0, 0, 0x02, 0, 0, 0, 8]) == [0, 2, 0x80, 0x10])
  }

  @Test func deviceReset() {
    bench.packet([0x28, 0, 0, 0, 0, 1, 0, 0, 1])
    #expect(bench.alternateStatus(channel: 1) == 0x80)
    bench.write(7, 0x08, channel: 1)
    #expect(bench.alternateStatus(channel: 1) == 0x80)
    bench.disc.completeAll()
    #expect(bench.alternateStatus(channel: 1) == 0 && bench.read(5, channel: 1) == 0xeb && !bench.lines[1].level)
    #expect(bench.answer([0x25]) != nil)
  }

  @Test func largeDiscsAreDVDs() throws {
    let drive = ATAPIDrive(EmptyDisc(), serial: "", cable: .serial)
    #expect(drive.isDVD)
    let packet = PacketCommand([0xad, 0, 0, 0, 0, 0, 0, 0, 8, 0], ATARegisters())
    let step = try drive.carryOut(packet)
    guard case .transfer(let transfer) = step, case .bytes(let bytes) = transfer.content else {
      Issue.record("\(step)")
      return
    }
    #expect(bytes.count == 2048 && bytes[0...1] == [8, 2])
  }

  @Test func snapshot() throws {
    _ = bench.answer([0x1b, 0, 0, 0, 2])
    bench.packet([0x12, 0, 0, 0, 36])
    let first = bench.bytes(10, channel: 1)
    let copy = try IDEBench()
    copy.ide.restore(try bench.ide.storedState())
    #expect(copy.lines[1].level)
    #expect(first.suffix(2) == Array("RI".utf8)[...])
    #expect(copy.bytes(26, channel: 1) == Array("NGSIDEDVD-ROM         1.0 ".utf8))
    #expect(copy.read(7, channel: 1) == 0x50)
    #expect(copy.answer([0]) == nil && copy.sense() == [2, 0x3a, 2])
  }
}
