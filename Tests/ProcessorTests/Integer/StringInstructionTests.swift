import CHost
import Foundation
import Machine
import TestSupport
import Testing
import X86

@testable import Processor

/// What repeated string instructions do where a user program on silicon cannot see it: devices, requests for attention,
/// single steps, watched pages, segment limits.
@Suite(.onBothEngines) struct StringInstructionTests {
  typealias Layout = TestProcessor.Layout

  private static let hlt: UInt8 = 0xf4
  /// Where a large page leads beyond RAM.
  private static let device: UInt64 = 0x20_0000
  private static let devicePhysical: UInt64 = 0x40_0000

  /// A program in 64-bit mode with a device at `device`.
  private static func prepare(_ code: [UInt8]) -> (TestProcessor, SoftwareEngine) {
    let (test, engine) = EngineEventTests.prepare(code, handlers: [14: [hlt]])
    test.store(devicePhysical | 0xe7, Layout.pageTables + 0x2008)
    return (test, engine)
  }

  private static func set(_ test: TestProcessor, source: UInt64, destination: UInt64, count: UInt64) {
    test.cpu.pointee.gpr.6 = source
    test.cpu.pointee.gpr.7 = destination
    test.cpu.pointee.gpr.1 = count
  }

  @Test func readsDevices() throws {
    let (test, engine) = Self.prepare([0xf3, 0xa5, Self.hlt])
    Self.set(test, source: Self.device + 0x10, destination: Layout.data, count: 5)
    for index in 0..<5 as Range<UInt64> {
      let exit = try EngineEventTests.run(test, engine)
      let address = GuestPhysicalAddress(Self.devicePhysical + 0x10 + 4 * index)
      #expect(exit == .memoryRead(address: address, size: 4))
      #expect(test.cpu.pointee.gpr.1 == 5 - index && test.cpu.pointee.rip == Layout.code)
      #expect(test.cpu.pointee.gpr.6 == Self.device + 0x10 + 4 * index)
      test.cpu.pointee.completion = ExitCompletion(
        data: 0x100 + index, isValid: 1, isRefused: 0, reserved: (0, 0, 0, 0, 0, 0))
    }
    #expect(try EngineEventTests.run(test, engine) == .halt)
    for index in 0..<5 as Range<UInt64> {
      #expect(test.load(Layout.data + 4 * index, as: UInt32.self) == 0x100 + UInt32(index))
    }
    #expect(test.cpu.pointee.gpr.1 == 0 && test.cpu.pointee.gpr.7 == Layout.data + 20)
  }

