import Testing

@testable import Processor

struct CPUSpecificationTests {
  static func features(_ text: String) throws -> CPUFeatureSet { try CPUSpecification(text).features }

  @Test func names() throws {
    for level in CPUModel.Level.allCases {
      let specification = try CPUSpecification(level.rawValue)
      #expect(specification.level == level && specification.vendor == .intel)
      #expect(specification.features == CPUModel(level: level).features)
    }
    #expect(try CPUSpecification("max,vendor=amd").vendor == .amd)
    #expect(try CPUModel(CPUSpecification("pentium,vendor=amd"), apicID: 3).signature == 0x511)
    #expect(CPUSpecification.standard.features == CPUModel.standard.features)
  }

  @Test func dependencies() throws {
    let without = try Self.features("max,-xsave")
    for feature in [CPUFeature.xsave, .xsavec, .xsaves, .avx, .avx2, .fma, .f16c, .vaes, .vpclmulqdq, .pku] {
      #expect(!without.contains(feature), "\(feature.name ?? "")")
    }
    #expect(without.contains(.sse42) && without.contains(.pks))
    let with = try Self.features("pentium,+lm")
    #expect(with.contains(.longMode) && with.contains(.pae) && !with.contains(.sse))
    // From left to right.
    #expect(try Self.features("x86-64-v2,-sse,+sse").contains(.sse))
    #expect(!(try Self.features("x86-64-v2,-sse,+sse").contains(.sse2)))
    #expect(!(try Self.features("x86-64-v2,+pku,-pku").contains(.pku)))
    #expect(try Self.features("x86-64-v2,-lzcnt") == Self.features("x86-64-v2,-abm"))
  }

  @Test func everyNameIsUnderstood() throws {
    for (name, feature) in CPUFeature.named {
      let without = try Self.features("max,-\(name)")
      #expect(!without.contains(feature))
      let isAMD = CPUModel.amdOnly.contains(feature)
      guard !NativeFeatures.missing.contains(feature) else { continue }
      let text = "i486,+\(name)" + (isAMD ? ",vendor=amd" : "")
      // What it is built on may be missing on this host.
      guard let with = try? Self.features(text) else { continue }
      #expect(with.contains(feature))
      for needed in feature.prerequisites { #expect(with.contains(needed)) }
      #expect(CPUFeature(named: feature.name ?? "") == feature)
    }
  }

  @Test func mistakes() {
    let mistakes: [(String, CPUSpecificationError)] = [
      ("", .unknownModel("")), ("athlon", .unknownModel("athlon")), ("max,+gfni", .unknownFeature("gfni")),
      ("max,avx", .malformed("avx")), ("max,", .malformed("")), ("max,+", .unknownFeature("")),
      ("max,vendor=via", .unknownVendor("via")), ("max,+topoext", .otherVendor("topoext", "amd")),
      ("max,vendor=amd,+ss", .otherVendor("ss", "intel")), ("MAX", .unknownModel("MAX")),
    ]
    for (text, want) in mistakes {
      #expect(throws: want) { try CPUSpecification(text) }
    }
    #expect(CPUSpecificationError.unknownModel("x").description.contains("x86-64-v1, x86-64-v2, x86-64-v3, max"))
    #expect(CPUSpecificationError.unknownFeature("x").description.contains("avx2"))
  }
}
