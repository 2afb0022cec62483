/// What the PCI transport remembers beside the queues.
struct VirtioPCIRegisters: Codable, Equatable, Sendable {
  var offeredWord: UInt32 = 0
  var acceptedWord: UInt32 = 0
  var selectedQueue: UInt16 = 0
  var configurationVector = UInt16.max
  var interruptStatus: UInt8 = 0
}
