import CHost
import CZydis
import Testing
import X86

@testable import Processor

/// Walks all models and all features: what a model lacks is gone from CPUID, CR4, EFER, XCR0, the MSRs and the decoder.
struct CPUModelWalkTests {
  /// An encoding of each instruction that has a gate, by what it needs.
  struct Sample {
    var name: String
    var code: [UInt8]
    var mode: TestProcessor.Mode
    var requirement: CPUModel.Requirement
  }

  static let samples: [Sample] = {
    struct Key: Hashable {
      var mnemonic: UInt32
      var requirement: CPUModel.Requirement
    }
    var found: [Key: Sample] = [:]
    for mode in InstructionScan.modes {
      let scan = InstructionScan(decoder: InstructionDecoder(CPUModel(level: .max)), mode: mode)
      scan.visit { bytes in
        let instruction = UnsafePointer(scan.decoder.instruction)
        let requirement = CPUModel.requirement(of: instruction)
        let key = Key(mnemonic: instruction.pointee.mnemonic.rawValue, requirement: requirement)
        guard found[key] == nil, requirement != .always, requirement != .never else { return }
        found[key] = Sample(
          name: String(cString: ZydisMnemonicGetString(instruction.pointee.mnemonic)),
          code: Array(UnsafeBufferPointer(start: bytes, count: Int(instruction.pointee.length))),
          mode: mode.contains(.code64) ? .long64 : .protected32, requirement: requirement)
      }
    }
    return Array(found.values)
  }()

  /// Encodings that older processors read as other instructions, or as NOPs.
  static let reinterpreted: Set<String> = ["lzcnt", "tzcnt"]

  static func identify(_ model: CPUModel, _ leaf: UInt32, _ subleaf: UInt32 = 0) -> CPUIdentification {
    var state = CPUState()
    state.powerUp(isBootstrap: true)
    state.efer = EFER.lma
    return withUnsafePointer(to: state) { model.identify(leaf, subleaf, $0) }
  }

  /// The register of CPUID that holds a feature, as the guest sees it; zero where its leaf is not there.
  static func word(_ model: CPUModel, _ register: CPUFeature.Register) -> UInt32 {
    let isExtended = identify(model, 0x8000_0000).eax >> 16 == 0x8000
    let basic = identify(model, 0).eax
    func leaf(_ number: UInt32, _ subleaf: UInt32 = 0) -> CPUIdentification {
      let exists = number >= 0x8000_0000 ? isExtended && identify(model, 0x8000_0000).eax >= number : basic >= number
      return exists ? identify(model, number, subleaf) : CPUIdentification()
    }
    return switch register {
    case .leaf1ECX: leaf(1).ecx
    case .leaf1EDX: leaf(1).edx
    case .leaf6EAX: leaf(6).eax
    case .leaf7EBX: leaf(7).ebx
    case .leaf7ECX: leaf(7).ecx
    case .leaf7EDX: leaf(7).edx
    case .leaf71EAX: leaf(7).eax >= 1 ? leaf(7, 1).eax : 0
    case .leafDEAX: leaf(0xd, 1).eax
    case .extended1ECX: leaf(0x8000_0001).ecx
    case .extended1EDX: leaf(0x8000_0001).edx
    case .extended7EDX: leaf(0x8000_0007).edx
    // Behind KVM's name only: "KVMK" are its first letters.
    case .kvmEAX: identify(model, 0x4000_0000).ebx == 0x4b4d_564b ? identify(model, 0x4000_0001).eax : 0
    case .extended8EBX: leaf(0x8000_0008).ebx
    case .extended21EAX: leaf(0x8000_0021).eax
    }
  }

