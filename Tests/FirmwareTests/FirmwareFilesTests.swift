import Memory
import Testing
import X86

@testable import Firmware

/// What firmware makes of the files that it is given: the loader's script is carried out here as SeaBIOS does it.
@Suite struct FirmwareFilesTests {
  private func text(_ bytes: ArraySlice<UInt8>) -> String { String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self) }

  private func number(_ bytes: [UInt8], _ offset: Int, _ size: Int) -> Int {
    (0..<size).reduce(0) { $0 | Int(bytes[offset + $1]) << (8 * $1) }
  }

  private func sum(_ bytes: ArraySlice<UInt8>) -> UInt8 { bytes.reduce(0, &+) }

  @Test(arguments: [1, 7, 300]) func loaderScript(processors: Int) throws {
    var configuration = ACPIConfiguration(processorCount: processors)
    configuration.hasHighPrecisionTimer = true
    configuration.hasGenerationIdentifier = true
    var files = Dictionary(uniqueKeysWithValues: ACPILoaderFiles.files(configuration).map { ($0.name, $0.bytes) })
    let script = try #require(files["etc/table-loader"])
    #expect(script.count % 128 == 0)
    var places: [String: Int] = [:]
    var identifier = 0
    for start in stride(from: 0, to: script.count, by: 128) {
      let command = Array(script[start..<start + 128])
      let file = text(command[4..<60])
      switch number(command, 0, 4) {
      case 1:
        #expect(files[file] != nil && number(command, 60, 4) >= 16)
        let alignment = number(command, 60, 4)
        places[file] = command[64] == 2 ? 0xf_5000 : places.isEmpty ? 0x7fff_0000 : 0x7ffe_0000
        #expect(places[file]! % alignment == 0)
      case 2:
        let (offset, size) = (number(command, 116, 4), number(command, 120, 1))
        let base = try #require(places[text(command[60..<116])])
        let value = number(files[file] ?? [], offset, size) + base
        for index in 0..<size { files[file]?[offset + index] = UInt8(truncatingIfNeeded: value >> (8 * index)) }
      case 3:
        let (offset, first, count) = (number(command, 60, 4), number(command, 64, 4), number(command, 68, 4))
        let bytes = try #require(files[file])
        files[file]?[offset] &-= sum(bytes[first..<first + count])
      case 4:
        // The address of the identifier goes to a file that the device has beside these.
        #expect(file == ACPILoaderFiles.identifierAddressName && number(command, 116, 4) == 0 && command[124] == 8)
        identifier = try #require(places[text(command[60..<116])]) + number(command, 120, 4)
      default: Issue.record("an unknown command")
      }
    }
    let (root, tables) = (try #require(files["etc/acpi/rsdp"]), try #require(files["etc/acpi/tables"]))
    #expect(text(root[0..<8]) == "RSD PTR " && sum(root[0..<20]) == 0 && sum(root[...]) == 0)
    func table(_ address: Int) -> [UInt8] {
      let offset = address - 0x7fff_0000
      return Array(tables[offset..<offset + number(tables, offset + 4, 4)])
    }
    let xsdt = table(number(root, 24, 8))
    let found = stride(from: 36, to: xsdt.count, by: 8).map { table(number(xsdt, $0, 8)) }
    #expect(found.map { text($0[0..<4]) } == ["FACP", "APIC", "HPET", "SSDT"])
    // The page's address, as the first term has it.
    #expect(found[3][36..<43] == [0x08, 0x5c, 0x56, 0x47, 0x49, 0x41, 0x0c] && number(found[3], 43, 4) == 0x7ffe_0000)
    #expect(identifier == 0x7ffe_0028)
    let rsdt = table(number(root, 16, 4))
    #expect((rsdt.count - 36) / 4 == found.count && number(rsdt, 36, 4) == number(xsdt, 36, 8))
    let dsdt = table(number(found[0], 140, 8))
    #expect(text(dsdt[0..<4]) == "DSDT" && number(found[0], 40, 4) == number(found[0], 140, 8))
    #expect(text(tables[(number(found[0], 36, 4) - 0x7fff_0000)...].prefix(4)) == "FACS")
    for table in found + [xsdt, rsdt, dsdt] { #expect(sum(table[...]) == 0) }
  }

  @Test func managementTables() throws {
    let memory: [Range<UInt64>] = [0..<0xc000_0000, 0x1_0000_0000..<0x2_4000_0000]
    let files = SMBIOSTables(memory: memory, processorCount: 2).files
    let (anchor, tables) = (files[0].bytes, files[1].bytes)
    #expect(anchor.count == 31 && text(anchor[0..<4]) == "_SM_" && text(anchor[16..<21]) == "_DMI_")
    #expect(number(anchor, 22, 2) == tables.count)
    var types: [UInt8] = []
    var offset = 0
    var longest = 0
    while offset < tables.count {
      types.append(tables[offset])
      var end = offset + Int(tables[offset + 1])
      while tables[end] != 0 || tables[end + 1] != 0 { end += 1 }
      longest = max(longest, end + 2 - offset)
      offset = end + 2
    }
    #expect(types == [0, 1, 3, 4, 4, 16, 17, 19, 19, 32, 127])
    #expect(number(anchor, 28, 2) == types.count && number(anchor, 8, 2) == longest)
  }

  /// Where there is no firmware, they are found as the specification says (5.2.1).
  @Test func managementTablesInMemory() throws {
    let memory = try GuestMemory(size: 1 << 20)
    let tables = SMBIOSTables(memory: memory.ranges, processorCount: 64)
    tables.install(in: memory)
    func bytes(_ address: UInt64, _ count: Int) -> [UInt8] {
      var bytes = [UInt8](repeating: 0, count: count)
      #expect(bytes.withUnsafeMutableBytes { memory.read(GuestPhysicalAddress(address), into: $0) })
      return bytes
    }
    let found = stride(from: UInt64(0xf0000), to: 0x100000, by: 16).filter { text(bytes($0, 4)[...]) == "_SM_" }
    let point = bytes(try #require(found.first), 31)
    #expect(found.count == 1 && sum(point[...]) == 0 && sum(point[16...]) == 0)
    #expect(bytes(UInt64(number(point, 24, 4)), number(point, 22, 2)) == tables.files[1].bytes)
  }

  @Test func smallFiles() {
    let map = FirmwareFiles.memoryMap([0..<0x1000, 0x1_0000_0000..<0x1_0000_2000])
    #expect(map.name == "etc/e820" && map.bytes.count == 40)
    #expect(number(map.bytes, 8, 8) == 0x1000 && number(map.bytes, 16, 4) == 1 && number(map.bytes, 20, 8) == 1 << 32)
    #expect(FirmwareFiles.systemStates(.init()).bytes == [0x80, 0, 0, 0x81, 0, 0x80])
    #expect(FirmwareFiles.displayROM([1], vendor: 0x1234, device: 0x11).name == "pci1234,0011.rom")
    #expect(FirmwareFiles.bootOrder(["/a", "/b"]).bytes == Array("/a\n/b\0".utf8))
  }
}
