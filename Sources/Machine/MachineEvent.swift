import X86

/// Something that happened in a machine, for those who watch.
public enum MachineEvent: Sendable, Equatable {
  case exit(cpu: Int, VMExit)
  /// With the value that was read or written.
  case portAccess(cpu: Int, port: UInt16, size: Int, value: UInt64, isWrite: Bool)
  case memoryAccess(cpu: Int, address: GuestPhysicalAddress, size: Int, value: UInt64, isWrite: Bool)
  case interrupt(cpu: Int, vector: UInt8)
  case shutdown(cpu: Int)
  case failure(GuestFailure)
  case lifecycle(Lifecycle)

  public enum Lifecycle: Sendable, Equatable {
    case started, paused, resumed, reset
    case ended(MachineOutcome)
  }

  var mask: EventMask {
    switch self {
    case .exit: .exit
    case .portAccess: .portAccess
    case .memoryAccess: .memoryAccess
    case .interrupt: .interrupt
    case .shutdown: .shutdown
    case .failure: .failure
    case .lifecycle: .lifecycle
    }
  }
}
