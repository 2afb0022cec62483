import Machine

/// Exits that the current instruction has caused and that the engine has yet to return, oldest first. One instruction
/// posts few: a 16-byte store to a device is four, an interrupt frame in device memory ten.
struct ExitQueue {
  private var exits: [VMExit] = []
  private var taken = 0

  init() { exits.reserveCapacity(32) }

  var isEmpty: Bool { taken == exits.count }

  mutating func append(_ exit: VMExit) { exits.append(exit) }

  mutating func next() -> VMExit? {
    guard taken < exits.count else { return nil }
    defer {
      taken += 1
      if taken == exits.count {
        exits.removeAll(keepingCapacity: true)
        taken = 0
      }
    }
    return exits[taken]
  }
}
