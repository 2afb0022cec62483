import CHost
import CZydis
import Testing
import X86

@testable import Processor

struct CPUModelTests {
  static func identify(
    _ model: CPUModel, _ leaf: UInt32, _ subleaf: UInt32 = 0, _ change: (inout CPUState) -> Void = { _ in }
  ) -> CPUIdentification {
    var state = CPUState()
    state.powerUp(isBootstrap: true)
    change(&state)
    return withUnsafePointer(to: state) { model.identify(leaf, subleaf, $0) }
  }

  static func text(_ words: [UInt32]) -> String {
    let bytes = words.flatMap { word in (0..<4).map { UInt8(truncatingIfNeeded: word >> UInt32(8 * $0)) } }
    return String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
  }

  @Test func names() {
    for vendor in CPUModel.Vendor.allCases {
      let model = CPUModel(vendor: vendor)
      let first = Self.identify(model, 0)
      #expect(Self.text([first.ebx, first.edx, first.ecx]) == vendor.rawValue && first.eax == 0x16)
      let brand = (UInt32(0x8000_0002)...0x8000_0004).flatMap { leaf in
        let part = Self.identify(model, leaf)
        return [part.eax, part.ebx, part.ecx, part.edx]
      }
      #expect(Self.text(brand) == "Ringside Virtual CPU")
      let hypervisor = Self.identify(model, 0x4000_0000)
      #expect(Self.text([hypervisor.ebx, hypervisor.ecx, hypervisor.edx]) == "KVMKVMKVM")
      #expect(hypervisor.eax == 0x4000_0010)
      // Both clocks, and that they are stable.
      #expect(Self.identify(model, 0x4000_0001) == CPUIdentification(eax: 0x100_0009))
    }
    #expect(Self.identify(CPUModel(), 1).eax == 0x206c2)
    var plain = CPUModel()
    plain.features.removeWithDependents(.kvmClock)
    let hypervisor = Self.identify(plain, 0x4000_0000)
    #expect(Self.text([hypervisor.ebx, hypervisor.ecx, hypervisor.edx]) == "RingsideVMM ")
    #expect(Self.identify(plain, 0x4000_0001) == CPUIdentification())
    #expect(Self.identify(CPUModel(vendor: .amd), 1).eax == 0xb0_0f21)
  }

  /// What of CPUID follows the state.
  @Test func state() {
    let model = CPUModel(apicID: 3, processorCount: 6)
    #expect(Self.identify(model, 1).ecx >> 27 & 1 == 0)
    #expect(Self.identify(model, 1) { $0.cr4 = CR4.osxsave }.ecx >> 27 & 1 == 1)
    #expect(Self.identify(model, 1).edx >> 9 & 1 == 1)
    #expect(Self.identify(model, 1) { $0.apicBase = 0xfee0_0000 }.edx >> 9 & 1 == 0)
    #expect(Self.identify(model, 0x8000_0001).edx >> 11 & 1 == 0)
    #expect(Self.identify(model, 0x8000_0001) { $0.efer = EFER.lma }.edx >> 11 & 1 == 1)
    #expect(Self.identify(model, 1).ebx >> 24 == 3 && Self.identify(model, 1).ebx >> 16 & 0xff == 6)
    #expect(Self.identify(model, 0xb, 1) == CPUIdentification(eax: 3, ebx: 6, ecx: 0x201, edx: 3))
    #expect(Self.identify(model, 0xb, 0).ebx == 1 && Self.identify(model, 0xb, 2).ebx == 0)
    #expect(Self.identify(model, 0x8000_0008).eax == 40 | 48 << 8)
  }

  @Test func extendedState() {
    #expect(Self.identify(CPUModel(), 0xd).ecx == 576 && Self.identify(CPUModel(), 0xd).eax == 3)
    #expect(Self.identify(CPUModel(), 0xd, 2) == CPUIdentification())
    let wide = CPUModel(level: .v3)
    #expect(Self.identify(wide, 0xd) { $0.xcr0 = 7 } == CPUIdentification(eax: 7, ebx: 832, ecx: 832))
    #expect(Self.identify(wide, 0xd) { $0.xcr0 = 3 }.ebx == 576)
    #expect(Self.identify(wide, 0xd, 2) == CPUIdentification(eax: 256, ebx: 576))
    #expect(Self.identify(wide, 0xd, 1).eax == 7)
    #expect(!CPUModel.standard.features.contains(.avx))
  }

