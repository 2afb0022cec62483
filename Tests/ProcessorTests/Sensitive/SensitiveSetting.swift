import CHost
import Testing
import X86

@testable import Processor

/// Where a sensitive instruction is tried: a mode, a ring, IOPL and UMIP.
struct SensitiveSetting: CustomTestStringConvertible, Sendable {
  typealias Entry = TestProcessor.Entry
  typealias Layout = TestProcessor.Layout

  var mode: TestProcessor.Mode
  var ring: Int
  var iopl: UInt64
  var umip: Bool

  /// All that are possible: real mode is ring 0, virtual-8086 mode ring 3.
  static let all: [SensitiveSetting] = TestProcessor.Mode.allCases.flatMap { mode in
    [0, 3].flatMap { ring in
      [0, 3].flatMap { iopl in
        [false, true].map { SensitiveSetting(mode: mode, ring: ring, iopl: iopl, umip: $0) }
      }
    }
  }.filter { setting in
    switch setting.mode {
    case .real: setting.ring == 0
    case .virtual8086: setting.ring == 3
    default: true
    }
  }

  static let withoutUMIP = all.filter { !$0.umip }

  var testDescription: String { "\(mode), ring \(ring), IOPL \(iopl)\(umip ? ", UMIP" : "")" }

  /// Default operand size of code, and of the stack's slots.
  var operandSize: Int { is16 ? 2 : 4 }
  var slotSize: Int { mode == .long64 ? 8 : operandSize }
  var is16: Bool { mode == .real || mode == .virtual8086 || mode == .protected16 }
  var usesParagraphs: Bool { mode == .real || mode == .virtual8086 }

  /// ModRM of a memory operand at RBX, in the default address size.
  func memory(_ reg: UInt8) -> UInt8 { reg << 3 | (is16 ? 7 : 3) }

  /// Where RBX points: in everybody's reach.
  static let data: UInt64 = 0x7000
  /// Where far transfers go.
  static let target: UInt64 = 0x5100

  func make() -> TestProcessor {
    let test = TestProcessor(mode, ring: ring)
    let cpu = test.cpu
    cpu.pointee.rflags |= iopl << 12
    if umip { cpu.pointee.cr4 |= CR4.umip }
    cpu.pointee.gpr.3 = Self.data
    cpu.pointee.ldtr = SegmentState(
      base: Layout.ldt, limit: 0xff, selector: TestProcessor.selector(Entry.localTable), attributes: 0x82)
    let handler = mode == .long64 || mode == .compatibility ? Entry.code64 : Entry.code32
    if mode != .real { test.setGate(0x80, TestProcessor.selector(handler), Layout.handler + 0x80, access: 0xee) }
    return test
  }

  /// The first of the four code segments of this mode, one for each ring at steps of two.
  var codeEntry: Int {
    switch mode {
    case .protected16: Entry.code16
    case .long64: Entry.code64
    default: Entry.code32
    }
  }

  var dataEntry: Int { mode == .protected16 ? Entry.data16 : Entry.data32 }

  /// Selector of code at a ring, or a paragraph.
  func code(_ ring: Int) -> UInt16 {
    usesParagraphs ? 0 : TestProcessor.selector(codeEntry + 2 * ring, ring)
  }

  func data(_ ring: Int) -> UInt16 { usesParagraphs ? 0x123 : TestProcessor.selector(dataEntry + 2 * ring, ring) }

  /// Puts values on the stack, the first on top.
  func pushed(_ test: TestProcessor, _ values: [UInt64], size: Int) {
    for (index, value) in values.enumerated() {
      let address = Layout.stack + UInt64(index * size)
      switch size {
      case 2: test.store(UInt16(truncatingIfNeeded: value), address)
      case 4: test.store(UInt32(truncatingIfNeeded: value), address)
      default: test.store(value, address)
      }
    }
  }

  /// A far pointer at RBX.
  func setFarPointer(_ test: TestProcessor, _ selector: UInt16, _ offset: UInt64 = Self.target) {
    if is16 {
      test.store(UInt16(truncatingIfNeeded: offset), Self.data)
    } else {
      test.store(UInt32(truncatingIfNeeded: offset), Self.data)
    }
    test.store(selector, Self.data + UInt64(operandSize))
  }
}
