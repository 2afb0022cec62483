import Devices

/// The models of virtio devices that somebody outside of the machine has to do with.
extension MachineConfiguration {
  /// A disk with several queues has one for each processor, as far as that is any use.
  var diskQueueCount: Int { min(processorCount, 16) }

  func makeConsole() -> VirtioConsole? { hasConsole ? VirtioConsole() : nil }

  func makeBalloon() -> VirtioBalloon? { balloon.map { VirtioBalloon(target: $0.balloonPages) } }
}
