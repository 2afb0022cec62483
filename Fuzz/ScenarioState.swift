import CHost
import Memory
import Processor
import TestSupport
import X86

/// What a guest's processor holds when the guest starts.
struct ScenarioState {
  private let scenario: Scenario
  private let root: UInt64
  private let features: Set<String>

  init(_ scenario: Scenario, root: UInt64) {
    self.scenario = scenario
    self.root = root
    features = Set(scenario.model.featureNames)
  }

  func apply(to cpu: inout CPUState, starts: [UInt64], _ random: inout SeededRandom) {
    setControls(&cpu, &random)
    setSegments(&cpu, &random)
    withUnsafeMutableBytes(of: &cpu.gpr) { bytes in
      for number in 0..<16 { bytes.storeBytes(of: random.operand(), toByteOffset: 8 * number, as: UInt64.self) }
      let stack = scenario.mode == .protected16 || scenario.mode.isReal ? 0x8000 : Layout.stack(3) + 0x800
      bytes.storeBytes(of: stack, toByteOffset: 32, as: UInt64.self)
      bytes.storeBytes(of: UInt64(random.below(40)), toByteOffset: 8, as: UInt64.self)
    }
    cpu.rip = random.pick(starts)
    let kept = RFLAGS.if | RFLAGS.arithmetic | RFLAGS.df | (random.oneIn(6) ? RFLAGS.iopl | RFLAGS.nt | RFLAGS.ac : 0)
    cpu.rflags |= RFLAGS.fixed | random.next() & kept
    if random.oneIn(20) { cpu.rflags |= RFLAGS.tf }
    setRegisters(&cpu, &random)
    cpu.intercepts = [.timeStampCounter, .randomNumber]
  }

  private func has(_ name: String) -> Bool { features.contains(name) }

  private func setControls(_ cpu: inout CPUState, _ random: inout SeededRandom) {
    let mode = scenario.mode
    cpu.cr0 = CR0.et | (random.oneIn(2) ? CR0.ne : 0) | (random.oneIn(2) ? CR0.wp : 0)
    if !mode.isReal { cpu.cr0 |= CR0.pe }
    if random.oneIn(3) { cpu.cr0 |= CR0.am }
    if random.oneIn(12) { cpu.cr0 |= random.pick([CR0.ts, CR0.em, CR0.mp, CR0.cd]) }
    var optional: [(String, UInt64)] = [
      ("vme", CR4.vme | CR4.pvi), ("tsc", CR4.tsd), ("de", CR4.de), ("pge", CR4.pge), ("umip", CR4.umip),
      ("fsgsbase", CR4.fsgsbase),
    ]
    if scenario.ring == 3 || scenario.isChaotic { optional += [("smep", CR4.smep), ("smap", CR4.smap)] }
    if mode.isLong { optional += [("pcid", CR4.pcide), ("pku", CR4.pke), ("pks", CR4.pks)] }
    for (name, bits) in optional where has(name) && random.oneIn(3) { cpu.cr4 |= bits }
    if has("fxsr"), !random.oneIn(8) { cpu.cr4 |= CR4.osfxsr | CR4.osxmmexcpt }
    if has("xsave"), !random.oneIn(8) {
      cpu.cr4 |= CR4.osxsave
      cpu.xcr0 = has("avx") ? 7 : 3
    }
    if scenario.paging != .none {
      cpu.cr0 |= CR0.pg
      cpu.cr3 = root
      switch scenario.paging {
      case .none: break
      case .twoLevel: if has("pse") { cpu.cr4 |= CR4.pse }
      case .pae: cpu.cr4 |= CR4.pae
      case .fourLevel: cpu.cr4 |= CR4.pae
      case .fiveLevel: cpu.cr4 |= CR4.pae | CR4.la57
      }
    }
    if scenario.mode.isLong { cpu.efer = EFER.lme | EFER.lma | EFER.sce }
    if has("nx"), !random.oneIn(4) || scenario.paging != .twoLevel { cpu.efer |= EFER.nxe }
    if scenario.paging == .pae {
      cpu.pdpte.0 = root + 0x1000 | 1
    }
  }

  // MARK: Segments

  private func segment(_ entry: Int, ring: Int, base: UInt64 = 0, limit: UInt32 = ~0, _ attributes: UInt16)
    -> SegmentState
  {
    SegmentState(base: base, limit: limit, selector: Layout.selector(entry, ring: ring), attributes: attributes)
  }

