import CHost
import Machine
import TestSupport
import Testing
import X86

@testable import Processor

/// Calls and returns that do not belong together: wherever a program returns to, translated code goes there.
@Suite struct TranslatedReturnTests {
  private typealias Layout = TestProcessor.Layout

  /// Functions that call each other at random, directly and by address; that jump by RET, return beyond their call, drop
  /// return addresses, or release arguments; until EBX is used up.
  private struct Program {
    private static let count = 16
    private static let size = 0x100

    private var random: SeededRandom
    private(set) var functions: [(address: UInt64, code: [UInt8])] = []
    /// Functions that end with RET 8.
    private let releases: [Bool]

    init(seed: UInt64) {
      var random = SeededRandom(seed: seed)
      releases = (0..<Self.count).map { _ in random.next() % 4 == 0 }
      self.random = random
      for number in 0..<Self.count { functions.append((Self.address(number), function(number))) }
    }

    /// On two pages.
    static func address(_ number: Int) -> UInt64 {
      (number % 2 == 0 ? Layout.code : 0x6_0000) + UInt64(number / 2 * size)
    }

    private mutating func any(releasing: Bool? = nil) -> Int {
      let candidates = (0..<Self.count).filter { releasing == nil || releases[$0] == releasing }
      return candidates[Int(random.next() % UInt64(candidates.count))]
    }

    private mutating func function(_ number: Int) -> [UInt8] {
      var code: [UInt8] = []
      /// The last four bytes of an instruction: a distance to a function.
      func distance(to target: Int) -> [UInt8] {
        let place = Int64(Self.address(number)) + Int64(code.count) + 4
        let distance = Int32(truncatingIfNeeded: Int64(Self.address(target)) - place)
        return (0..<4).map { UInt8(truncatingIfNeeded: distance >> ($0 * 8)) }
      }
      // DEC EBX; JNZ +1; HLT.
      code += [0xff, 0xcb, 0x75, 1, 0xf4]
      let hasTailCall = !releases[number] && random.next() % 4 == 0
      for _ in 0..<2 + random.next() % 3 {
        switch random.next() % 6 {
        case 0, 1:
          let target = any()
          // PUSH RCX, where the function releases it; CALL; NOP, to return beyond.
          if releases[target] { code.append(0x51) }
          code.append(0xe8)
          code += distance(to: target)
          code.append(0x90)
        case 2:
          let target = any()
          if releases[target] { code.append(0x51) }
          // LEA RAX, [RIP + …]; CALL RAX; NOP.
          code += [0x48, 0x8d, 0x05]
          code += distance(to: target)
          code += [0xff, 0xd0, 0x90]
        // CALL +0; POP RDX.
        case 3: code += [0xe8, 0, 0, 0, 0, 0x5a]
        // LEA RAX, [RIP + 2]; PUSH RAX; RET.
        case 4: code += [0x48, 0x8d, 0x05, 2, 0, 0, 0, 0x50, 0xc3]
        // INC R8D; ADD RCX, R8.
        default: code += [0x41, 0xff, 0xc0, 0x4c, 0x01, 0xc1]
        }
      }
      if hasTailCall {
        // As a retpoline: CALL +1; INT3; LEA RAX, [RIP + …]; MOV [RSP], RAX; RET.
        code += [0xe8, 1, 0, 0, 0, 0xcc, 0x48, 0x8d, 0x05]
        code += distance(to: any(releasing: false))
        code += [0x48, 0x89, 0x04, 0x24, 0xc3]
      } else if releases[number] {
        code += [0xc2, 8, 0]
      } else if random.next() % 4 == 0 {
        // INC QWORD [RSP]; RET.
        code += [0x48, 0xff, 0x04, 0x24, 0xc3]
      } else {
        code.append(0xc3)
      }
      precondition(code.count <= Self.size, "a function has room")
      return code
    }
  }

  @Test(arguments: [0, 3], 1...40 as ClosedRange<UInt64>) func randomCalls(ring: Int, seed: UInt64) throws {
    let twins = TwinMachines(.long64, ring: ring)
    let program = Program(seed: seed)
    for (address, code) in program.functions { twins.place(code, at: address) }
    // Where the first function returns to.
    twins.place([TwinMachines.hlt], at: 0x6_f000)
    for (round, piece) in ([10_000, 10_000, 7, 300, 10_000] as [UInt64]).enumerated() {
      for number in 0..<16 where number != 4 { twins.set(number, UInt64(number)) }
      twins.set(3, 3000)
      twins.set(4, 0x1f_fff8)
      twins.each { $0.store(0x6_f000 as UInt64, 0x1f_fff8) }
      twins.restart(at: Program.address(Int(seed) % 16))
      var exit = VMExit.budgetSpent
      while exit == .budgetSpent { exit = try twins.run(budget: piece, "seed \(seed), round \(round)") }
      // HLT is privileged, and its fault's handler ends in one.
      #expect(exit == .halt, "seed \(seed)")
    }
  }

  /// More calls than the host's stack could hold, none of which returns; then all do.
  @Test func endlessRecursion() throws {
    let twins = TwinMachines()
    twins.place([
      // again: AND ESP, 1FFFF0H; OR ESP, 1F0000H; DEC EBX; JZ end; CALL again; end: HLT.
      0x81, 0xe4, 0xf0, 0xff, 0x1f, 0x00, 0x81, 0xcc, 0x00, 0x00, 0x1f, 0x00, 0xff, 0xcb, 0x74, 0x05, 0xe8, 0xeb, 0xff,
      0xff, 0xff, 0xf4,
    ])
    twins.set(3, 2_000_000)
    twins.set(4, 0x1f_8000)
    twins.restart()
    var exit = VMExit.budgetSpent
    while exit == .budgetSpent { exit = try twins.run(budget: 100_000_000) }
    #expect(exit == .halt && twins.cpu.gpr.3 == 0)
  }

  /// What is expected at one privilege level is nothing at another: CPL 0 returns to where CPL 3 had called.
  @Test func kernelReturnsWhereAUserCalled() throws {
    let twins = TwinMachines(.long64, ring: 3)
    let (user, entry) = (Layout.code, 0x6_0000 as UInt64)
    // CALL function; MOV EAX, CS; HLT; function: SYSCALL; RET.
    twins.place([0xe8, 3, 0, 0, 0, 0x8c, 0xc8, 0xf4, 0x0f, 0x05, 0xc3], at: user)
    // ADD RSP, 0; RET: to the user's address, at CPL 0. Or SYSRET.
    for code in [[0x48, 0x83, 0xc4, 0, 0xc3], [0x48, 0x0f, 0x07]] as [[UInt8]] {
      twins.place(code, at: entry)
      for _ in 0..<4 {
        twins.each { machine in
          machine.cpu.pointee.efer |= EFER.sce
          machine.cpu.pointee.lstar = entry
          machine.cpu.pointee.star = 0x0040_0050 << 32
          machine.cpu.pointee.fmask = 0
        }
        twins.set(4, 0x1f_8000)
        twins.restart(at: user)
        #expect(try twins.run() == .halt)
      }
    }
  }
}