  /// Linux computes `crystal kHz * numerator / denominator` in 32 bits.
  @Test func frequencies() {
    for frequency in [1_000_000_000, 2_596_094_123, 2_445_432_101, 3_792_000_000, 999_999_937, 4_999_999_999]
      as [UInt64]
    {
      for timer in [1_000_000_000, 100_000_000, 24_000_000] as [UInt64] {
        let leaf = Self.identify(CPUModel(timeStampFrequency: frequency, apicTimerFrequency: timer), 0x15)
        let kilohertz = leaf.ecx / 1000
        let (product, overflow) = kilohertz.multipliedReportingOverflow(by: leaf.ebx)
        #expect(!overflow && UInt64(leaf.ecx) == timer)
        let found = Double(product / leaf.eax) * 1000
        #expect(abs(found - Double(frequency)) / Double(frequency) < 2e-6, "\(frequency) by \(timer): \(found)")
      }
    }
    let model = CPUModel(timeStampFrequency: 2_596_094_123)
    #expect(Self.identify(model, 0x4000_0010) == CPUIdentification(eax: 2_596_094, ebx: 1_000_000))
    #expect(Self.identify(model, 0x16).eax == 2596)
    #expect(Self.identify(CPUModel(), 0x15) == CPUIdentification())
  }

  /// No leaf traps, whatever is asked.
  @Test func allLeaves() {
    for vendor in CPUModel.Vendor.allCases {
      for count in [0, 1, 2, 3, 255, 256, 1000] as [UInt32] {
        let model = CPUModel(vendor: vendor, processorCount: count, timeStampFrequency: ~0, apicTimerFrequency: ~0)
        for leaf in Array(UInt32(0)...0x40) + Array(0x4000_0000...0x4000_0040) + Array(0x8000_0000...0x8000_0040) + [~0]
        {
          for subleaf in [0, 1, 2, 3, 4, 0x7fff_ffff, ~0] as [UInt32] { _ = Self.identify(model, leaf, subleaf) }
        }
      }
    }
  }

  @Test func instructionSets() {
    #expect(CPUModel.unlistedInstructionSets == [])
    let model = CPUModel()
    #expect(model.offers(ZYDIS_ISA_SET_SSE42) && model.offers(ZYDIS_ISA_SET_I86) && model.offers(ZYDIS_ISA_SET_X87))
    #expect(!model.offers(ZYDIS_ISA_SET_AVX) && !model.offers(ZYDIS_ISA_SET_AVX512F_512))
    #expect(!model.offers(ZYDIS_ISA_SET_AMD) && CPUModel(vendor: .amd).offers(ZYDIS_ISA_SET_AMD))
    #expect(CPUModel(level: .v3).offers(ZYDIS_ISA_SET_AVX2) && CPUModel(level: .v3).offers(ZYDIS_ISA_SET_FMA))
    #expect(
      !model.offers(ZYDIS_ISA_SET_RTM) && !model.offers(ZYDIS_ISA_SET_XSAVES) && model.offers(ZYDIS_ISA_SET_XSAVEC))
  }

  @Test func identificationInstruction() {
    let test = TestProcessor(.long64, ring: 3)
    test.cpu.pointee.gpr.0 = 0xffff_ffff_0000_0000
    #expect(test.execute(0x0f, 0xa2) == nil)
    #expect(test.cpu.pointee.gpr.0 == 0x16 && test.cpu.pointee.gpr.3 == 0x756e_6547)
  }

  /// What keeps Linux from costly mitigations.
  @Test func speculation() {
    let leaf = Self.identify(CPUModel(), 7)
    #expect(leaf.edx >> 29 & 1 == 1 && leaf.edx >> 26 & 1 == 1)
    let capabilities = CPUModel().architecturalCapabilities
    // RDCL_NO, IBRS_ALL, SSB_NO, MDS_NO, TAA_NO, BHI_NO.
    for bit in [0, 1, 4, 5, 8, 20] as [UInt64] { #expect(capabilities >> bit & 1 == 1) }
    #expect(Self.identify(CPUModel(vendor: .amd), 0x8000_0021).eax >> 8 & 1 == 1)
  }
}
