/// Why text is no `CPUSpecification`: each message says what would be right.
public enum CPUSpecificationError: Error, Equatable, CustomStringConvertible {
  case unknownModel(String)
  case unknownVendor(String)
  case unknownFeature(String)
  /// An item that is neither a feature nor a vendor.
  case malformed(String)
  /// A feature that only processors of the named vendor have.
  case otherVendor(String, String)
  /// The first is what this host's units lack, the second what was asked for.
  case notOnThisHost(String, for: String)

  public var description: String {
    switch self {
    case .unknownModel(let name):
      "there is no processor model '\(name)': give one of \(CPUSpecification.modelNames.joined(separator: ", "))"
    case .unknownVendor(let name): "there is no vendor '\(name)': give vendor=intel or vendor=amd"
    case .unknownFeature(let name):
      "there is no feature '\(name)' that could be added or removed: "
        + "the names are \(CPUSpecification.featureNames.joined(separator: " "))"
    case .malformed(let item):
      "'\(item)' does not belong behind a model's name: give +feature, -feature, vendor=intel or vendor=amd"
    case .otherVendor(let feature, let vendor): "only \(vendor)'s processors have '\(feature)': add vendor=\(vendor)"
    case .notOnThisHost(let missing, let feature):
      missing == feature
        ? "this computer's processor lacks '\(feature)', which its units would have to run"
        : "'\(feature)' needs '\(missing)', which this computer's processor lacks"
    }
  }
}
