import CHost
import Foundation
import Machine
import TestSupport
import Testing
import X86

@testable import Processor

/// Random programs do the same, interpreted and translated: registers, flags, memory, faults, numbers of instructions.
///
/// Pointers are near the edges of pages, so accesses and groups of them cross into missing, read-only and device pages in
/// the middle of blocks.
struct TranslatedProgramTests {
  private static let scale = ProcessInfo.processInfo.environment["RINGSIDE_FUZZ_ROUNDS"].flatMap { Int($0) } ?? 1

  @Test(arguments: [0, 3], [1, 2, 3, 4] as [UInt64])
  func random64(_ ring: Int, _ seed: UInt64) throws {
    let twins = TwinMachines(.long64, ring: ring)
    try Self.run(twins, is64: true, seed: seed << 32 | UInt64(ring) << 24, isWild: false)
  }

  @Test(arguments: [1, 2, 3, 4] as [UInt64])
  func random32(_ seed: UInt64) throws {
    let twins = TwinMachines(.protected32)
    // FS is flat, GS has a base.
    twins.each { $0.cpu.pointee.segments.5.base = 0x40 }
    try Self.run(twins, is64: false, seed: seed << 40, isWild: false)
  }

  /// Pointers into nowhere, to addresses that are not canonical, over the end of RAM and of the address space.
  @Test(arguments: [0, 3], [1, 2, 3, 4] as [UInt64])
  func wild64(_ ring: Int, _ seed: UInt64) throws {
    let twins = TwinMachines(.long64, ring: ring)
    let canaries = twins.machines.map { HostCanaries(around: $0.memory) }
    try Self.run(twins, is64: true, seed: seed << 48 | UInt64(ring) << 24, isWild: true)
    for canary in canaries { #expect(canary.areUntouched) }
  }

  @Test(arguments: [1, 2, 3, 4] as [UInt64])
  func wild32(_ seed: UInt64) throws {
    let twins = TwinMachines(.protected32)
    let canaries = twins.machines.map { HostCanaries(around: $0.memory) }
    twins.each { $0.cpu.pointee.segments.5.base = 0xffff_fff0 }
    try Self.run(twins, is64: false, seed: seed << 52, isWild: true)
    for canary in canaries { #expect(canary.areUntouched) }
  }

  private static func run(_ twins: TwinMachines, is64: Bool, seed: UInt64, isWild: Bool) throws {
    for engine in zip(twins.machines, twins.engines) { engine.1.stateChanged(&engine.0.cpu.pointee) }
    let initial = twins.machines.map { $0.cpu.pointee }
    for number in 0..<UInt64(150 * scale) {
      let seed = seed + number
      var random = SeededRandom(seed: seed ^ 0x1234_5678)
      let program = RandomProgram(seed: seed, bits: is64 ? 64 : 32, count: 4 + Int(number % 24), isWild: isWild)
      prepare(twins, initial, &random, is64: is64, isWild: isWild)
      twins.place(program.bytes)
      let issues = program.bytes.map { String($0 >> 4, radix: 16) + String($0 & 15, radix: 16) }.joined()
      // The program as a whole, again in pieces, and again as a whole when all is linked.
      let piece = number % 3 == 1 ? random.next() % 5 + 1 : 10_000
      for _ in 0..<2 {
        while try twins.run(budget: piece, "seed \(seed), \(issues)") == .budgetSpent {}
        guard twins.compare().isEmpty else { return }
        var again = SeededRandom(seed: seed ^ 0x1234_5678)
        prepare(twins, initial, &again, is64: is64, isWild: isWild)
      }
    }
  }

  /// The same registers and data in both, another stack and other pointers for each program.
  private static func prepare(
    _ twins: TwinMachines, _ initial: [CPUState], _ random: inout SeededRandom, is64: Bool, isWild: Bool
  ) {
    for (machine, state) in zip(twins.machines, initial) {
      machine.cpu.pointee.segments = state.segments
      machine.cpu.pointee.cpl = state.cpl
      machine.cpu.pointee.rflags = state.rflags
    }
    let window = is64 ? TwinMachines.Window.linear : TestProcessor.Layout.data
    func pointer(_ random: inout SeededRandom) -> UInt64 {
      let page = random.next() % 8
      return window + page << 12 &+ random.next() % 64 &- 32
    }
    for number in 0..<16 { twins.set(number, random.next() % 3 == 0 ? random.next() : random.next() % 64) }
    for number in is64 ? RandomProgram.bases64 : RandomProgram.bases32 {
      twins.set(number, isWild && random.next() % 4 == 0 ? WildAddress.pick(&random) : pointer(&random))
    }
    twins.set(4, pointer(&random) & (random.next() % 8 == 0 ? ~0 : ~7))
    if is64 {
      let bases = [0, 0x40_1000, 8].map { (value: UInt64) in isWild ? WildAddress.pick(&random) : value }
      twins.each {
        $0.cpu.pointee.segments.4.base = bases[1]
        $0.cpu.pointee.segments.5.base = bases[2]
      }
    }
    let flags = random.next() & RFLAGS.arithmetic
    let contents = (0..<64).map { _ in random.next() }
    twins.restart()
    twins.each { machine in
      machine.cpu.pointee.rflags = machine.cpu.pointee.rflags & ~RFLAGS.arithmetic | flags
      machine.cpu.pointee.cr2 = 0
      machine.cpu.pointee.instructionCount = 0
      for page in 0..<16 as Range<UInt64> {
        let base = is64 ? TwinMachines.Window.physical : window
        for index in 0..<16 as Range<UInt64> {
          machine.store(contents[Int((page + index) % 64)], base + page << 12 + index * 8)
          machine.store(contents[Int((page * 7 + index) % 64)], base + page << 12 + 0xf80 + index * 8)
        }
      }
      let vectors = UnsafeMutableRawPointer(machine.cpu) + StateOffset.xmm(0)
      for index in 0..<32 { vectors.storeBytes(of: contents[index], toByteOffset: index * 8, as: UInt64.self) }
    }
  }
}
