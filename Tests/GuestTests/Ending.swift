/// How a process ended.
enum Ending: Equatable, Sendable {
  case status(Int32)
  case signal(Int32)

  /// From what waitpid(2) stores.
  init(waitStatus: Int32) {
    self = waitStatus & 0x7f == 0 ? .status(waitStatus >> 8 & 0xff) : .signal(waitStatus & 0x7f)
  }
}
