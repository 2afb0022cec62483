import Testing

@testable import Firmware

/// Encodings as the ACPI specification's chapter 20 gives them.
@Suite struct AMLTermTests {
  @Test func integers() {
    #expect(AMLTerm.integer(0).encoded == [0x00] && AMLTerm.integer(1).encoded == [0x01])
    #expect(AMLTerm.integer(2).encoded == [0x0a, 0x02] && AMLTerm.integer(0xff).encoded == [0x0a, 0xff])
    #expect(AMLTerm.integer(0x100).encoded == [0x0b, 0x00, 0x01])
    #expect(AMLTerm.integer(0x1_0000).encoded == [0x0c, 0x00, 0x00, 0x01, 0x00])
    #expect(AMLTerm.integer(1 << 32).encoded == [0x0e, 0, 0, 0, 0, 1, 0, 0, 0])
  }

  @Test func identifiers() {
    #expect(AMLTerm.identifier("PNP0A03").encoded == [0x0c, 0x41, 0xd0, 0x0a, 0x03])
    #expect(AMLTerm.identifier("PNP0501").encoded == [0x0c, 0x41, 0xd0, 0x05, 0x01])
    #expect(AMLTerm.string("AB").encoded == [0x0d, 0x41, 0x42, 0x00])
  }

  @Test func paths() {
    #expect(AMLTerm.name("A", .integer(0)).encoded == [0x08] + Array("A___".utf8) + [0])
    #expect(AMLTerm.name("\\_SB.PCI0", .integer(0)).encoded == [0x08, 0x5c, 0x2e] + Array("_SB_PCI0".utf8) + [0])
    #expect(AMLTerm.name("A.B.C", .integer(0)).encoded == [0x08, 0x2f, 3] + Array("A___B___C___".utf8) + [0])
  }

  @Test(arguments: [(0, 1), (58, 1), (59, 2), (4089, 2), (4090, 3), (70_000, 3)])
  func packageLengths(padding: Int, lengthBytes: Int) {
    // A scope with a name of four bytes and that many terms of one byte.
    let encoded = AMLTerm.scope("A", [AMLTerm](repeating: .integer(0), count: padding)).encoded
    #expect(encoded.count == 1 + lengthBytes + 4 + padding)
    #expect(Int(encoded[1] >> 6) == lengthBytes - 1)
    var length = lengthBytes == 1 ? Int(encoded[1]) : Int(encoded[1] & 0xf)
    for index in 1..<lengthBytes { length |= Int(encoded[1 + index]) << (4 + 8 * (index - 1)) }
    #expect(length == encoded.count - 1)
  }

  @Test func expressions() {
    #expect(AMLTerm.doubleword(1).encoded == [0x0c, 1, 0, 0, 0])
    #expect(
      AMLTerm.store(.add(.local(1), .integer(40)), to: .element(.local(0), 1)).encoded == [
        0x70, 0x72, 0x61, 0x0a, 40, 0x00, 0x88, 0x60, 0x01, 0x00,
      ])
    #expect(AMLTerm.notify("\\A", 0x80).encoded == [0x86, 0x5c] + Array("A___".utf8) + [0x0a, 0x80])
    let region = AMLTerm.bytes("R", in: .ports, offset: 0x505, fields: ["F", "G"]).encoded
    #expect(
      region == [0x5b, 0x80] + Array("R___".utf8) + [1, 0x0b, 0x05, 0x05, 0x0a, 2, 0x5b, 0x81, 16]
        + Array("R___".utf8) + [1] + Array("F___".utf8) + [8] + Array("G___".utf8) + [8])
  }

  @Test func resources() {
    guard case .buffer(let bytes) = ResourceTemplate().ports(0x60, count: 1).interrupt(12).term else {
      Issue.record("no buffer")
      return
    }
    #expect(bytes == [0x47, 0x01, 0x60, 0x00, 0x60, 0x00, 0x01, 0x01, 0x22, 0x00, 0x10, 0x79, 0x00])
    #expect(AMLTerm.buffer([1, 2, 3]).encoded == [0x11, 0x06, 0x0a, 0x03, 1, 2, 3])
    #expect(AMLTerm.package([.integer(0), .integer(1)]).encoded == [0x12, 0x04, 0x02, 0x00, 0x01])
  }
}
