import ArgumentParser
import Processor

/// How much memory one virtual processor's translated code may take.
struct CodeCacheSize: Equatable, ExpressibleByArgument {
  private let size: MemorySize

  static let standard = CodeCacheSize(MemorySize(bytes: UInt64(TranslationOptions.standardCapacity)))
  static let minimum = MemorySize(bytes: UInt64(TranslationOptions.capacities.lowerBound))
  static let maximum = MemorySize(bytes: UInt64(TranslationOptions.capacities.upperBound))

  /// For the help text.
  static var limits: String { "\(minimum) to \(maximum), \(standard.size) if it is not given" }

  private init(_ size: MemorySize) { self.size = size }

  init?(argument: String) {
    guard let size = MemorySize(argument) else { return nil }
    self.init(size)
  }

  /// Why it cannot be so much or so little; nil: it can.
  var problem: String? {
    if size < Self.minimum { return "\(size) is too little: give at least \(Self.minimum)" }
    if size > Self.maximum { return "\(size) is too much: give at most \(Self.maximum)" }
    return nil
  }

  /// To be asked for where there is no problem.
  var bytes: Int { Int(clamping: size.bytes) }
}
