import CHost
import Foundation
import Machine
import TestSupport
import Testing
import X86

@testable import Processor

/// Random programs do the same, interpreted and translated, where segments have bases, limits and types that matter: real
/// mode, with limits left over from protected mode too, virtual-8086 mode, and protected and compatibility mode with 16-
/// and 32-bit code.
struct TranslatedSegmentTests {
  typealias Kind = SegmentedSetting.Kind
  private static let scale = ProcessInfo.processInfo.environment["RINGSIDE_FUZZ_ROUNDS"].flatMap { Int($0) } ?? 1

  @Test(arguments: Kind.allCases, [false, true])
  func programs(_ kind: Kind, isWild: Bool) throws {
    let rings = kind.hasParagraphs ? [0] : [0, 3]
    for ring in rings {
      let twins = TwinMachines(kind.mode, ring: ring)
      let canaries = twins.machines.map { HostCanaries(around: $0.memory) }
      let engines = zip(twins.machines, twins.engines)
      for (machine, engine) in engines { engine.stateChanged(&machine.cpu.pointee) }
      let initial = twins.machines.map { $0.cpu.pointee }
      for number in 0..<UInt64(100 * Self.scale) {
        var random = SeededRandom(seed: number << 8 | UInt64(ring) << 4 | (isWild ? 1 : 0))
        let program = RandomProgram(
          seed: random.next(), bits: kind.bits, count: 4 + Int(number % 24), isWild: isWild, isSegmented: true)
        let setting = SegmentedSetting(
          kind, ring: kind == .virtual8086 ? 3 : UInt16(ring), length: program.bytes.count, &random)
        twins.placeHandlers()
        twins.place(program.bytes, at: setting.code)
        let seed = random.next()
        let text = program.bytes.map { String($0 >> 4, radix: 16) + String($0 & 15, radix: 16) }.joined()
        let name = "\(kind.rawValue) ring \(ring) number \(number), \(text)"
        // The program as a whole, again in pieces, and again as a whole when all is linked.
        for piece in [10_000, number % 5 + 1, 10_000] as [UInt64] {
          var random = SeededRandom(seed: seed)
          Self.prepare(twins, initial, setting, &random)
          // A fault at ring 0 may find no stack; the shutdown then is the same in both.
          for _ in 0..<200 where try twins.run(budget: piece, name) != .budgetSpent { break }
          guard twins.compare().isEmpty else { return }
        }
        // Whoever comes here again, because a program has changed another, stops.
        twins.place([UInt8](repeating: TwinMachines.hlt, count: program.bytes.count), at: setting.code)
      }
      for canary in canaries { #expect(canary.areUntouched) }
    }
  }

  /// The same state in both: pointers near the edges of pages and of segments.
  private static func prepare(
    _ twins: TwinMachines, _ initial: [CPUState], _ setting: SegmentedSetting, _ random: inout SeededRandom
  ) {
    twins.restart(at: setting.rip)
    for (machine, state) in zip(twins.machines, initial) {
      machine.cpu.pointee.cpl = state.cpl
      machine.cpu.pointee.rflags = state.rflags
      machine.cpu.pointee.cr2 = 0
      machine.cpu.pointee.instructionCount = 0
      setting.apply(to: machine.cpu)
    }
    for number in 0..<8 { twins.set(number, random.next() % 3 == 0 ? random.next() & 0xffff_ffff : random.next() % 64) }
    let edges: [UInt64] = [0, 0, 0x10, 0x1000, 0x1000, 0x2000, 0x3000, 0x4000, 0xffff, 0x1_0000, 0xffff_ffff]
    for number in [3, 5, 6, 7, 4] {
      let edge = edges[Int(random.next() % UInt64(edges.count))]
      twins.set(number, (edge &+ random.next() % 64 &- 32) & 0xffff_ffff)
    }
    let flags = random.next() & RFLAGS.arithmetic
    let contents = (0..<64).map { _ in random.next() }
    let isWindow = setting.kind.mode == .compatibility
    twins.each { machine in
      machine.cpu.pointee.rflags = machine.cpu.pointee.rflags & ~RFLAGS.arithmetic | flags
      for page in 0..<16 as Range<UInt64> {
        let base = isWindow ? TwinMachines.Window.physical : TestProcessor.Layout.data
        for index in 0..<16 as Range<UInt64> {
          machine.store(contents[Int((page + index) % 64)], base + page << 12 + index * 8)
          machine.store(contents[Int((page * 7 + index) % 64)], base + page << 12 + 0xf80 + index * 8)
        }
      }
    }
  }
}
