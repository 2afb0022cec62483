import ArgumentParser

/// A new size, as such or by how much it differs from the old one: `20G`, `+1G`, `-512M`.
enum SizeChange: Equatable, ExpressibleByArgument {
  case to(MemorySize)
  case by(MemorySize)
  case byLess(MemorySize)

  init?(argument: String) {
    let isSigned = argument.hasPrefix("+") || argument.hasPrefix("-")
    guard let size = MemorySize(isSigned ? String(argument.dropFirst()) : argument) else { return nil }
    if isSigned { self = argument.hasPrefix("+") ? .by(size) : .byLess(size) } else { self = .to(size) }
  }

  /// What an old size becomes, in bytes; nil: nothing sensible.
  func applied(to old: UInt64) -> UInt64? {
    switch self {
    case .to(let size): return size.bytes
    case .by(let more):
      let (sum, overflow) = old.addingReportingOverflow(more.bytes)
      return overflow ? nil : sum
    case .byLess(let less): return less.bytes <= old ? old - less.bytes : nil
    }
  }
}