  static let controlBits: [(CPUFeature, UInt64)] = [
    (.vme, CR4.vme | CR4.pvi), (.tsc, CR4.tsd), (.de, CR4.de), (.pse, CR4.pse), (.pae, CR4.pae), (.mce, CR4.mce),
    (.pge, CR4.pge), (.fxsr, CR4.osfxsr), (.sse, CR4.osxmmexcpt), (.umip, CR4.umip), (.la57, CR4.la57),
    (.fsgsbase, CR4.fsgsbase), (.pcid, CR4.pcide), (.xsave, CR4.osxsave), (.smep, CR4.smep), (.smap, CR4.smap),
    (.pku, CR4.pke), (.pks, CR4.pks), (.lam, CR4.lamSupervisor),
  ]

  static let registers: [(CPUFeature, [UInt32])] = [
    (.mce, [0, 1]), (.tsc, [0x10]), (.apic, [0x1b]), (.x2apic, [0x802, 0x830]), (.timeStampDeadline, [0x6e0]),
    (.timeStampAdjust, [0x3b]), (.sep, [0x174, 0x175, 0x176]), (.pat, [0x277]),
    (.mtrr, [0xfe, 0x200, 0x20f, 0x250, 0x258, 0x26f, 0x2ff]), (.mca, [0x179, 0x17a, 0x400]),
    (.speculationControl, [0x48]), (.architecturalCapabilities, [0x10a]), (.xsaves, [0xda0]), (.pks, [0x6e1]),
    (.kvmClock, [0x11, 0x12, 0x4b56_4d00, 0x4b56_4d01]), (.syscall, [0xc000_0081]),
    (.longMode, [0xc000_0082, 0xc000_0083, 0xc000_0084, 0xc000_0100, 0xc000_0101, 0xc000_0102]),
  ]

  /// What of the model's behaviour the set of features decides agrees with CPUID.
  static func check(_ model: CPUModel, _ what: String) {
    for (name, feature) in CPUFeature.named {
      // Intel's processors show their own vendor's bits, and those of AMD that have a leaf there.
      if CPUModel.amdOnly.contains(feature), model.vendor == .intel { continue }
      let isReported = word(model, feature.register) >> UInt32(feature.bit) & 1 != 0
      #expect(isReported == model.features.contains(feature), "\(what): CPUID's \(name)")
    }
    let test = TestProcessor(.protected32, model: model)
    test.cpu.pointee.cr4 = 0
    for (feature, bits) in controlBits where !model.features.contains(feature) {
      for bit in 0..<64 where bits >> bit & 1 != 0 {
        let outcome1 = test.fault { (processor) throws(GuestFault) in try processor.setCR4(1 << bit) }
        #expect(outcome1 == .generalProtection(), "\(what): CR4 bit \(bit)")
      }
    }
    for (feature, indices) in registers where !model.features.contains(feature) {
      for index in indices {
        let outcome2 = test.fault { (processor) throws(GuestFault) in _ = try processor.readMSR(index) }
        #expect(outcome2 == .generalProtection(), "\(what): RDMSR \(index)")
        let outcome3 = test.fault { (processor) throws(GuestFault) in try processor.writeMSR(index, 0) }
        #expect(outcome3 == .generalProtection(), "\(what): WRMSR \(index)")
      }
    }
    if !model.features.contains(.longMode) {
      let outcome4 = test.fault { (processor) throws(GuestFault) in try processor.setEFER(EFER.lme) }
      #expect(outcome4 == .generalProtection(), "\(what): EFER.LME")
    }
    if !model.features.contains(.nx) {
      let outcome5 = test.fault { (processor) throws(GuestFault) in try processor.setEFER(EFER.nxe) }
      #expect(outcome5 == .generalProtection(), "\(what): EFER.NXE")
    }
    for (feature, components) in [(CPUFeature.avx, 7 as UInt64), (.pku, 0x203)]
    where !model.features.contains(feature) {
      let outcome6 = test.fault { (processor) throws(GuestFault) in try processor.setXCR0(components) }
      #expect(outcome6 == .generalProtection(), "\(what): XCR0")
    }
  }

