/// The registers of an NVMe controller that keep anything (NVMe 1.4, 3.1).
struct NVMeRegisters: Codable, Equatable, Sendable {
  var interruptMask: UInt32 = 0
  var configuration: UInt32 = 0
  /// Sizes of the queues for administration, less one: 12 bits each.
  var queueSizes: UInt32 = 0
  var submissionBase: UInt64 = 0
  var completionBase: UInt64 = 0
  var isReady = false
  var isFatal = false
  var isShutDown = false

  /// The status register. A controller that is switched off is not off while something is under way.
  func status(isBusy: Bool) -> UInt32 {
    (isReady || isBusy ? 1 : 0) | (isFatal ? 2 : 0) | (isShutDown ? 2 << 2 : 0)
  }
}
