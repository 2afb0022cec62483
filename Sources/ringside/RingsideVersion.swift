/// What this program calls itself.
enum RingsideVersion {
  static let number = "0.1.0"
  static let text = "ringside \(number)"
}
