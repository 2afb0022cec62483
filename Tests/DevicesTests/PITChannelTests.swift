import Testing

@testable import Devices

/// The modes of one counter, tick by tick (82C54 data sheet, "Mode Definitions").
@Suite struct PITChannelTests {
  /// Output of `channel` from `first` on, as a string of digits.
  private func outputs(_ channel: inout PITChannel, _ ticks: ClosedRange<UInt64>) -> String {
    var text = ""
    for tick in ticks {
      channel.settle(tick)
      text += channel.output(tick) ? "1" : "0"
    }
    return text
  }

  private func counts(_ channel: inout PITChannel, _ ticks: ClosedRange<UInt64>) -> [UInt16] {
    ticks.map { tick in
      channel.settle(tick)
      return channel.count(tick)
    }
  }

  private func make(_ mode: UInt8, count: UInt16? = nil, gate: Bool = true, decimal: Bool = false) -> PITChannel {
    var channel = PITChannel(gate: gate)
    channel.setControl(0x30 | mode << 1 | (decimal ? 1 : 0))
    if let count { channel.setCount(count, 0) }
    return channel
  }

  @Test func mode0() {
    var channel = make(0, count: 4)
    #expect(outputs(&channel, 0...8) == "000001111")
    #expect(channel.nextRise(after: 0) == 5 && channel.nextRise(after: 5) == nil)
    var again = make(0, count: 4)
    #expect(counts(&again, 1...7) == [4, 3, 2, 1, 0, 0xffff, 0xfffe])
    // The gate suspends it.
    again = make(0, count: 4)
    again.setGate(false, 3)
    #expect(outputs(&again, 3...9) == "0000000" && again.count(9) == 2 && again.nextRise(after: 9) == nil)
    again.setGate(true, 10)
    #expect(outputs(&again, 10...13) == "0011")
    // A new count; its first byte stops the counter.
    again.beginCount()
    #expect(!again.output(13) && again.nextRise(after: 13) == nil)
    again.setCount(2, 13)
    #expect(outputs(&again, 13...17) == "00011" && again.nextRise(after: 13) == 16)
  }

  @Test func mode1() {
    var channel = make(1, count: 3, gate: false)
    #expect(outputs(&channel, 0...3) == "1111" && channel.status(3) & 0x40 != 0)
    channel.setGate(true, 3)
    #expect(outputs(&channel, 4...9) == "000111" && channel.nextRise(after: 3) == 7)
    channel.setGate(false, 9)
    channel.setGate(true, 9)
    channel.setCount(5, 10)
    #expect(outputs(&channel, 10...14) == "00011", "a new count waits for the trigger")
    channel.setGate(false, 14)
    channel.setGate(true, 14)
    #expect(outputs(&channel, 15...21) == "0000011")
    channel.setGate(false, 21)
    channel.setGate(true, 21)
    _ = outputs(&channel, 22...24)
    channel.setGate(false, 24)
    channel.setGate(true, 24)
    #expect(outputs(&channel, 25...31) == "0000011", "retriggered")
  }

  @Test(arguments: [2, 6] as [UInt8]) func mode2(bits: UInt8) {
    var channel = make(bits, count: 3)
    #expect(channel.mode == 2)
    #expect(outputs(&channel, 0...10) == "11101101101")
    #expect(channel.nextRise(after: 0) == 4 && channel.nextRise(after: 4) == 7)
    var again = make(bits, count: 3)
    #expect(counts(&again, 1...7) == [3, 2, 1, 3, 2, 1, 3])
    // A new count takes over at the end of the cycle.
    again.setCount(5, 8)
    #expect(again.status(8) & 0x40 != 0 && again.nextRise(after: 8) == 10)
    #expect(counts(&again, 8...16) == [2, 1, 5, 4, 3, 2, 1, 5, 4])
    #expect(again.status(16) & 0x40 == 0)
    // The gate takes the output high and starts the cycle anew.
    again.setGate(false, 18)
    #expect(outputs(&again, 18...22) == "11111" && again.nextRise(after: 20) == nil)
    again.setGate(true, 22)
    #expect(counts(&again, 23...28) == [5, 4, 3, 2, 1, 5])
  }

  @Test(arguments: [3, 7] as [UInt8]) func mode3(bits: UInt8) {
    var even = make(bits, count: 4)
    #expect(even.mode == 3)
    #expect(outputs(&even, 0...10) == "11100110011")
    #expect(even.nextRise(after: 0) == 5 && even.nextRise(after: 5) == 9)
    var odd = make(bits, count: 5)
    #expect(outputs(&odd, 1...11) == "11100111001")
    var again = make(bits, count: 4)
    #expect(counts(&again, 1...6) == [4, 2, 4, 2, 4, 2])
    again = make(bits, count: 5)
    #expect(counts(&again, 1...6) == [4, 2, 0, 4, 2, 4])
    // A new count takes over at the end of the half cycle.
    again = make(bits, count: 8)
    again.setCount(4, 2)
    #expect(again.nextRise(after: 2) == 7)
    #expect(outputs(&again, 1...12) == "111100110011")
    again = make(bits, count: 4)
    again.setCount(6, 3)
    #expect(again.nextRise(after: 3) == 5)
    #expect(outputs(&again, 1...12) == "110011100011")
    again.setGate(false, 13)
    #expect(outputs(&again, 13...16) == "1111")
    again.setGate(true, 16)
    #expect(outputs(&again, 17...23) == "1110001")
  }

  @Test func mode4() {
    var channel = make(4, count: 3)
    #expect(outputs(&channel, 0...7) == "11110111")
    #expect(channel.nextRise(after: 0) == 5 && channel.nextRise(after: 5) == nil)
    #expect(outputs(&channel, 65_530...65_550) == String(repeating: "1", count: 21), "once only")
    var again = make(4, count: 3)
    again.setGate(false, 2)
    #expect(outputs(&again, 2...5) == "1111")
    again.setGate(true, 5)
    #expect(outputs(&again, 5...9) == "11011")
    again.setCount(2, 9)
    #expect(outputs(&again, 9...14) == "111011")
  }

  @Test func mode5() {
    var channel = make(5, count: 3, gate: false)
    #expect(outputs(&channel, 0...6) == "1111111" && channel.nextRise(after: 0) == nil)
    channel.setGate(true, 6)
    #expect(channel.nextRise(after: 6) == 11)
    #expect(outputs(&channel, 7...12) == "111011")
    channel.setGate(false, 12)
    channel.setGate(true, 12)
    #expect(outputs(&channel, 13...17) == "11101")
  }

  @Test func binaryCodedDecimal() {
    var channel = make(2, count: 0x1000, decimal: true)
    #expect(counts(&channel, 1...3) == [0x1000, 0x0999, 0x0998])
    #expect(channel.nextRise(after: 0) == 1001)
    var largest = make(0, count: 0, decimal: true)
    #expect(counts(&largest, 1...3) == [0, 0x9999, 0x9998])
    #expect(largest.nextRise(after: 0) == 10_001)
    var binary = make(0, count: 0)
    #expect(counts(&binary, 1...3) == [0, 0xffff, 0xfffe])
    #expect(binary.nextRise(after: 0) == 65_537)
  }

  @Test func illegalCountsOfOneDoNotRise() {
    #expect(make(2, count: 1).nextRise(after: 0) == nil)
    #expect(make(3, count: 1).nextRise(after: 0) == nil)
  }
}
