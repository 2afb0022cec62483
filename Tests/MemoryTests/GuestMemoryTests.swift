import Glibc
import Synchronization
import Testing
import X86

@testable import Memory

@Suite struct GuestMemoryTests {
  /// Machines come and go in one process: nothing of the address space stays behind.
  @Test func addressSpaceComesBack() throws {
    func mappingCount() throws -> Int {
      let file = try #require(fopen("/proc/self/maps", "r"))
      defer { fclose(file) }
      var count = 0
      while true {
        let byte = getc(file)
        if byte == EOF { return count }
        if byte == 10 { count += 1 }
      }
    }
    let before = try mappingCount()
    for _ in 0..<300 { _ = try GuestMemory(size: 3 << 20) }
    // Other tests map something meanwhile, too.
    #expect(try mappingCount() < before + 150)
  }

  /// Contents that are deferred are there for whoever looks, by whatever way, and only once.
  @Test func deferredContentsComeBeforeAnyLook() throws {
    let chunk = UInt64(DeferredContents.chunkSize)
    let looks: [(GuestMemory, GuestPhysicalAddress) -> Void] = [
      { _ = $0.hostPage(of: $1) },
      { _ = $0.writableHostPage(of: $1) },
      { _ = $0.hostRange($1, count: 4) },
      { _ = $0.hostBytes($1, count: 4, forWriting: true) },
      { _ = $0.load($1, as: UInt32.self) },
      { $0.discard($1, count: 4096) },
    ]
    for (index, look) in looks.enumerated() {
      let memory = try GuestMemory(size: 4 * chunk)
      let brought = Mutex<[Int]>([])
      let base = memory.base
      memory.deferContents(
        DeferredContents(isAbsent: [false, true, true, true]) { number in
          brought.withLock { $0.append(number) }
          memset(base + number * Int(chunk), 0x5a, Int(chunk))
        })
      look(memory, GuestPhysicalAddress(2 * chunk))
      #expect(brought.withLock { $0 } == [2], "look \(index)")
      let isGone = index == looks.count - 1
      #expect(memory.load(GuestPhysicalAddress(2 * chunk), as: UInt32.self) == (isGone ? 0 : 0x5a5a_5a5a))
      #expect(memory.load(GuestPhysicalAddress(2 * chunk + 4096), as: UInt32.self) == 0x5a5a_5a5a)
      #expect(memory.load(GuestPhysicalAddress(0), as: UInt32.self) == 0)
      #expect(brought.withLock { $0 } == [2])
      // Over the end of a piece.
      #expect(memory.hostRange(GuestPhysicalAddress(2 * chunk - 2), count: 4) != nil)
      #expect(brought.withLock { $0 } == [2, 1])
    }
  }

  /// Addresses and offsets are two views of the same bytes, whatever the memory is made of. Nothing of it is touched, so
  /// that sizes cost no memory.
  @Test(
    arguments: [1 << 20, 3 << 30, 5 << 30] as [UInt64], [0..<0, 0xffff_0000..<0x1_0000_0000] as [Range<UInt64>])
  func offsets(size: UInt64, readOnly: Range<UInt64>) throws {
    let memory = try GuestMemory(size: size, readOnly: readOnly)
    #expect(memory.mappedSize == size + UInt64(readOnly.count) && memory.pageCount == Int(memory.mappedSize >> 12))
    let places = memory.ranges + (readOnly.isEmpty ? [] : [readOnly])
    var offset: UInt64 = 0
    for place in [places[0]] + memory.ranges.dropFirst() + (readOnly.isEmpty ? [] : [readOnly]) {
      for address in [place.lowerBound, place.lowerBound + 0x1234, place.upperBound - 1] {
        let found = try #require(memory.offset(of: GuestPhysicalAddress(address)))
        #expect(found == offset + address - place.lowerBound)
        #expect(memory.address(atOffset: found) == GuestPhysicalAddress(address))
        #expect(memory.hostPage(of: GuestPhysicalAddress(address)) == memory.base + Int(found & ~0xfff))
        #expect((memory.writableHostPage(of: GuestPhysicalAddress(address)) == nil) == readOnly.contains(address))
      }
      offset += UInt64(place.count)
    }
    #expect(memory.ranges.map { UInt64($0.count) }.reduce(0, +) == size)
    let nowhere = [places[0].upperBound, 0xfee0_0000, 0xfffe_ffff, 1 << 40, .max]
    for address in nowhere where !places.contains(where: { $0.contains(address) }) {
      #expect(memory.offset(of: GuestPhysicalAddress(address)) == nil)
      #expect(memory.hostPage(of: GuestPhysicalAddress(address)) == nil)
    }
  }

  @Test func readOnlyMemoryIsReadAndNotWritten() throws {
    let rom: Range<UInt64> = 0xffff_e000..<0x1_0000_0000
    let memory = try GuestMemory(size: 1 << 20, readOnly: rom)
    memory.install(readOnly: [1, 2, 3])
    let last = GuestPhysicalAddress(rom.upperBound - 4)
    #expect(memory.load(last, as: UInt32.self) == 0x0302_01ff)
    #expect(memory.load(last &+ 1, as: UInt32.self) == nil)
    #expect(!memory.store(7 as UInt8, at: last) && !memory.fill(last, count: 4, with: 0))
    #expect(memory.load(last, as: UInt32.self) == 0x0302_01ff)
    #expect(!memory.contains(last, count: 1) && memory.isReadable(last, count: 4) && !memory.isReadable(last, count: 5))
    #expect(memory.writableHostPage(of: last) == nil && memory.plainHostPage(of: last) == nil)
    // RAM is as it always was.
    #expect(memory.fill(GuestPhysicalAddress(0xf_fff0), count: 16, with: 0x5a))
    #expect(memory.load(GuestPhysicalAddress(0xf_fff8), as: UInt64.self) == 0x5a5a_5a5a_5a5a_5a5a)
    #expect(!memory.fill(GuestPhysicalAddress(0xf_fff0), count: 17, with: 0))
  }

  @Test(
    arguments: [
      0x1000..<0x2000, 0xbfff_f000..<0xc000_0000, 0xffff_f000..<0x1_0000_1000, 0xffff_f800..<0x1_0000_0000,
      0xffff_e000..<0xffff_e800,
    ] as [Range<UInt64>])
  func readOnlyMemoryHasItsPlace(range: Range<UInt64>) {
    #expect(throws: GuestMemory.Failure.self) { try GuestMemory(size: 1 << 20, readOnly: range) }
  }

  @Test func writesFromOutsideAreReported() throws {
    let memory = try GuestMemory(size: 1 << 20)
    let ranges = Mutex<[Range<UInt64>]>([])
    memory.onOutsideWrite = { range in ranges.withLock { $0.append(range) } }
    #expect(memory.store(1 as UInt32, at: GuestPhysicalAddress(0x1ffe)))
    #expect(memory.fill(GuestPhysicalAddress(0x5000), count: 3, with: 1))
    #expect(!memory.store(1 as UInt32, at: GuestPhysicalAddress(1 << 20)))
    #expect(ranges.withLock { $0 } == [0x1ffe..<0x2002, 0x5000..<0x5003])
  }
}
