import CHost
import Machine
import TestSupport
import Testing
import X86

@testable import Processor

/// Random instructions in random states: nothing that a guest does may stop the host process.
struct SystemFuzzTests {
  /// Opcodes of the system families, without operands. What loads the host's vector and x87 units is not among them.
  static let opcodes: [[UInt8]] = [
    [0x0f, 0x00], [0x0f, 0x01], [0x0f, 0x02], [0x0f, 0x03], [0x0f, 0x05], [0x0f, 0x06], [0x0f, 0x07], [0x0f, 0x08],
    [0x0f, 0x09], [0x0f, 0x20], [0x0f, 0x21], [0x0f, 0x22], [0x0f, 0x23], [0x0f, 0x30], [0x0f, 0x31], [0x0f, 0x32],
    [0x0f, 0x33], [0x0f, 0x34], [0x0f, 0x35], [0x0f, 0xa0], [0x0f, 0xa1], [0x0f, 0xa2], [0x0f, 0xa9],
    [0xf3, 0x0f, 0xae],
    [0x0f, 0xb2], [0x0f, 0xb4], [0x0f, 0xb5], [0x0f, 0xc7], [0x0f, 0x38, 0x82], [0x06], [0x07], [0x16], [0x17],
    [0x1f], [0x62], [0x63], [0x6c], [0x6d], [0x6e], [0x6f], [0x8c], [0x8e], [0x9a], [0x9c], [0x9d], [0xc4], [0xc5],
    [0xca], [0xcb], [0xcc], [0xcd], [0xce], [0xcf], [0xe4], [0xe7], [0xea], [0xec], [0xef], [0xf1], [0xf4], [0xfa],
    [0xfb], [0xff],
  ]

  @Test(arguments: TestProcessor.Mode.allCases)
  func randomInstructions(_ mode: TestProcessor.Mode) {
    var random = SeededRandom(seed: 0x5eed + UInt64(mode.rawValue.count))
    var faults = 0
    var round = 0
    var count = 0
    while count < 30_000 {
      round += 1
      let ring = mode == .real || mode == .virtual8086 ? 0 : Int.random(in: 0..<4, using: &random)
      var model = CPUModel(vendor: round % 2 == 0 ? .intel : .amd)
      if round % 3 == 0 { model.features.insert(.la57) }
      if round % 5 == 0 { model.features.insert(.monitor) }
      let test = TestProcessor(mode, ring: ring, model: model)
      for _ in 0..<500 {
        count += 1
        disturb(test, &random)
        var code: [UInt8] = []
        if Int.random(in: 0..<3, using: &random) == 0 {
          code.append([0x66, 0x67, 0xf3, 0xf2, 0x64, 0x48].randomElement(using: &random)!)
        }
        code += Self.opcodes.randomElement(using: &random)!
        while code.count < 15 { code.append(UInt8.random(in: 0...255, using: &random)) }
        if test.processor.beginStep() != nil { faults += 1 }
        if let fault = test.execute(code) {
          faults += 1
          test.processor.deliver(fault)
        } else {
          test.processor.endStep()
        }
        _ = test.processor.deliverPendingEvents()
        while test.processor.pendingExits.next() != nil {}
        test.processor.replay.clear()
        if test.cpu.pointee.activity == .shutdown { break }
      }
    }
    #expect(faults > 1000)
  }

  /// Changes a few things at random: registers, tables, events.
  private func disturb(_ test: TestProcessor, _ random: inout SeededRandom) {
    let cpu = test.cpu
    func value() -> UInt64 {
      switch Int.random(in: 0..<5, using: &random) {
      case 0: return UInt64.random(in: 0...0xf, using: &random)
      case 1: return UInt64.random(in: 0...0xffff, using: &random)
      case 2: return UInt64.random(in: 0...0x20_0000, using: &random)
      case 3: return ~UInt64.random(in: 0...0xffff, using: &random)
      default: return UInt64.random(in: 0...UInt64.max, using: &random)
      }
    }
    for _ in 0..<3 { test.processor.setGPR(Int.random(in: 0..<16, using: &random), value()) }
    if cpu.pointee.activity == .halted { cpu.pointee.activity = .running }
    switch Int.random(in: 0..<24, using: &random) {
    case 0: test.store(value(), TestProcessor.Layout.gdt + UInt64.random(in: 0..<64, using: &random) * 8)
    case 1: test.store(value(), TestProcessor.Layout.idt + UInt64.random(in: 0..<512, using: &random) * 8)
    case 2: test.store(value(), TestProcessor.Layout.tss + UInt64.random(in: 0..<26, using: &random) * 4)
    case 3: cpu.pointee.tr.limit = UInt32(truncatingIfNeeded: value())
    case 4: cpu.pointee.idtr.limit = UInt32(truncatingIfNeeded: value() & 0xffff)
    case 5: cpu.pointee.nmiPending = 1
    case 6: cpu.pointee.interruptPending = 1
    case 7: cpu.pointee.pendingDebug = UInt32(truncatingIfNeeded: value() & 0xe00f)
    case 8: cpu.pointee.rip = value()
    case 9: cpu.pointee.dr7 = value() & 0xffff_07ff | 0x400
    case 10: cpu.pointee.dr.0 = value()
    case 11: cpu.pointee.rflags ^= value() & 0x25_7fd5
    case 12: cpu.pointee.gdtr.base = value()
    case 13: cpu.pointee.ldtr = SegmentState(base: value(), limit: 0xffff, selector: 8, attributes: 0x82)
    case 14: cpu.pointee.gpr.4 = value()
    default: break
    }
    test.processor.modeChanged()
  }
}
