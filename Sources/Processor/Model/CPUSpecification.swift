/// What `--cpu` says: a model's name and changes to it, such as `x86-64-v3,-avx2,+pku,vendor=amd`.
public struct CPUSpecification: Sendable {
  let level: CPUModel.Level
  let vendor: CPUModel.Vendor
  let features: CPUFeatureSet

  /// The default processor.
  public static let standard = CPUSpecification(level: CPUModel.standardLevel, vendor: .intel)

  private init(level: CPUModel.Level, vendor: CPUModel.Vendor) {
    self.level = level
    self.vendor = vendor
    features = CPUModel(vendor: vendor, level: level).features
  }

  /// Parses a comma-separated list: a model's name, then `+feature`, `-feature` and `vendor=intel` or `vendor=amd`.
  ///
  /// Features are applied from left to right. A feature comes with all that it is built on, and takes along all that is
  /// built on it. Throws for names that are not known, and for what this host or that vendor's processors cannot do.
  public init(_ text: String) throws(CPUSpecificationError) {
    var items = text.split(separator: ",", omittingEmptySubsequences: false).map(String.init)
    let name = items.removeFirst()
    guard let level = CPUModel.Level(rawValue: name) else { throw .unknownModel(name) }
    var vendor = CPUModel.Vendor.intel
    for item in items where item.hasPrefix("vendor=") {
      switch item.dropFirst("vendor=".count) {
      case "intel": vendor = .intel
      case "amd": vendor = .amd
      default: throw .unknownVendor(String(item.dropFirst("vendor=".count)))
      }
    }
    var features = CPUModel(vendor: vendor, level: level).features
    for item in items where !item.hasPrefix("vendor=") {
      guard let sign = item.first, sign == "+" || sign == "-" else { throw .malformed(item) }
      guard let feature = CPUFeature(named: String(item.dropFirst())) else {
        throw .unknownFeature(String(item.dropFirst()))
      }
      if sign == "-" {
        features.removeWithDependents(feature)
      } else {
        try Self.add(feature, to: &features, vendor: vendor)
      }
    }
    self.level = level
    self.vendor = vendor
    self.features = features
  }

  private static func add(_ feature: CPUFeature, to features: inout CPUFeatureSet, vendor: CPUModel.Vendor)
    throws(CPUSpecificationError)
  {
    let foreign = vendor == .intel ? CPUModel.amdOnly : CPUModel.intelOnly
    if foreign.contains(feature) { throw .otherVendor(feature.name ?? "", vendor == .intel ? "amd" : "intel") }
    features.insertWithPrerequisites(feature)
    for missing in NativeFeatures.missing where features.contains(missing) {
      throw .notOnThisHost(missing.name ?? "", for: feature.name ?? "")
    }
  }

  /// Names of the models, oldest first.
  public static var modelNames: [String] { CPUModel.Level.allCases.map(\.rawValue) }

  /// Names of the features that can be added and removed.
  public static var featureNames: [String] { CPUFeature.named.map(\.name).sorted() }
}

extension CPUModel {
  /// One processor of a machine whose processors are all as `specification` says.
  public init(
    _ specification: CPUSpecification, apicID: UInt32 = 0, processorCount: UInt32 = 1, timeStampFrequency: UInt64 = 0,
    apicTimerFrequency: UInt64 = 1_000_000_000
  ) {
    self.init(
      vendor: specification.vendor, level: specification.level, apicID: apicID, processorCount: processorCount,
      timeStampFrequency: timeStampFrequency, apicTimerFrequency: apicTimerFrequency)
    replaceFeatures(specification.features)
  }

  /// Names of the features that CPUID reports, sorted.
  public var featureNames: [String] { CPUFeature.named.filter { features.contains($0.feature) }.map(\.name).sorted() }
}
