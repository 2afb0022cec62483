import Testing

@testable import ringside

@Suite struct ConsoleKeysTests {
  private func take(_ pieces: [UInt8]...) -> [ConsoleKeys.Action] {
    var keys = ConsoleKeys()
    return pieces.flatMap { keys.take($0) }
  }

  @Test func plainKeysPass() {
    #expect(take([3, 26, 0x61]) == [.send([3, 26, 0x61])])
    #expect(take([]) == [])
  }

  @Test func prefixedKeysAreCommands() {
    #expect(take([0x61, 1, 0x78, 0x62]) == [.send([0x61]), .end, .send([0x62])])
    #expect(take([1, 0x68]) == [.help])
    #expect(take([1, 0x70]) == [.pressPowerButton])
    #expect(take([1, 1, 0x78]) == [.send([1, 0x78])])
  }

  @Test func prefixIsRememberedFromPieceToPiece() {
    #expect(take([0x61, 1], [0x78]) == [.send([0x61]), .end])
    #expect(take([1], [1], [1], [0x68]) == [.send([1]), .help])
  }

  @Test func otherKeysAfterThePrefixAreDropped() {
    #expect(take([1, 0x7a, 0x61]) == [.send([0x61])])
  }
}
