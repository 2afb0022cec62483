import X86

/// What processor the guest sees: everything that CPUID, MSRs and the decoder's gates agree on.
public struct CPUModel: Sendable {
  public init() {}
  var physicalAddressBits: UInt64 = 40
  var hasGigabytePages = true

  var physicalAddressMask: UInt64 { (1 << physicalAddressBits) - 1 }
}

import CZydis
extension CPUModel { func offers(_ isaSet: ZydisISASet) -> Bool { true } }
