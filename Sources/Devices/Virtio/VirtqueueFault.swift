/// What a driver has put into a queue, and must not.
struct VirtqueueFault: Error {
  let description: String
  init(_ description: String) { self.description = description }
}
