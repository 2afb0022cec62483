import CHost

/// A machine's state outside its RAM, gathered while the machine is paused. In memory only: how it is written to disk is
/// another matter.
public struct MachineSnapshot {
  /// A device's state; its type is the device's `State`.
  public struct DeviceState {
    public var name: String
    public var state: any Codable
  }

  /// Why a snapshot does not fit a machine.
  public struct Mismatch: Error, CustomStringConvertible, Equatable {
    public var description: String
  }

  public var processors: [ProcessorSnapshot]
  /// In the machine's order.
  public var devices: [DeviceState]
}

/// The architectural part of a `CPUState`, as it lies in memory: its layout is fixed by `CPUState.h`. The time-stamp
/// offset is kept relative to the machine clock's.
public struct ProcessorSnapshot: Codable, Equatable, Sendable {
  public var bytes: [UInt8]

  static let size = MemoryLayout<CPUState>.offset(of: \.engine)!

  init(_ state: UnsafePointer<CPUState>, timeStampOffset: UInt64) {
    var copy = state.pointee
    copy.tscOffset &-= timeStampOffset
    bytes = withUnsafeBytes(of: copy) { Array($0[..<Self.size]) }
  }

  /// Puts the architectural part back; what belongs to the engine stays. `bytes` has been checked for its size.
  func restore(to state: UnsafeMutablePointer<CPUState>, timeStampOffset: UInt64) {
    bytes.withUnsafeBytes { UnsafeMutableRawPointer(state).copyMemory(from: $0.baseAddress!, byteCount: Self.size) }
    state.pointee.tscOffset &+= timeStampOffset
  }
}

extension VirtualMachine {
  /// The state of all processors and devices. Only while the machine is paused or has not started.
  public func save() -> MachineSnapshot {
    lock.withLock {
      MachineSnapshot(
        processors: cpus.map { ProcessorSnapshot($0.state, timeStampOffset: clock.timeStampOffset) },
        devices: devices.map { MachineSnapshot.DeviceState(name: $0.name, state: $0.save()) })
    }
  }

  /// Puts processors and devices into a saved state. The machine must be put together as the saved one was; where it is
  /// not, nothing is changed. Only while the machine is paused or has not started.
  public func restore(_ snapshot: MachineSnapshot) throws(MachineSnapshot.Mismatch) {
    guard snapshot.processors.count == cpus.count, snapshot.devices.map(\.name) == devices.map(\.name),
      snapshot.processors.allSatisfy({ $0.bytes.count == ProcessorSnapshot.size }),
      devices.indices.allSatisfy({
        let device = devices[$0]
        return accepts(device, snapshot.devices[$0].state)
      })
    else {
      throw MachineSnapshot.Mismatch(description: "the snapshot is of a machine that was put together differently")
    }
    lock.withLock {
      for (cpu, saved) in zip(cpus, snapshot.processors) {
        saved.restore(to: cpu.state, timeStampOffset: clock.timeStampOffset)
        cpu.stateHasChanged = true
      }
      for (device, saved) in zip(devices, snapshot.devices) { putBack(device, saved.state) }
    }
  }
}

private func accepts<D: Device>(_ device: D, _ state: any Codable) -> Bool { state is D.State }

private func putBack<D: Device>(_ device: D, _ state: any Codable) {
  if let state = state as? D.State { device.restore(state) }
}