  @Test(arguments: CPUModel.Vendor.allCases) func allModels(vendor: CPUModel.Vendor) {
    for level in CPUModel.Level.allCases {
      let model = CPUModel(vendor: vendor, level: level)
      Self.check(model, level.rawValue)
      let long = TestProcessor(.long64, model: model)
      let legacy = TestProcessor(.protected32, model: model)
      for sample in Self.samples where !model.meets(sample.requirement) && !Self.reinterpreted.contains(sample.name) {
        let test = sample.mode == .long64 ? long : legacy
        #expect(test.execute(sample.code) == .invalidOpcode, "\(level.rawValue): \(sample.name)")
      }
    }
  }

  /// The largest model without each of its features in turn.
  @Test(arguments: CPUModel.Vendor.allCases) func allFeatures(vendor: CPUModel.Vendor) {
    for (name, feature) in CPUFeature.named {
      var model = CPUModel(vendor: vendor, level: .max)
      guard model.features.contains(feature) else { continue }
      var features = model.features
      features.removeWithDependents(feature)
      #expect(!features.contains(feature))
      model.replaceFeatures(features)
      Self.check(model, "-\(name)")
      for sample in Self.samples where sample.requirement == .feature(feature) {
        guard !Self.reinterpreted.contains(sample.name) else { continue }
        let test = TestProcessor(sample.mode, model: model)
        #expect(test.execute(sample.code) == .invalidOpcode, "-\(name): \(sample.name)")
      }
    }
  }

  /// Every gate is met by some model, or by one of its vendors: nothing is in the tables in vain.
  @Test func everyFeatureIsOffered() {
    let all = CPUModel.Vendor.allCases.map { CPUModel(vendor: $0, level: .max).features }
    for (name, feature) in CPUFeature.named where !NativeFeatures.missing.contains(feature) {
      #expect(all.contains { $0.contains(feature) }, "\(name)")
    }
    #expect(CPUModel.unlistedInstructionSets == [])
  }

  /// LZCNT and TZCNT are BSR and BSF where they do not exist.
  @Test func reinterpretedEncodings() {
    for (level, count) in [(CPUModel.Level.v1, 4 as UInt64), (.v2, 59)] {
      let test = TestProcessor(.long64, model: CPUModel(level: level))
      test.cpu.pointee.gpr.1 = 0x10
      #expect(test.execute(0xf3, 0x48, 0x0f, 0xbd, 0xc1) == nil)
      #expect(test.cpu.pointee.gpr.0 == count)
      test.cpu.pointee.gpr.1 = 0
      test.cpu.pointee.gpr.0 = 77
      #expect(test.execute(0xf3, 0x48, 0x0f, 0xbc, 0xc1) == nil)
      #expect(test.cpu.pointee.gpr.0 == (level == .v1 ? 77 : 64))
    }
  }

  @Test func identities() {
    let signatures: [(CPUModel.Level, UInt32, UInt32)] = [
      (.i486, 0x480, 0x4f4), (.pentium, 0x52c, 0x511), (.v1, 0x6fb, 0x4_0f12), (.v2, 0x2_06c2, 0xb0_0f21),
      (.v3, 0x2_06c2, 0xb0_0f21), (.max, 0x2_06c2, 0xb0_0f21),
    ]
    for (level, intel, amd) in signatures {
      #expect(Self.identify(CPUModel(level: level), 1).eax == intel)
      #expect(Self.identify(CPUModel(vendor: .amd, level: level), 1).eax == amd)
    }
    #expect(Self.identify(CPUModel(level: .pentium), 0).eax == 1)
    #expect(Self.identify(CPUModel(level: .pentium), 0x8000_0000).eax == 0x52c, "Intel repeats the last leaf")
    #expect(Self.identify(CPUModel(level: .pentium), 0x4000_0000).ebx >> 16 == 0, "no hypervisor leaves")
  }
}

extension TestProcessor {
  /// What `body` throws.
  func fault(_ body: (SoftwareProcessor) throws(GuestFault) -> Void) -> GuestFault? {
    do throws(GuestFault) {
      try body(processor)
      return nil
    } catch {
      return error
    }
  }
}
