import Memory
import Testing
import X86

@testable import Firmware

@Suite struct ACPITests {
  /// The tables of a machine by signature, found as a guest finds them: from the root pointer.
  private struct Tables {
    var byName: [String: ByteView] = [:]
    var rootPointer: ByteView

    init(_ configuration: ACPIConfiguration) throws {
      let memory = try GuestMemory(size: 1 << 20)
      let address = try ACPITables.install(configuration, in: memory)
      #expect(address.rawValue % 16 == 0 && (0xe0000..<0x100000).contains(address.rawValue))
      rootPointer = Self.bytes(memory, address.rawValue, 36)
      let xsdt = Self.table(memory, try #require(rootPointer.load(24, as: UInt64.self)))
      let rsdt = Self.table(memory, UInt64(try #require(rootPointer.load(16, as: UInt32.self))))
      byName["XSDT"] = xsdt
      byName["RSDT"] = rsdt
      let addresses = stride(from: 36, to: xsdt.bytes.count, by: 8).compactMap { xsdt.load($0, as: UInt64.self) }
      let old = stride(from: 36, to: rsdt.bytes.count, by: 4).compactMap { rsdt.load($0, as: UInt32.self) }
      #expect(addresses == old.map { UInt64($0) })
      for address in addresses {
        let table = Self.table(memory, address)
        byName[String(decoding: table.bytes.prefix(4), as: UTF8.self)] = table
      }
      let fadt = try #require(byName["FACP"])
      byName["DSDT"] = Self.table(memory, try #require(fadt.load(140, as: UInt64.self)))
      #expect(fadt.load(40, as: UInt32.self).map { UInt64($0) } == fadt.load(140, as: UInt64.self))
      let facs = UInt64(try #require(fadt.load(36, as: UInt32.self)))
      #expect(facs % 64 == 0)
      byName["FACS"] = Self.bytes(memory, facs, 64)
    }

    private static func bytes(_ memory: GuestMemory, _ address: UInt64, _ count: Int) -> ByteView {
      var bytes = [UInt8](repeating: 0, count: count)
      #expect(bytes.withUnsafeMutableBytes { memory.read(GuestPhysicalAddress(address), into: $0) })
      return ByteView(bytes)
    }

    private static func table(_ memory: GuestMemory, _ address: UInt64) -> ByteView {
      let length = bytes(memory, address, 8).load(4, as: UInt32.self) ?? 0
      return bytes(memory, address, Int(length))
    }
  }

  private func sum(_ bytes: some Sequence<UInt8>) -> UInt8 { bytes.reduce(0, &+) }

  @Test(arguments: [1, 2, 255, 1000]) func checksumsAddUp(processors: Int) throws {
    let tables = try Tables(ACPIConfiguration(processorCount: processors))
    #expect(tables.rootPointer.has("RSD PTR ".utf8, at: 0))
    #expect(sum(tables.rootPointer.bytes) == 0 && sum(tables.rootPointer.bytes.prefix(20)) == 0)
    #expect(Set(tables.byName.keys) == ["RSDT", "XSDT", "FACP", "APIC", "DSDT", "FACS"])
    for (name, table) in tables.byName {
      #expect(table.has(name.utf8, at: 0))
      #expect(name == "FACS" || sum(table.bytes) == 0)
    }
  }

  @Test func tooManyProcessorsAreAnError() throws {
    let memory = try GuestMemory(size: 1 << 20)
    #expect(throws: ACPITables.Failure(processorCount: 4096)) {
      try ACPITables.install(ACPIConfiguration(processorCount: 4096), in: memory)
    }
  }

  @Test func fixedTableNamesTheHardware() throws {
    var configuration = ACPIConfiguration(processorCount: 1)
    configuration.fixedHardware.has32BitTimer = false
    for has32BitTimer in [false, true] {
      configuration.fixedHardware.has32BitTimer = has32BitTimer
      let fadt = try #require(try Tables(configuration).byName["FACP"])
      #expect(fadt.bytes.count == 276 && fadt.bytes[8] == 6)
      #expect(fadt.load(46, as: UInt16.self) == 9 && fadt.load(48, as: UInt32.self) == 0xb2)
      #expect(fadt.bytes[52] == 0xf1 && fadt.bytes[53] == 0xf0)
      let blocks = [56, 64, 76, 80].map { fadt.load($0, as: UInt32.self) }
      #expect(blocks == [0x600, 0x604, 0x608, 0x60c])
      #expect([88, 89, 91, 92].map { fadt.bytes[$0] } == [4, 2, 4, 4])
      // The same blocks as generic addresses: I/O space, width in bits.
      for (offset, bits, port) in [
        (148, 32, 0x600), (172, 16, 0x604), (208, 32, 0x608), (220, 32, 0x60c), (116, 8, 0xcf9),
      ] {
        #expect(fadt.bytes[offset] == 1 && fadt.bytes[offset + 1] == UInt8(bits))
        #expect(fadt.load(offset + 4, as: UInt64.self) == UInt64(port))
      }
      #expect(fadt.bytes[128] == 6)
      #expect(fadt.load(112, as: UInt32.self) == UInt32(has32BitTimer ? 0x525 : 0x425))
      #expect(fadt.load(109, as: UInt16.self) == 0x0007)
    }
  }

  /// A machine without fixed hardware: flags, registers, no 8259s, and its devices.
  @Test func reducedHardware() throws {
    var configuration = ACPIConfiguration(processorCount: 2)
    var hardware = ACPIConfiguration.ReducedHardware()
    hardware.virtioDevices = [.init(address: 0xfeb0_0000, size: 512, interrupt: 6)]
    configuration.reducedHardware = hardware
    let tables = try Tables(configuration)
    for (name, table) in tables.byName where name != "FACS" { #expect(sum(table.bytes) == 0) }
    let fadt = try #require(tables.byName["FACP"])
    #expect(fadt.bytes.count == 276 && fadt.load(112, as: UInt32.self) == 0x10_0435)
    #expect(fadt.load(109, as: UInt16.self) == 0x25 && fadt.bytes[128] == 1)
    #expect(fadt.bytes[46..<96].allSatisfy { $0 == 0 } && fadt.bytes[148..<244].allSatisfy { $0 == 0 })
    for (offset, port) in [(116, 0x602), (244, 0x600), (256, 0x601)] {
      #expect(Array(fadt.bytes[offset..<offset + 4]) == [1, 8, 0, 1])
      #expect(fadt.load(offset + 4, as: UInt64.self) == UInt64(port))
    }
    let madt = try #require(tables.byName["APIC"])
    #expect(madt.load(40, as: UInt32.self) == 0)
    // Two processors, the I/O APIC and the NMI's wire; no interrupt goes anywhere but where its number says.
    #expect(madt.bytes.count == 44 + 2 * 8 + 12 + 6)
    let dsdt = try #require(tables.byName["DSDT"]).bytes
    func contains(_ pattern: [UInt8]) -> Bool { dsdt.indices.contains { dsdt[$0...].starts(with: pattern) } }
    let resources: [UInt8] = [
      0x86, 9, 0, 1, 0, 0, 0xb0, 0xfe, 0, 2, 0, 0, 0x89, 6, 0, 1, 1, 6, 0, 0, 0, 0x79, 0,
    ]
    #expect(contains(Array("LNRO0005".utf8)) && contains(resources))
    #expect(contains(Array("_EVT".utf8) + [1, 0x86, 0x5c, 0x2e] + Array("_SB_PWRB".utf8) + [0x0a, 0x80]))
    #expect(contains([0x08, 0x5c] + Array("_S5_".utf8) + [0x12, 0x08, 0x04, 0x0a, 5, 0x0a, 5, 0, 0]))
    #expect(!contains(Array("PCI0".utf8)) && !contains(Array("_S3_".utf8)))
  }

  @Test func resetEntryWritesToThePort() throws {
    let memory = try GuestMemory(size: 1 << 20)
    ResetEntry.install(port: 0x602, value: 1, in: memory)
    var code = [UInt8](repeating: 0, count: 16)
    #expect(code.withUnsafeMutableBytes { memory.read(GuestPhysicalAddress(0xffff0), into: $0) })
    #expect(code == [0xba, 0x02, 0x06, 0xb0, 1, 0xee, 0xf4, 0xeb, 0xfd, 0, 0, 0, 0, 0, 0, 0])
  }

  @Test func interruptControllerTable() throws {
    let madt = try #require(try Tables(ACPIConfiguration(processorCount: 257)).byName["APIC"])
    #expect(madt.load(36, as: UInt32.self) == 0xfee0_0000 && madt.load(40, as: UInt32.self) == 1)
    var offset = 44
    var entries: [UInt8: [[UInt8]]] = [:]
    while offset < madt.bytes.count {
      let count = Int(madt.bytes[offset + 1])
      entries[madt.bytes[offset], default: []].append(Array(madt.bytes[offset + 2..<offset + count]))
      offset += count
    }
    #expect(offset == madt.bytes.count)
    #expect(entries[0]?.count == 255 && entries[0]?[3] == [3, 3, 1, 0, 0, 0])
    #expect(entries[9]?.last == [0, 0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0])
    #expect(entries[1] == [[255, 0, 0, 0, 0xc0, 0xfe, 0, 0, 0, 0]])
    #expect(entries[2] == [[0, 0, 2, 0, 0, 0, 0, 0], [0, 9, 9, 0, 0, 0, 0x0d, 0]])
    #expect(entries[4] == [[0xff, 0, 0, 1]])
    #expect(entries[10] == [[0, 0, 0xff, 0xff, 0xff, 0xff, 1, 0, 0, 0]])
  }

  /// The identifier's page is the last of those that the guest leaves alone, and nothing else lies in it.
  @Test func identifierHasAPage() throws {
    var configuration = ACPIConfiguration(processorCount: 1000)
    configuration.hasGenerationIdentifier = true
    let tables = try Tables(configuration)
    let table = try #require(tables.byName["SSDT"])
    #expect(sum(table.bytes) == 0)
    #expect(table.load(ACPITables.identifierPointerOffset, as: UInt32.self) == 0xff000)
    #expect(ACPITables.identifierAddress == 0xff028)
    let memory = try GuestMemory(size: 1 << 20)
    _ = try ACPITables.install(configuration, in: memory)
    var page = [UInt8](repeating: 1, count: 4096)
    #expect(page.withUnsafeMutableBytes { memory.read(GuestPhysicalAddress(0xff000), into: $0) })
    #expect(page.allSatisfy { $0 == 0 })
  }

  @Test func devicesAreDescribed() throws {
    var configuration = ACPIConfiguration(processorCount: 2)
    let dsdt = try #require(try Tables(configuration).byName["DSDT"]).bytes
    func contains(_ pattern: [UInt8], in bytes: [UInt8]) -> Bool {
      bytes.indices.contains { bytes[$0...].starts(with: pattern) }
    }
    // COM1 with its ports and interrupt; the sleeping states; the second processor.
    let com1 = ResourceTemplate().ports(0x3f8, count: 8).interrupt(4).term
    #expect(contains(AMLTerm.name("_CRS", com1).encoded, in: dsdt))
    #expect(contains([0x08, 0x5c] + Array("_S5_".utf8) + [0x12, 0x06, 0x04, 0, 0, 0, 0], in: dsdt))
    #expect(contains([0x08, 0x5c] + Array("_S3_".utf8) + [0x12, 0x06, 0x04, 1, 1, 0, 0], in: dsdt))
    #expect(contains(Array("C001".utf8), in: dsdt) && !contains(Array("C002".utf8), in: dsdt))
    let com2 = ResourceTemplate().ports(0x2f8, count: 8).interrupt(3).term
    #expect(!contains(AMLTerm.name("_CRS", com2).encoded, in: dsdt) && !contains(Array("QEMU0001".utf8), in: dsdt))
    configuration.serialPortCount = 2
    configuration.hasPanicPort = true
    let more = try #require(try Tables(configuration).byName["DSDT"]).bytes
    #expect(contains(AMLTerm.name("_CRS", com1).encoded, in: more))
    #expect(contains(AMLTerm.name("_CRS", com2).encoded, in: more) && contains(Array("QEMU0001".utf8), in: more))
    configuration.fixedHardware.suspendType = nil
    #expect(!contains(Array("_S3_".utf8), in: try #require(try Tables(configuration).byName["DSDT"]).bytes))
  }
}
