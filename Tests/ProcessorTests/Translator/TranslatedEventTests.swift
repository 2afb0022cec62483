import CHost
import Foundation
import Machine
import Testing
import X86

@testable import Processor

/// What happens around translated code: changes of code and of mappings, budgets, attention, interrupts, system calls.
struct TranslatedEventTests {
  typealias Layout = TestProcessor.Layout
  typealias Window = TwinMachines.Window

  private static let hlt = TwinMachines.hlt

  private static func bytes(_ value: UInt64, _ count: Int = 4) -> [UInt8] {
    (0..<UInt64(count)).map { UInt8(truncatingIfNeeded: value >> (8 * $0)) }
  }

  // MARK: Code that changes

  /// MOV BYTE [RIP + 1], 5; MOV AL, 1: the block runs on with what it has just written.
  @Test func writesAhead() throws {
    let twins = TwinMachines()
    twins.place([0xc6, 0x05, 1, 0, 0, 0, 5, 0xb0, 1, Self.hlt])
    #expect(try twins.run() == .halt)
    #expect(twins.cpu.gpr.0 & 0xff == 5)
  }

  /// A loop over two blocks; one adds to a constant in the other, or in itself, by RIP or by another linear address.
  @Test(arguments: [0x4081, 0x4002, 0x40_0081, 0x40_0002] as [UInt64])
  func writesWhatIsLinked(_ place: UInt64) throws {
    let twins = TwinMachines()
    // The window's first page is the page of code.
    twins.each { $0.store(Layout.code | 7, Window.table) }
    // ADD EBX, 1; INC BYTE [place]; DEC ECX; JMP second.
    let first: [UInt8] = [0x83, 0xc3, 0x00, 0x01, 0xc3, 0xfe, 0x04, 0x25] + Self.bytes(place) + [0xff, 0xc9]
    // MOV AL, 1; MOVZX EDX, AL; ADD EBX, EDX; TEST ECX, ECX; JNZ first; HLT.
    let second: [UInt8] = [0xb0, 1, 0x0f, 0xb6, 0xd0, 0x01, 0xd3, 0x85, 0xc9, 0x0f, 0x85] + Self.bytes(~0x8e)
    twins.place(first + [0xeb, UInt8(0x80 - first.count - 2)])
    twins.place(second + [Self.hlt], at: Layout.code + 0x80)
    twins.set(3, 0)
    twins.set(1, 20)
    #expect(try twins.run("writes at \(place)") == .halt)
    #expect(twins.cpu.gpr.1 == 0)
  }

  // MARK: Budgets and attention

  @Test func everyBudget() throws {
    let twins = TwinMachines()
    // L: ADD [RSI], ECX; PUSH RCX; POP R11; ADC R11, [RSI]; DEC ECX; JNZ L; HLT.
    twins.place([0x01, 0x0e, 0x51, 0x41, 0x5b, 0x4c, 0x13, 0x1e, 0xff, 0xc9, 0x75, 0xf4, Self.hlt])
    for budget in 1...130 as ClosedRange<UInt64> {
      twins.restart()
      twins.set(6, Layout.data)
      twins.set(1, 20)
      twins.set(4, Layout.stack)
      let before = twins.cpu.instructionCount
      let exit = try twins.run(budget: budget, "budget \(budget)")
      #expect(exit == (budget <= 121 ? .budgetSpent : .halt))
      #expect(twins.cpu.instructionCount - before == min(budget, 121))
    }
  }

  /// A loop without end that only attention ends.
  @Test(.timeLimit(.minutes(1))) func attentionEndsLoops() throws {
    let twins = TwinMachines()
    twins.place([0xff, 0xc3, 0xeb, 0xfc])
    let machine = twins.machines[1]
    let word = UnsafeMutablePointer(mutating: machine.cpu.pointee.engine.attention!)
    nonisolated(unsafe) let place = word
    let thread = Thread {
      Thread.sleep(forTimeInterval: 0.05)
      attentionRaise(place, .interrupt)
    }
    thread.start()
    let exit = try twins.engines[1].run(&machine.cpu.pointee, budget: 1 << 50)
    guard case .attention = exit else {
      Issue.record("\(exit)")
      return
    }
    #expect(machine.cpu.pointee.instructionCount > 0)
  }

