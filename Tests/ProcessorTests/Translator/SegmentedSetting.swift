import CHost
import TestSupport
import X86

@testable import Processor

/// What code runs in that is not flat: bases, limits and types of all six segments.
///
/// Data are at `data` and in the sixteen pages from there on; in compatibility mode at the window of `TwinMachines`, of
/// which pages are missing. Each segment begins somewhere near, so that offsets which programs make from its pointers
/// reach there, and many end close to them.
struct SegmentedSetting {
  enum Kind: String, CaseIterable {
    case real, bigReal, virtual8086, protected16, protected32, compatibility16, compatibility32

    var bits: Int {
      switch self {
      case .protected32, .compatibility32: 32
      default: 16
      }
    }

    var mode: TestProcessor.Mode {
      switch self {
      case .real, .bigReal: .real
      case .virtual8086: .virtual8086
      case .protected16: .protected16
      case .protected32: .protected32
      case .compatibility16, .compatibility32: .compatibility
      }
    }

    var hasParagraphs: Bool { self == .real || self == .bigReal || self == .virtual8086 }
    var data: UInt64 { mode == .compatibility ? TwinMachines.Window.linear : TestProcessor.Layout.data }
  }

  let kind: Kind
  /// ES CS SS DS FS GS.
  var segments: [SegmentState]
  /// Linear address of the code.
  let code: UInt64

  var rip: UInt64 { (code &- segments[1].base) & 0xffff_ffff }

  /// - Parameter length: bytes of code.
  init(_ kind: Kind, ring: UInt16, length: Int, _ random: inout SeededRandom) {
    self.kind = kind
    code = 0x9_0000 + random.next() % 0x2000
    segments = []
    for number in 0..<6 {
      segments.append(number == 1 ? SegmentState() : Self.data(kind, number, ring: ring, &random))
    }
    segments[1] = Self.code(kind, at: code, length: UInt64(length), ring: ring, &random)
  }

  private static func pick<T>(_ random: inout SeededRandom, _ list: [T]) -> T {
    list[Int(random.next() % UInt64(list.count))]
  }

  private static func data(_ kind: Kind, _ number: Int, ring: UInt16, _ random: inout SeededRandom) -> SegmentState {
    let selector = UInt16(truncatingIfNeeded: random.next()) & ~3 | ring
    guard !kind.hasParagraphs else {
      // Half a page before the data, or in them.
      let base = (kind.data &+ random.next() % 0x4000 &- 0x800) & ~15
      let limit: UInt32 =
        kind == .bigReal ? pick(&random, [0xffff, ~0, 0xf_ffff, 0x7fff, 0x1000, 0x37]) : 0xffff
      return SegmentState(
        base: base, limit: limit, selector: UInt16(base >> 4), attributes: kind == .virtual8086 ? 0xf3 : 0x93)
    }
    // Some lie so that offsets wrap around on the way to the data.
    let base = (kind.data &+ pick(&random, [0, 0x10, 0xffe, 0x1001, 0x2ff0, 0x8000_0000, 0xffff_f000])) & 0xffff_ffff
    let limit = pick(&random, [0xffff, 0xffff, 0xf_ffff, ~0, ~0, 0x1fff, 0x2007, 0x3001, 0xfff, 0x20] as [UInt32])
    let isBig: UInt16 = random.next() % 2 == 0 ? SegmentAttributes.big : 0
    let dpl = ring << 5
    // Data: writable, read-only, expand-down; code: readable, not; not usable.
    var type: UInt16 = pick(&random, [0x93, 0x93, 0x93, 0x93, 0x93, 0x91, 0x97, 0x95, 0x9b, 0x99, 0])
    if number == 2 { type = pick(&random, [0x93, 0x93, 0x93, 0x97]) }
    return SegmentState(base: base, limit: limit, selector: selector, attributes: type == 0 ? 0 : type | isBig | dpl)
  }

  private static func code(
    _ kind: Kind, at code: UInt64, length: UInt64, ring: UInt16, _ random: inout SeededRandom
  ) -> SegmentState {
    // RIP: anywhere, at the beginning of the segment, at the end of 64 KiB.
    let rip = pick(&random, [0x1234, 0x4000, 0xfff0, 0, 8, 0x1_0000 &- length, 0xff80 as UInt64])
    if kind.hasParagraphs {
      let base = (code &- min(rip, 0xffff &- length)) & ~15
      return SegmentState(
        base: base, limit: 0xffff, selector: UInt16(truncatingIfNeeded: base >> 4),
        attributes: kind == .virtual8086 ? 0xf3 : 0x9b)
    }
    let base = (code &- rip) & 0xffff_ffff
    // Some segments end with the code or within it.
    let end = UInt32(rip &+ length &- 1)
    let limit = pick(&random, [~0, 0xffff, end, end &- 1, end &- 3, end &+ 0x100] as [UInt32])
    return SegmentState(
      base: base, limit: max(limit, UInt32(rip)),
      selector: TestProcessor.selector(TestProcessor.Entry.scratch, Int(ring)),
      attributes: 0x9b | ring << 5 | (kind.bits == 32 ? SegmentAttributes.big : 0))
  }

  /// Puts it into a machine.
  func apply(to cpu: UnsafeMutablePointer<CPUState>) {
    cpu.pointee.segments = (segments[0], segments[1], segments[2], segments[3], segments[4], segments[5])
    cpu.pointee.rip = rip
  }
}
