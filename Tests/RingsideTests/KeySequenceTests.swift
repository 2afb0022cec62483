import ArgumentParser
import Testing

@testable import ringside

@Suite struct KeySequenceTests {
  @Test func typing() throws {
    #expect(
      try KeySequence(parsing: "aB").steps == [
        .press([0x1c, 0xf0, 0x1c]), .press([0x12, 0x32, 0xf0, 0x32, 0xf0, 0x12]),
      ])
    #expect(
      try KeySequence(parsing: "<enter><up><<").steps == [
        .press([0x5a, 0xf0, 0x5a]), .press([0xe0, 0x75, 0xe0, 0xf0, 0x75]),
        .press([0x12, 0x41, 0xf0, 0x41, 0xf0, 0x12]),
      ])
    #expect(
      try KeySequence(parsing: "<ctrl-alt-delete>").steps == [
        .press([0x14, 0x11, 0xe0, 0x71, 0xe0, 0xf0, 0x71, 0xf0, 0x11, 0xf0, 0x14])
      ])
    let waiting = try KeySequence(parsing: "<wait GNU GRUB><pause 0.5>c")
    #expect(waiting.waits && waiting.steps == [.wait("GNU GRUB"), .pause(500_000_000), .press([0x21, 0xf0, 0x21])])
    #expect(try !KeySequence(parsing: "x").waits)
  }

  @Test(arguments: ["<enter", "<nokey>", "<hyper-a>", "é", "<pause x>", "<pause -1>", "<>"])
  func mistakes(text: String) {
    #expect(throws: ValidationError.self) { try KeySequence(parsing: text) }
  }

  @Test func bootOrder() throws {
    #expect(try BootOrder(parsing: "cdrom,disk").devices == [.cdrom, .disk])
    for text in ["", "cdrom,", "usb", "disk,disk"] {
      #expect(throws: ValidationError.self) { try BootOrder(parsing: text) }
    }
  }
}
