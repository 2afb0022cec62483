import CHost
import TestSupport
import Testing
import X86

@testable import Processor

/// REP MOVS and REP STOS: within a page, across pages, overlapping, downwards, of nothing, and where something is in the way.
@Suite struct TranslatedStringTests {
  typealias Layout = TestProcessor.Layout

  /// REP MOVSB, MOVSW, MOVSD, MOVSQ; REP STOSB, STOSW, STOSD, STOSQ.
  private static let instructions: [[UInt8]] = [
    [0xf3, 0xa4], [0x66, 0xf3, 0xa5], [0xf3, 0xa5], [0xf3, 0x48, 0xa5],
    [0xf3, 0xaa], [0x66, 0xf3, 0xab], [0xf3, 0xab], [0xf3, 0x48, 0xab],
  ]

  private static func run(_ twins: TwinMachines, _ code: [UInt8], _ seed: UInt64) throws {
    var random = SeededRandom(seed: seed)
    for page in 0..<16 as Range<UInt64> {
      for place in stride(from: 0, to: 4096, by: 8) as StrideTo<UInt64> {
        let value = random.next()
        twins.each { $0.store(value, TwinMachines.Window.physical + page << 12 + place) }
      }
    }
    func pointer() -> UInt64 {
      // Near a page's end, as often as not.
      let page = TwinMachines.Window.linear + random.next() % 5 << 12
      return page + (random.next() & 1 == 0 ? random.next() % 4096 : 4096 - random.next() % 64)
    }
    let (source, destination) = (pointer(), pointer())
    let near = random.next() % 4 == 0 ? source &+ random.next() % 64 &- 32 : destination
    let size: UInt64 = code.last == 0xa4 || code.last == 0xaa ? 1 : code.first == 0x66 ? 2 : code.count == 3 ? 8 : 4
    let counts: [UInt64] = [0, 1, random.next() % 16, random.next() % 300, 4096 / size, random.next() % (8192 / size)]
    let count = counts[Int(random.next() % 6)]
    let value = random.next()
    let flags = RFLAGS.fixed | random.next() & RFLAGS.arithmetic | (random.next() % 8 == 0 ? RFLAGS.df : 0)
    twins.each { machine in
      machine.cpu.pointee.gpr.0 = value
      machine.cpu.pointee.gpr.1 = count
      machine.cpu.pointee.gpr.6 = source
      machine.cpu.pointee.gpr.7 = near
      machine.cpu.pointee.rip = Layout.code
      machine.cpu.pointee.rflags = flags
      machine.cpu.pointee.activity = .running
    }
    #expect(try twins.run("\(code) \(count) from \(source) to \(near), seed \(seed)") == .halt)
  }

  @Test(arguments: instructions, [0, 3]) func doWhatTheyShould(code: [UInt8], ring: Int) throws {
    let twins = TwinMachines(ring: ring)
    // ADD EDX, 1 before it: its flags stay. Ring 3 ends by HLT's fault.
    twins.place([0x83, 0xc2, 0x01] + code + [0x90, 0xf4])
    for seed in 1...150 as ClosedRange<UInt64> { try Self.run(twins, code, seed) }
  }

  /// It writes over itself, and over the instruction behind it.
  @Test func writesToItsOwnPage() throws {
    let twins = TwinMachines()
    // REP STOSB; NOP …; HLT.
    for round in 0..<6 as Range<UInt64> {
      twins.place([0xf3, 0xaa] + [UInt8](repeating: 0x90, count: 30) + [0xf4])
      twins.each { machine in
        // INC EAX has no such encoding in 64-bit code; NOP and HLT have one byte.
        machine.cpu.pointee.gpr.0 = round & 1 == 0 ? 0xf4 : 0x90
        machine.cpu.pointee.gpr.1 = 8
        machine.cpu.pointee.gpr.7 = Layout.code + 4 + round
        machine.cpu.pointee.rip = Layout.code
        machine.cpu.pointee.activity = .running
      }
      #expect(try twins.run() == .halt)
    }
  }
}