  private func setSegments(_ cpu: inout CPUState, _ random: inout SeededRandom) {
    let mode = scenario.mode
    let ring = scenario.ring
    cpu.cpl = UInt8(ring)
    cpu.gdtr = DescriptorTableState(base: Layout.gdt, limit: UInt32(Layout.gdtCount * 8 - 1), reserved: 0)
    cpu.idtr = DescriptorTableState(base: Layout.idt, limit: mode.isLong ? 0xfff : 0x7ff, reserved: 0)
    cpu.tr = SegmentState(
      base: Layout.task, limit: 0x7ff, selector: Layout.selector(Layout.taskEntry),
      attributes: mode == .protected16 ? 0x83 : 0x8b)
    cpu.ldtr = SegmentState(
      base: Layout.ldt, limit: 0xff, selector: Layout.selector(Layout.localTableEntry), attributes: 0x82)
    let dpl = UInt16(ring) << 5
    let data = segment(
      Layout.entry(mode.codeBits == 16 ? .data16 : .data32, ring: ring), ring: ring,
      limit: mode.codeBits == 16 ? 0xffff : ~0, 0x93 | dpl | (mode.codeBits == 16 ? 0 : 0xc000))
    var segments = [SegmentState](repeating: data, count: 6)
    switch mode {
    case .real, .bigReal, .virtual8086:
      let attributes: UInt16 = mode == .virtual8086 ? 0xf3 : 0x93
      let limit: UInt32 = mode == .bigReal ? ~0 : 0xffff
      for number in 0..<6 {
        let selector = number == 1 ? 0 : UInt16(random.pick([0x1000, 0x1100, 0, 0x2000]))
        segments[number] = SegmentState(
          base: UInt64(selector) << 4, limit: limit, selector: selector, attributes: attributes)
      }
      segments[1].attributes = mode == .virtual8086 ? 0xf3 : 0x9b
      segments[1].limit = 0xffff
      if mode == .virtual8086 { cpu.rflags |= RFLAGS.vm }
      if mode.isReal { cpu.idtr = DescriptorTableState(base: 0, limit: 0x3ff, reserved: 0) }
    case .protected16, .compatibility16:
      segments[1] = segment(Layout.entry(.code16, ring: ring), ring: ring, limit: 0xffff, 0x9b | dpl)
    case .protected32, .segmented32, .compatibility32:
      segments[1] = segment(Layout.entry(.code32, ring: ring), ring: ring, 0xc09b | dpl)
      if mode == .segmented32 { for number in [0, 3, 4, 5] { odd(&segments[number], ring: ring, &random) } }
    case .long64:
      segments[1] = segment(Layout.entry(.code64, ring: ring), ring: ring, 0xa09b | dpl)
      segments[4].base = UInt64(Layout.data)
      segments[5].base = random.oneIn(2) ? 0xffff_8000_0000_0000 : 0
    }
    withUnsafeMutableBytes(of: &cpu.segments) { bytes in
      let all = bytes.bindMemory(to: SegmentState.self)
      for number in 0..<6 { all[number] = segments[number] }
    }
  }

  /// A data segment that starts somewhere and ends soon, or expands down, or cannot be used.
  private func odd(_ segment: inout SegmentState, ring: Int, _ random: inout SeededRandom) {
    segment.base = UInt64(random.pick([0, 0x10, 0x1_0000, 0xffff_f000, 0x7fff_ffff]))
    segment.limit = UInt32(truncatingIfNeeded: random.pick([0xffff, 0x1_ffff, 0x1_0fff, 0xffff_ffff, random.next()]))
    let dpl = UInt16(ring) << 5
    segment.attributes = random.pick([0x93, 0x97, 0x91, 0x9b, 0x99, 0]) | dpl
    if segment.attributes & 0x80 == 0 {
      segment.attributes = 0
    } else if random.oneIn(2) {
      segment.attributes |= 0x4000
    }
  }

  // MARK: Other registers

  private func setRegisters(_ cpu: inout CPUState, _ random: inout SeededRandom) {
    let code64 = Layout.selector(Layout.entry(.code64, ring: 0))
    cpu.star = UInt64(code64) << 32 | UInt64(random.byte()) << 48
    cpu.lstar = UInt64(Layout.code + random.below(Layout.codeSize))
    cpu.cstar = cpu.lstar
    cpu.fmask = random.next() & 0x3f_7fd7
    cpu.sysenterCS = random.oneIn(4) ? random.next() & 0xffff : UInt64(Layout.selector(4))
    cpu.sysenterEIP = UInt64(Layout.code + random.below(Layout.codeSize))
    cpu.sysenterESP = Layout.stack(0)
    cpu.kernelGSBase = UInt64(Layout.data)
    cpu.pkru = random.oneIn(2) ? 0 : UInt32(truncatingIfNeeded: random.next())
    cpu.pkrs = random.oneIn(2) ? 0 : random.next() & 0xffff_ffff
    if random.oneIn(10) {
      cpu.dr.0 = random.operand() & 0xffff_ffff
      cpu.dr.1 = cpu.rip
      cpu.dr7 = random.next() & 0xffff_23ff | 0x400
    }
    withUnsafeMutableBytes(of: &cpu.xsave) { area in
      area.storeBytes(of: random.oneIn(3) ? UInt16(random.next() & 0xf3f | 0x40) : 0x37f, as: UInt16.self)
      area.storeBytes(of: random.byte(), toByteOffset: 4, as: UInt8.self)
      let controls = random.oneIn(3) ? UInt32(random.next() & 0xffff) : 0x1f80
      area.storeBytes(of: controls, toByteOffset: 24, as: UInt32.self)
      for place in stride(from: 32, to: 416, by: 8) where place < 160 ? place % 16 == 0 : true {
        let value = random.oneIn(2) ? Double(Int16(truncatingIfNeeded: random.next())).bitPattern : random.next()
        area.storeBytes(of: value, toByteOffset: place, as: UInt64.self)
      }
      area.storeBytes(of: 7, toByteOffset: 512, as: UInt64.self)
    }
  }
}
