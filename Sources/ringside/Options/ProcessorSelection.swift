import ArgumentParser
import Processor

/// What `--cpu` says.
struct ProcessorSelection: Sendable {
  var specification: CPUSpecification

  static let standard = ProcessorSelection(specification: .standard)

  init(specification: CPUSpecification) { self.specification = specification }

  /// Throws a `ValidationError` that says what would be possible.
  init(_ text: String) throws {
    do throws(CPUSpecificationError) {
      specification = try CPUSpecification(text)
    } catch {
      throw ValidationError(error.description)
    }
  }
}
