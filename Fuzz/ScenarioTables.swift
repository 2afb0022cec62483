import Memory
import TestSupport
import X86

/// Descriptor tables, task-state segments and interrupt handlers of a guest.
struct ScenarioTables {
  let mode: GuestMode
  let ring: Int
  let memory: GuestMemory

  private func store<T: BitwiseCopyable>(_ value: T, _ address: UInt64) {
    _ = memory.store(value, at: GuestPhysicalAddress(address))
  }

  static func descriptor(base: UInt64 = 0, limit: UInt64 = 0xf_ffff, access: UInt8, flags: UInt8 = 0xc) -> UInt64 {
    limit & 0xffff | (base & 0xff_ffff) << 16 | UInt64(access) << 40 | (limit >> 16 & 15) << 48 | UInt64(flags) << 52
      | (base >> 24 & 0xff) << 56
  }

  static func gate(_ selector: UInt16, _ offset: UInt64, access: UInt8, count: UInt8 = 0) -> UInt64 {
    offset & 0xffff | UInt64(selector) << 16 | UInt64(count) << 32 | UInt64(access) << 40 | (offset >> 16 & 0xffff)
      << 48
  }

  // MARK: Handlers

  /// Most handlers send the interrupted code elsewhere; a few are just code themselves.
  func installHandlers(_ starts: [UInt64], _ random: inout SeededRandom) {
    for vector in 0..<256 {
      var code: [UInt8] = []
      let hasCode = !mode.isReal && [8, 10, 11, 12, 13, 14, 17, 21].contains(vector)
      let next = UInt32(random.pick(starts))
      let bytes = (0..<4).map { UInt8(truncatingIfNeeded: next >> UInt32(8 * $0)) }
      switch mode.handlerBits {
      case 16: code = (hasCode ? [0x83, 0xc4, 2] : []) + [0x67, 0xc7, 0x04, 0x24] + bytes.prefix(2) + [0xcf]
      case 32: code = (hasCode ? [0x83, 0xc4, 4] : []) + [0xc7, 0x04, 0x24] + bytes + [0xcf]
      default: code = (hasCode ? [0x48, 0x83, 0xc4, 8] : []) + [0x48, 0xc7, 0x04, 0x24] + bytes + [0x48, 0xcf]
      }
      let handler = Layout.handlers + UInt64(vector) * 16
      _ = code.withUnsafeBytes { memory.write(GuestPhysicalAddress(handler), from: $0) }
      setGate(vector, random.oneIn(8) ? random.pick(starts) : handler, &random)
    }
  }

  private func setGate(_ vector: Int, _ offset: UInt64, _ random: inout SeededRandom) {
    if mode.isReal { return store(UInt32(truncatingIfNeeded: offset), UInt64(vector) * 4) }
    let dpl: UInt8 = random.oneIn(2) ? 0x60 : 0
    let isTrap: UInt8 = random.oneIn(3) ? 1 : 0
    if mode.isLong {
      let selector = Layout.selector(Layout.entry(.code64, ring: 0))
      let stack = random.oneIn(4) ? UInt8(random.below(8)) : 0
      store(Self.gate(selector, offset, access: 0x8e | dpl | isTrap, count: stack), Layout.idt + UInt64(vector) * 16)
      return store(0 as UInt64, Layout.idt + UInt64(vector) * 16 + 8)
    }
    let is16 = mode.handlerBits == 16
    let selector = Layout.selector(Layout.entry(is16 ? .code16 : .code32, ring: 0))
    let type: UInt8 = is16 ? 0x86 : 0x8e
    let gate =
      random.oneIn(30)
      ? Self.gate(Layout.selector(Layout.otherTaskEntry), 0, access: 0x85 | dpl)
      : Self.gate(selector, offset, access: type | dpl | isTrap)
    store(gate, Layout.idt + UInt64(vector) * 8)
  }

  // MARK: Descriptors

