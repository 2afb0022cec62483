import ArgumentParser
import Storage

extension ImageFormat: ExpressibleByArgument {}

extension Compression: ExpressibleByArgument {
  public init?(argument: String) {
    guard let known = Self.allCases.first(where: { $0.name == argument }) else { return nil }
    self = known
  }

  public static var allValueStrings: [String] { allCases.map(\.name) }
  public var defaultValueDescription: String { name }
}