  @Test func writesDevices() throws {
    let (test, engine) = Self.prepare([0xfd, 0xf3, 0xa4, Self.hlt])
    for index in 0..<4 as Range<UInt64> { test.store(UInt8(index) + 1, Layout.data + index) }
    Self.set(test, source: Layout.data + 3, destination: Self.device + 3, count: 4)
    for index in (0..<4 as Range<UInt64>).reversed() {
      let address = GuestPhysicalAddress(Self.devicePhysical + index)
      #expect(
        try EngineEventTests.run(test, engine) == .memoryWrite(address: address, size: 1, value: index + 1))
    }
    #expect(try EngineEventTests.run(test, engine) == .halt)
    #expect(test.cpu.pointee.gpr.6 == Layout.data &- 1 && test.cpu.pointee.gpr.1 == 0)
  }

  /// From RAM into a device and over its end into nothing: what was done counts.
  @Test func faultsBehindDevices() throws {
    let (test, engine) = Self.prepare([0xf3, 0xaa, Self.hlt])
    Self.set(test, source: 0, destination: 0x40_0000 - 2, count: 8)
    for _ in 0..<2 {
      guard case .memoryWrite = try EngineEventTests.run(test, engine) else {
        Issue.record("a store to the device")
        return
      }
    }
    #expect(try EngineEventTests.run(test, engine) == .halt)
    #expect(test.cpu.pointee.cr2 == 0x40_0000 && test.cpu.pointee.gpr.1 == 6 && test.cpu.pointee.gpr.7 == 0x40_0000)
  }

  /// Somebody wants attention all the time: the instruction still comes to its end, in pieces.
  @Test func isInterruptible() {
    let test = TestProcessor(.long64)
    UnsafeMutablePointer(mutating: test.cpu.pointee.engine.attention!).pointee = 1
    Self.set(test, source: 0, destination: Layout.data + 5, count: 0x8000)
    test.cpu.pointee.gpr.0 = 0xa5
    var pieces = 0
    repeat {
      #expect(test.execute(0xf3, 0xaa) == nil)
      pieces += 1
      #expect(test.cpu.pointee.gpr.7 &+ test.cpu.pointee.gpr.1 == Layout.data + 5 + 0x8000)
    } while test.lastFlow == .branchAndSerialize && pieces < 0x8000
    #expect(test.lastFlow == .next && test.cpu.pointee.gpr.1 == 0 && (8...40).contains(pieces))
    for offset in 0..<0x8000 as Range<UInt64> where test.load(Layout.data + 5 + offset, as: UInt8.self) != 0xa5 {
      Issue.record("byte \(offset) was not stored")
      return
    }
    #expect(test.load(Layout.data + 4, as: UInt8.self) == 0 && test.load(Layout.data + 5 + 0x8000, as: UInt8.self) == 0)
  }

  // MARK: Pages that evict each other from the TLB

  /// It leads to 1 MiB, by small pages; what is at the same offset at the beginning shares entries of the TLB.
  private static let alias = UInt64(TranslationCache.pageCount) << 12
  private static let aliasTable: UInt64 = 0x2_8000

  private static func prepareAlias(_ entry: (UInt64) -> UInt64 = { 0x10_0000 + $0 << 12 | 7 }) -> TestProcessor {
    let test = TestProcessor(.long64)
    test.store(aliasTable | 7, Layout.pageTables + 0x2000 + alias >> 21 * 8)
    for page in 0..<256 as Range<UInt64> { test.store(entry(page), aliasTable + 8 * page) }
    return test
  }

  @Test(arguments: [false, true]) func evictedPagesAreMovedAtOnce(isDescending: Bool) {
    let test = Self.prepareAlias()
    UnsafeMutablePointer(mutating: test.cpu.pointee.engine.attention!).pointee = 1
    let count: UInt64 = 0x8000
    for offset in 0..<count { test.store(UInt8(truncatingIfNeeded: offset &* 7 >> 3), Layout.data + 3 + offset) }
    let last = isDescending ? count - 1 : 0
    if isDescending { test.cpu.pointee.rflags |= RFLAGS.df }
    Self.set(test, source: Layout.data + 3 + last, destination: Self.alias + Layout.data + 5 + last, count: count)
    var pieces = 0
    repeat {
      #expect(test.execute(0xf3, 0xa4) == nil)
      pieces += 1
    } while test.lastFlow == .branchAndSerialize && pieces < 0x8000
    #expect(pieces <= 30 && test.cpu.pointee.gpr.1 == 0)
    for offset in 0..<count
    where test.load(0x10_0005 + Layout.data + offset, as: UInt8.self) != UInt8(truncatingIfNeeded: offset &* 7 >> 3) {
      Issue.record("byte \(offset) was not moved")
      return
    }
  }

  /// Runs do what elements one by one do: overlapping, in both directions, through two mappings of the same pages, up to
  /// pages that are not there, read-only or a device's.
  @Test func runsDoWhatElementsDo() {
    var random = SeededRandom(seed: 31)
    for round in 0..<300 {
      let seed = random.next()
      let start = (0..<8).map { _ in random.next() }
      let opcode = ([0xa4, 0xa5, 0xaa, 0xab, 0xa6, 0xa7, 0xae] as [UInt8]).randomElement(using: &random)!
      let code: [UInt8] =
        round % 3 == 0 ? [0xf3, 0x66, opcode] : round % 3 == 1 ? [0xf3, 0x48, opcode] : [0xf3, opcode]
      let results = [false, true].map { isStepping -> (GuestFault?, [UInt64], [UInt8]) in
        var pages = SeededRandom(seed: seed)
        let test = Self.prepareAlias { page in
          let physical = 0x10_0000 + (page &+ pages.next() & 3) << 12
          return pages.next() & 7 == 0
            ? [0, 5 | physical, Self.devicePhysical | 7][Int(pages.next() % 3)] : physical | 7
        }
        for offset in stride(from: 0, to: 0x8000 as UInt64, by: 8) { test.store(pages.next() & 3, 0x10_0000 + offset) }
        for offset in stride(from: 0, to: 0x4000 as UInt64, by: 8) { test.store(0 as UInt64, Layout.data + offset) }
        test.cpu.pointee.gpr.0 = start[0] & 3
        let source = start[1] & 1 == 0 ? Layout.data : Self.alias
        Self.set(
          test, source: source + start[2] % 0x3000, destination: Self.alias + start[3] % 0x3000, count: start[4] % 3000)
        if start[5] & 1 == 0 { test.cpu.pointee.rflags |= RFLAGS.df }
        if isStepping { test.cpu.pointee.rflags |= RFLAGS.tf }
        var fault: GuestFault?
        repeat {
          fault = test.execute(code)
        } while fault == nil && test.lastFlow == .branchAndSerialize
          && test.processor.pendingExits.isEmpty
        let registers = [test.cpu.pointee.gpr.1, test.cpu.pointee.gpr.6, test.cpu.pointee.gpr.7]
        let bytes = (0..<0x8000 as Range<UInt64>).map { test.load(0x10_0000 + $0, as: UInt8.self) }
        return (fault, registers + [test.cpu.pointee.rflags & RFLAGS.arithmetic], bytes)
      }
      #expect(results[0].0 == results[1].0 && results[0].1 == results[1].1, "round \(round): \(code)")
      #expect(results[0].2 == results[1].2, "round \(round): \(code)")
    }
  }

  @Test func stepsByElements() {
    let test = TestProcessor(.long64)
    test.cpu.pointee.rflags |= RFLAGS.tf
    Self.set(test, source: Layout.data, destination: Layout.data + 0x100, count: 3)
    for count in [2, 1, 0] as [UInt64] {
      #expect(test.execute(0xf3, 0xa5) == nil)
      #expect(test.cpu.pointee.gpr.1 == count && test.lastFlow == (count == 0 ? .next : .branchAndSerialize))
    }
  }

  @Test func reportsWatchedPages() {
    let test = TestProcessor(.long64)
    let page = Int(Layout.data >> 12)
    test.memory.attributes[page] |= 4
    let seen = Counter()
    test.memory.onProtectedWrite = { range in
      if range.lowerBound >> 12 == UInt64(page) { seen.count += range.count }
    }
    Self.set(test, source: 0, destination: Layout.data - 16, count: 64)
    repeat { #expect(test.execute(0xf3, 0xaa) == nil) } while test.lastFlow == .branchAndSerialize
    #expect(seen.count == 48)
  }

  private final class Counter: @unchecked Sendable {
    var count = 0
  }

  /// Real mode: the pointer wraps at 64 KiB; an element across the limit faults after what was done.
  @Test func wrapsAndStopsAtLimits() {
    let test = TestProcessor(.real)
    test.cpu.pointee.gpr.0 = 0x4142
    Self.set(test, source: 0, destination: 0xfffe, count: 4)
    test.processor.loadParagraph(SegmentRegister.es.rawValue, 0x2000)
    repeat { #expect(test.execute(0xf3, 0xaa) == nil) } while test.lastFlow == .branchAndSerialize
    #expect(test.cpu.pointee.gpr.7 == 2 && test.cpu.pointee.gpr.1 == 0)
    #expect(test.load(0x2_fffe, as: UInt16.self) == 0x4242 && test.load(0x2_0000, as: UInt16.self) == 0x4242)

    Self.set(test, source: 0, destination: 0xfffb, count: 4)
    var fault: GuestFault?
    repeat { fault = test.execute(0xf3, 0xab) } while fault == nil && test.lastFlow == .branchAndSerialize
    #expect(fault == .generalProtection())
    #expect(test.cpu.pointee.gpr.7 == 0xffff && test.cpu.pointee.gpr.1 == 2)
  }

  /// What copies cost; printed on request (RINGSIDE_BENCH).
  @Test(.enabled(if: ProcessInfo.processInfo.environment["RINGSIDE_BENCH"] != nil))
  func costs() throws {
    let evicting = UInt32(Self.alias) + 0x6_0000
    for (count, target) in [1, 16, 64, 256, 4096, 65536].map({ ($0, 0x8_0000) }) + [(65536, evicting)]
      as [(UInt64, UInt32)]
    {
      // L: MOV ESI, data; MOV EDI, target; MOV ECX, count; REP MOVSB; DEC RBX; JNZ L; HLT.
      let bytes = withUnsafeBytes(of: UInt32(count)) { Array($0) }
      let place = withUnsafeBytes(of: target) { Array($0) }
      let (test, engine) = Self.prepare(
        [0xbe, 0, 0, 6, 0, 0xbf] + place + [0xb9] + bytes + [0xf3, 0xa4, 0x48, 0xff, 0xcb, 0x75, 0xea, Self.hlt])
      // Where pages evict the source's.
      test.store(0xe7 as UInt64, Layout.pageTables + 0x2000 + Self.alias >> 21 * 8)
      let rounds = 40_000_000 / (count + 400)
      test.cpu.pointee.gpr.3 = rounds
      let start = ContinuousClock.now
      #expect(try EngineEventTests.run(test, engine, budget: .max / 2) == .halt)
      let time = (ContinuousClock.now - start) / Double(rounds)
      print("rep movsb of \(count) bytes to \(String(target, radix: 16)): \(time)")
    }
  }
}