  // MARK: Interrupts and system calls

  /// STI, or STI and MOV SS, before two increments, with an interrupt that waits, for every budget.
  @Test(arguments: [[0xfb], [0xfb, 0x8e, 0xd0], [0x8e, 0xd0], [0xfb, 0xfb], [0xfa, 0xfb]] as [[UInt8]])
  func shadows(_ code: [UInt8]) throws {
    for budget in 1...8 as ClosedRange<UInt64> {
      for flags in [2, 0x202] as [UInt64] {
        let twins = TwinMachines()
        twins.place(code + [0x48, 0xff, 0xc1, 0x48, 0xff, 0xc1, Self.hlt])
        // The handler keeps RCX.
        twins.place([0x48, 0x89, 0xcb, 0x48, 0xcf], at: TwinMachines.handler(16))
        twins.set(0, UInt64(twins.cpu.segments.2.selector))
        for round in 0..<2 {
          twins.restart()
          twins.each {
            $0.cpu.pointee.rflags = flags
            $0.cpu.pointee.interruptPending = round == 1 ? 1 : 0
            $0.cpu.pointee.interruptVector = 16
          }
          while try twins.run(budget: budget, "\(code), budget \(budget), \(flags)") == .budgetSpent {}
        }
      }
    }
  }

  /// SYSCALL and SYSRET, thrice, with flags of each kind, masked and not.
  @Test(arguments: [0, RFLAGS.ac, RFLAGS.tf, RFLAGS.if, 0x4000, 0xcd5] as [UInt64], [0, 0x4_7fd5, 0x200] as [UInt64])
  func systemCalls(_ flags: UInt64, _ mask: UInt64) throws {
    for isPending in [false, true] {
      for budget in [1, 2, 3, 10_000] as [UInt64] {
        let twins = TwinMachines(.long64, ring: 3)
        // SYSCALL; DEC EBP; JNZ back; HLT, which is #GP. The kernel: INC RBX; PUSHFQ; POP RDX; SYSRETQ.
        twins.place([0x0f, 0x05, 0xff, 0xcd, 0x75, 0xfa, Self.hlt])
        twins.place([0x48, 0xff, 0xc3, 0x9c, 0x5a, 0x48, 0x0f, 0x07], at: 0x5_f000)
        twins.place([0x48, 0xff, 0xc6, 0x48, 0xcf], at: TwinMachines.handler(16))
        twins.each {
          $0.cpu.pointee.star = 0x0040_0050 << 32
          $0.cpu.pointee.lstar = 0x5_f000
          $0.cpu.pointee.fmask = mask
          $0.cpu.pointee.rflags |= flags
          $0.cpu.pointee.interruptVector = 16
        }
        for round in 0..<2 {
          twins.set(5, 3)
          if isPending, round == 1 { twins.each { $0.cpu.pointee.interruptPending = 1 } }
          var pieces = 0
          while try twins.run(budget: budget, "\(flags), \(mask), \(isPending), \(budget)") == .budgetSpent,
            pieces < 200
          {
            pieces += 1
          }
          guard twins.cpu.cpl == 3 else { break }
          twins.restart()
        }
      }
    }
  }

  /// What a guest changes between two IRET of the same kind.
  enum ReturnChange: CaseIterable {
    case nothing, codeDescriptor, stackDescriptor, missingDescriptor, tableLimit, tableBase, nullStack, segments,
      nullSegment
    case nestedTask, trap, alignment, virtual8086, interrupt, blockedNMI, otherTarget, otherCode, pageEnd, flags
  }