  func installDescriptors(_ random: inout SeededRandom) {
    func set(_ entry: Int, _ raw: UInt64) { store(raw, Layout.gdt + UInt64(entry) * 8) }
    for ring in 0..<4 {
      let dpl = UInt8(ring) << 5
      set(Layout.entry(.code32, ring: ring), Self.descriptor(access: 0x9b | dpl))
      set(Layout.entry(.data32, ring: ring), Self.descriptor(access: 0x93 | dpl))
      set(Layout.entry(.code64, ring: ring), Self.descriptor(access: 0x9b | dpl, flags: 0xa))
      set(Layout.entry(.data64, ring: ring), Self.descriptor(access: 0x93 | dpl))
      set(Layout.entry(.code16, ring: ring), Self.descriptor(limit: 0xffff, access: 0x9b | dpl, flags: 0))
      set(Layout.entry(.data16, ring: ring), Self.descriptor(limit: 0xffff, access: 0x93 | dpl, flags: 0))
    }
    set(Layout.conforming32, Self.descriptor(access: 0x9f))
    set(Layout.conforming64, Self.descriptor(access: 0x9f, flags: 0xa))
    let is16 = mode == .protected16
    let available: UInt8 = is16 ? 0x81 : 0x89
    set(Layout.taskEntry, Self.descriptor(base: Layout.task, limit: 0x7ff, access: available | 2, flags: 0))
    set(Layout.otherTaskEntry, Self.descriptor(base: Layout.otherTask, limit: 0x7ff, access: available, flags: 0))
    set(Layout.localTableEntry, Self.descriptor(base: Layout.ldt, limit: 0xff, access: 0x82, flags: 0))
    for entry in Layout.oddEntries { set(entry, oddDescriptor(&random)) }
    for entry in 0..<32 {
      store(oddDescriptor(&random), Layout.ldt + UInt64(entry) * 8)
    }
    installTasks(is16: is16, &random)
  }

  /// A gate, a segment with a base and a limit, or anything.
  private func oddDescriptor(_ random: inout SeededRandom) -> UInt64 {
    let place = UInt64(Layout.code + random.below(Layout.codeSize))
    switch random.below(5) {
    case 0:
      let selector = Layout.selector(random.below(Layout.gdtCount), ring: random.below(4))
      return Self.gate(
        selector, place, access: random.pick([0x84, 0x85, 0x8c, 0x8c, 0xec, 0xe5]), count: random.byte())
    case 1, 2, 3:
      return Self.descriptor(
        base: random.oneIn(2) ? UInt64(Layout.data) : random.operand(), limit: random.operand() & 0xf_ffff,
        access: 0x90 | random.byte() & 0x6f, flags: random.byte() & 0xd)
    default: return random.next()
    }
  }

  private func installTasks(is16: Bool, _ random: inout SeededRandom) {
    for base in [Layout.task, Layout.otherTask] {
      for offset in stride(from: 0, to: 0x100, by: 4) where random.oneIn(20) {
        store(UInt32(truncatingIfNeeded: random.operand()), base + UInt64(offset))
      }
      for ring in 0..<3 {
        let selector = Layout.selector(Layout.entry(is16 ? .data16 : .data32, ring: ring), ring: ring)
        if mode.isLong {
          store(Layout.stack(ring), base + 4 + UInt64(ring) * 8)
        } else if is16 {
          store(UInt16(0xf000 + ring * 0x100), base + 2 + UInt64(ring) * 4)
          store(selector, base + 4 + UInt64(ring) * 4)
        } else {
          store(UInt32(Layout.stack(ring)), base + 4 + UInt64(ring) * 8)
          store(UInt32(selector), base + 8 + UInt64(ring) * 8)
        }
      }
      if mode.isLong {
        for number in 1...7 { store(Layout.interruptStack(number), base + 28 + UInt64(number) * 8) }
      } else if !is16, base == Layout.otherTask {
        store(UInt32(Layout.code), base + 32)
        for (offset, entry) in [
          (0x48, Layout.entry(.data32, ring: 0)), (0x4c, Layout.entry(.code32, ring: 0)),
          (0x50, Layout.entry(.data32, ring: 0)),
        ] {
          store(UInt32(Layout.selector(entry)), base + UInt64(offset))
        }
      }
      store(0x68 as UInt16, base + 0x66)
    }
  }
}
