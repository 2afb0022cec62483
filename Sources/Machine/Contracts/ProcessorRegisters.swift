/// What has model-specific registers in each processor that the processor itself does not know. All calls under the
/// machine lock.
public protocol ProcessorRegisters: AnyObject {
  /// Nil: not one of ours, or refused.
  func readMSR(_ index: UInt32, cpu: Int) -> UInt64?
  /// False: not one of ours, or refused.
  func writeMSR(_ index: UInt32, value: UInt64, cpu: Int) -> Bool
  /// What a processor's time-stamp counter is ahead of the clock's, modulo 2^64: called when it has changed.
  func setTimeStampOffset(_ offset: UInt64, cpu: Int)
}