  /// IRETQ, or IRETD in protected mode, to a ring and, by INT, back, several times, with a change in between.
  @Test(arguments: ReturnChange.allCases, [0, 3])
  func interruptReturns(_ kind: ReturnChange, _ ring: Int) throws {
    for is64 in [true, false] { try Self.returns(kind, ring, is64: is64) }
  }

  private static func returns(_ kind: ReturnChange, _ ring: Int, is64: Bool) throws {
    typealias Entry = TestProcessor.Entry
    let twins = TwinMachines(is64 ? .long64 : .protected32)
    let kernel = is64 ? Entry.code64 : Entry.code32
    let code = TestProcessor.selector(kernel + 2 * ring, ring)
    let stack = TestProcessor.selector(Entry.data32 + 2 * ring, ring)
    let frame = Layout.stack - 40
    let targets = [Layout.code + 0x100, Layout.code + 0x140]
    // IRET there; there INC EBX or ECX, INT 20H, whose handler is HLT. It is HLT in virtual-8086 mode, too.
    twins.place(is64 ? [0x48, 0xcf] : [0xcf])
    twins.place([0xff, 0xc3, 0xcd, 0x20], at: targets[0])
    twins.place([0xff, 0xc1, 0xcd, 0x20], at: targets[1])
    twins.place([Self.hlt], at: 0x5_0800)
    twins.place([Self.hlt], at: 0x5_0840)
    twins.place([Self.hlt], at: UInt64(code) << 4 + targets[0])
    let table = twins.cpu.gdtr
    func descriptor(_ selector: UInt16) -> UInt64 { table.base + UInt64(selector & ~7) }
    func change(_ selector: UInt16, _ body: (UInt64) -> UInt64) {
      twins.each { $0.store(body($0.load(descriptor(selector))), descriptor(selector)) }
    }
    twins.each {
      for vector in [0x20, 0x21] {
        $0.setGate(
          vector, TestProcessor.selector(kernel), 0x5_0800 + UInt64(vector - 0x20) * 0x40, access: 0xee,
          stack: is64 ? 1 : 0)
      }
      // Segments that no ring takes away.
      if !is64 {
        for register in [SegmentRegister.es, .ds, .fs, .gs] { $0.setSegment(register, Entry.data32 + 6, rpl: 3) }
      }
      // A second table, of which only the place is another.
      for offset in stride(from: 0, to: UInt64(table.limit) + 1, by: 8) {
        $0.store($0.load(table.base + offset, as: UInt64.self), 0x6_0000 + offset)
      }
    }
    func go(_ name: String, target: Int = 0, flags: UInt64 = 2, ss: UInt16? = nil, at place: UInt64? = nil) throws {
      let place = place ?? frame
      twins.restart()
      twins.each {
        for (index, value) in [targets[target], UInt64(code), flags, Layout.stack - 0x100, UInt64(ss ?? stack)]
          .enumerated()
        {
          if is64 {
            $0.store(value, place + 8 * UInt64(index))
          } else {
            $0.store(UInt32(truncatingIfNeeded: value), place + 4 * UInt64(index))
          }
        }
      }
      twins.set(4, place)
      let exit = try twins.run("\(kind) \(ring) \(is64) \(name)")
      // Handlers need the kernel's code segment.
      let isFatal = ring == 0 && name != "before" && [.missingDescriptor, .tableLimit].contains(kind)
      #expect(exit == (isFatal ? .shutdown : .halt))
    }
    for _ in 0..<4 { try go("before", ss: kind == .nullStack && ring == 0 ? 0 : nil) }
    var (target, flags, place) = (0, 2 as UInt64, frame)
    switch kind {
    case .nothing, .nullStack: break
    // Conforming, and expanding downward: both may be returned to all the same.
    case .codeDescriptor: change(code) { $0 | 4 << 40 }
    case .stackDescriptor: change(stack) { $0 | 4 << 40 }
    case .missingDescriptor: change(code) { $0 & ~(0x80 << 40) }
    case .tableLimit: twins.each { $0.cpu.pointee.gdtr.limit = UInt32(code | 7) - 1 }
    case .tableBase: twins.each { $0.cpu.pointee.gdtr.base = 0x6_0000 }
    case .segments: twins.each { $0.setSegment(.gs, Entry.data32, rpl: 0) }
    // Of its selector 0 remains.
    case .nullSegment:
      twins.each {
        $0.cpu.pointee.segments.5.selector = 2
        $0.cpu.pointee.segments.5.attributes = 0
      }
    case .nestedTask: twins.each { $0.cpu.pointee.rflags |= RFLAGS.nt }
    case .trap: flags |= RFLAGS.tf
    case .alignment: flags |= RFLAGS.ac
    case .virtual8086: flags |= RFLAGS.vm
    case .interrupt:
      flags |= RFLAGS.if
      twins.each {
        $0.cpu.pointee.interruptPending = 1
        $0.cpu.pointee.interruptVector = 0x21
      }
    case .blockedNMI: twins.each { $0.cpu.pointee.nmiBlocked = 1 }
    case .otherTarget: target = 1
    case .otherCode: twins.place([0xff, 0xcb, 0xcd, 0x20], at: targets[0])
    case .pageEnd: place = (Layout.stack & ~0xfff) - 16
    case .flags: flags = 0x3f_7fd7 & ~(RFLAGS.tf | RFLAGS.ac | RFLAGS.nt | (is64 ? 0 : RFLAGS.vm))
    }
    for _ in 0..<3 { try go("after", target: target, flags: flags, at: place) }
    for machine in twins.machines { #expect(machine.cpu.pointee.nmiBlocked == 0) }
  }

  /// A loop whose middle instruction lies on two pages, of which the second comes to be another.
  @Test func cutInstructionInALoop() throws {
    let twins = TwinMachines()
    // L: DEC ECX; ADD EBX, 1 (one byte of it on the first page); JNZ by ECX: TEST ECX, ECX; JNZ L; RET.
    let start = Window.linear + 0xffd
    let code: [UInt8] = [0xff, 0xc9, 0x83, 0xc3, 0x01, 0x85, 0xc9, 0x75, 0xf7, 0xc3]
    let other: UInt64 = 0x18_0000
    twins.each {
      for (index, byte) in code.enumerated() {
        let page = index < 3 ? Window.page(0) + 0xffd : Window.page(1) - 3
        $0.store(byte, page + UInt64(index))
        if index >= 3 { $0.store(index == 4 ? 2 : byte, other - 3 + UInt64(index)) }
      }
    }
    // MOV EAX, L; CALL RAX; MOV [table], other; INVLPG; MOV ECX, 50; CALL RAX; HLT.
    var program: [UInt8] = [0xb8] + Self.bytes(start) + [0xff, 0xd0]
    program += [0x48, 0xc7, 0x04, 0x25] + Self.bytes(Window.table + 8) + Self.bytes(other | 7)
    program +=
      [0x0f, 0x01, 0x3c, 0x25] + Self.bytes(Window.linear + 0x1000) + [0xb9, 50, 0, 0, 0, 0xff, 0xd0, Self.hlt]
    twins.place(program)
    twins.set(1, 50)
    twins.set(3, 0)
    #expect(try twins.run("a cut instruction") == .halt)
    #expect(twins.cpu.gpr.3 == 150)
  }

  /// A function is written anew again and again; who jumps to it goes on with what is there, by a detour or not.
  @Test func replacedTarget() throws {
    let twins = TwinMachines()
    // L: JMP F; back: DEC ECX; JNZ L; HLT. F: ADD EBX, n; JMP back.
    twins.place([0xeb, 0x7e, 0xff, 0xc9, 0x75, 0xfa, Self.hlt])
    twins.set(3, 0)
    var sum: UInt64 = 0
    for number in 1...6 as ClosedRange<UInt8> {
      twins.place([0x83, 0xc3, number, 0xe9] + Self.bytes(UInt64(bitPattern: 2 - 0x88)), at: Layout.code + 0x80)
      for count in [3, 20] as [UInt64] {
        twins.restart()
        twins.set(1, count)
        #expect(try twins.run("version \(number)") == .halt)
        sum += count * UInt64(number)
      }
    }
    #expect(twins.cpu.gpr.3 == sum)
  }

  /// A group of accesses that lies on two pages, often: other code does the rest of the block.
  @Test(arguments: [0xff0, 0xffc, 0x1000, 0xfd8] as [UInt64]) func refusedGroups(_ offset: UInt64) throws {
    let twins = TwinMachines()
    // L: CMP ECX, 3; MOV RAX, [RSI]; ADC [RSI + 8], RAX; MOV RDX, [RSI + 16]; MOVUPS XMM1, [RSI + 24]; PUSH RDX; POP RDI;
    // ADC RBX, [RSI + 32]; DEC ECX; JNZ L; HLT.
    twins.place([
      0x83, 0xf9, 3, 0x48, 0x8b, 0x06, 0x48, 0x11, 0x46, 8, 0x48, 0x8b, 0x56, 16, 0x0f, 0x10, 0x4e, 24, 0x52, 0x5f,
      0x48, 0x13, 0x5e, 32, 0xff, 0xc9, 0x75, 0xe4, Self.hlt,
    ])
    twins.each {
      for place in 0..<Window.pages where place != Window.missing {
        for word in 0..<512 as Range<UInt64> { $0.store(word &* 0x9e37_79b9_7f4a_7c15, Window.page(place) + 8 * word) }
      }
    }
    for budget in [10_000, 7] as [UInt64] {
      twins.restart()
      twins.set(1, 40)
      twins.set(4, Layout.stack)
      twins.set(6, Window.linear + offset)
      while try twins.run(budget: budget, "group at \(offset)") == .budgetSpent {}
    }
    // The second page is missing: the fault is where it belongs.
    twins.restart()
    twins.set(1, 40)
    twins.set(4, Layout.stack)
    twins.set(6, Window.linear + (Window.missing - 1) << 12 + offset)
    #expect(try twins.run("group at \(offset) before a missing page") == .halt)
  }

  /// Under SMAP: STAC; MOV EAX, [user]; CLAC; MOV EDX, [user] faults, also when the first has come to be known as good.
  @Test(arguments: [false, true]) func accessControl(_ isWrite: Bool) throws {
    let twins = TwinMachines()
    twins.each {
      // All below 2 MiB is the kernel's.
      $0.store(0xe3 as UInt64, Layout.pageTables + 0x2000)
      $0.cpu.pointee.cr4 |= CR4.smap
    }
    let opcode: UInt8 = isWrite ? 0x89 : 0x8b
    twins.place([
      0x0f, 0x01, 0xcb, opcode, 0x06, 0x0f, 0x01, 0xca, 0x0f, 0x01, 0xcb, opcode, 0x46, 4, 0x0f, 0x01, 0xca,
      opcode, 0x56, 8, Self.hlt,
    ])
    for _ in 0..<3 {
      twins.restart()
      twins.set(6, Window.linear)
      twins.set(4, Layout.stack)
      twins.each { $0.cpu.pointee.cr2 = 0 }
      #expect(try twins.run("SMAP") == .halt)
      #expect(twins.cpu.cr2 == Window.linear + 8 && twins.cpu.rip == TwinMachines.handler(14) + 1)
    }
  }

  // MARK: The rest

  /// More code than there is room for its translation: all is dropped and translated anew, again and again.
  @Test func codeMemoryIsUsedUp() throws {
    let twins = TwinMachines(options: TranslationOptions(capacity: 1 << 20, threshold: 1, isEager: true))
    // ADD EAX, n; JMP next.
    var code: [UInt8] = []
    for number in 0..<20_000 as Range<UInt64> { code += [0x05] + Self.bytes(number) + [0xeb, 0] }
    twins.place(code + [Self.hlt], at: 0x8_0000)
    for _ in 0..<3 {
      twins.restart(at: 0x8_0000)
      #expect(try twins.run(budget: 1_000_000) == .halt)
    }
  }

  /// An unmasked SIMD exception at the instruction that raises it; vector registers are whole there.
  @Test(arguments: [0x1f80, 0x1d80] as [UInt32]) func vectorExceptions(_ control: UInt32) throws {
    let twins = TwinMachines()
    twins.each {
      $0.store(control, Layout.data)
      $0.store(0x3f80_0000_3f80_0000 as UInt64, Layout.data + 0x10)
    }
    // MOVQ XMM1, [RSI + 16]; ADDPS XMM1, XMM1; LDMXCSR [RSI]; MOVQ XMM2, XMM1; PXOR XMM3, XMM3; DIVSS XMM2, XMM3;
    // ADDPS XMM1, XMM1; HLT.
    twins.place([
      0xf3, 0x0f, 0x7e, 0x4e, 0x10, 0x0f, 0x58, 0xc9, 0x0f, 0xae, 0x16, 0xf3, 0x0f, 0x7e, 0xd1, 0x66, 0x0f, 0xef, 0xdb,
      0xf3, 0x0f, 0x5e, 0xd3, 0x0f, 0x58, 0xc9, Self.hlt,
    ])
    for _ in 0..<2 {
      twins.restart()
      twins.set(6, Layout.data)
      twins.set(4, Layout.stack)
      #expect(try twins.run("MXCSR \(control)") == .halt)
      #expect((twins.cpu.rip == TwinMachines.handler(19) + 1) == (control == 0x1d80))
    }
  }

  enum Flush: CaseIterable { case page, root, rootOfGlobal, all }

  /// An instruction on two pages of which the second is mapped to other bytes.
  @Test(arguments: Flush.allCases)
  func remappedPage(_ flush: Flush) throws {
    let twins = TwinMachines()
    let other: UInt64 = 0x18_0000
    let isGlobal = flush == .rootOfGlobal || flush == .all
    let rights: UInt64 = isGlobal ? 0x107 : 7
    twins.each {
      $0.cpu.pointee.cr4 |= CR4.pge
      for page in 0..<2 as Range<UInt64> { $0.store(Window.page(page) | rights, Window.table + 8 * page) }
      // NOP; MOV EBX, imm32; RET. Only the opcode is on the first page.
      $0.store(0xbb90 as UInt16, Window.page(0) + 0xffe)
      for (page, value) in [(Window.page(1), 0x11 as UInt32), (other, 0x22)] {
        $0.store(value, page)
        $0.store(0xc3 as UInt8, page + 4)
      }
    }
    // MOV EAX, code; thrice CALL RAX; MOV [page table], other.
    var code: [UInt8] = [0xb8] + Self.bytes(Window.linear + 0xffe) + [0xff, 0xd0, 0xff, 0xd0, 0xff, 0xd0]
    code += [0x48, 0xc7, 0x04, 0x25] + Self.bytes(Window.table + 8) + Self.bytes(other | rights)
    switch flush {
    case .page: code += [0x0f, 0x01, 0x3c, 0x25] + Self.bytes(Window.linear + 0x1000)
    case .root, .rootOfGlobal: code += [0x0f, 0x20, 0xdf, 0x0f, 0x22, 0xdf]
    // MOV RDI, CR4; XOR DIL, PGE; MOV CR4, RDI.
    case .all: code += [0x0f, 0x20, 0xe7, 0x40, 0x80, 0xf7, 0x80, 0x0f, 0x22, 0xe7]
    }
    code += [0xff, 0xd0, 0x89, 0xd9, 0xff, 0xd0, Self.hlt]
    twins.place(code)
    #expect(try twins.run("\(flush)") == .halt)
    #expect(twins.cpu.gpr.3 == (flush == .rootOfGlobal ? 0x11 : 0x22))
  }
}
