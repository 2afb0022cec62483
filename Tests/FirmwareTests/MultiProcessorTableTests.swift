import Memory
import Testing
import X86

@testable import Firmware

@Suite struct MultiProcessorTableTests {
  private func bytes(_ memory: GuestMemory, _ address: UInt64, _ count: Int) -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: count)
    #expect(bytes.withUnsafeMutableBytes { memory.read(GuestPhysicalAddress(address), into: $0) })
    return bytes
  }

  /// Walks the table as a system does, from the pointer.
  @Test(arguments: [1, 3, 64, 300]) func table(processors: Int) throws {
    let memory = try GuestMemory(size: 1 << 20)
    MultiProcessorTable.install(ACPIConfiguration(processorCount: processors), in: memory)
    let pointer = ByteView(bytes(memory, 0x9fc10, 16))
    #expect(pointer.has("_MP_".utf8, at: 0) && pointer.bytes.reduce(0, &+) == 0)
    let address = UInt64(try #require(pointer.load(4, as: UInt32.self)))
    let length = Int(try #require(ByteView(bytes(memory, address, 44)).load(4, as: UInt16.self)))
    let table = ByteView(bytes(memory, address, length))
    #expect(table.has("PCMP".utf8, at: 0) && table.bytes.reduce(0, &+) == 0)
    #expect(table.load(36, as: UInt32.self) == 0xfee0_0000)
    var kinds: [UInt8: [[UInt8]]] = [:]
    var offset = 44
    var count = 0
    while offset < length {
      let kind = table.bytes[offset]
      let size = kind == 0 ? 20 : 8
      kinds[kind, default: []].append(Array(table.bytes[offset + 1..<offset + size]))
      offset += size
      count += 1
    }
    #expect(offset == length && table.load(34, as: UInt16.self) == UInt16(count))
    let cpus = try #require(kinds[0])
    #expect(cpus.count == min(processors, 255) && cpus.map { $0[0] } == (0..<UInt8(cpus.count)).map { $0 })
    #expect(cpus.enumerated().allSatisfy { $1[2] == ($0 == 0 ? 3 : 1) })
    #expect(kinds[1]?.map { String(decoding: $0[1...], as: UTF8.self) } == ["PCI   ", "ISA   "])
    #expect(kinds[2]?.count == 1 && kinds[2]?[0][0] == UInt8(clamping: processors))
    let interrupts = try #require(kinds[3])
    #expect(interrupts.count == 15 + 128)
    // The timer, the system control interrupt, and pin B of device 5.
    let io = UInt8(clamping: processors)
    for entry in [[0, 0, 0, 1, 0, io, 2], [0, 0x0d, 0, 1, 9, io, 9], [0, 0, 0, 0, 5 << 2 | 1, io, 18]] as [[UInt8]] {
      #expect(interrupts.contains(entry), "\(entry)")
    }
    #expect(kinds[4] == [[3, 0, 0, 1, 0, 0xff, 0], [1, 0, 0, 1, 0, 0xff, 1]])
  }
}
