/// Something that must not happen did.
struct GuestFailure: Error, CustomStringConvertible {
  var description: String
  init(_ description: String) { self.description = description }
}
