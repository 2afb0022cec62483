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

  /// The machine clock: nanoseconds, and the guest's time-stamp counter.
  public var time: UInt64
  public var timeStamp: UInt64
  public var processors: [ProcessorSnapshot]
  /// In the machine's order.
  public var devices: [DeviceState]
}

/// The architectural part of a `CPUState`, as it lies in memory: its layout is fixed by `CPUState.h`. The time-stamp
/// offset is kept relative to the machine clock's.
public struct ProcessorSnapshot: Codable, Equatable, Sendable {
  public var bytes: [UInt8]
  /// What other processors and devices have told it, and it has not taken yet.
  var signals: ProcessorSignals

  static let size = MemoryLayout<CPUState>.offset(of: \.engine)!

  init(_ cpu: VirtualCPU, timeStampOffset: UInt64) {
    signals = cpu.signals
    var copy = cpu.state.pointee
    copy.tscOffset &-= timeStampOffset
    bytes = withUnsafeBytes(of: copy) { Array($0[..<Self.size]) }
  }

  /// Puts the architectural part back; what belongs to the engine stays. `bytes` has been checked for its size.
  func restore(to cpu: VirtualCPU, timeStampOffset: UInt64) {
    bytes.withUnsafeBytes { UnsafeMutableRawPointer(cpu.state).copyMemory(from: $0.baseAddress!, byteCount: Self.size) }
    cpu.state.pointee.tscOffset &+= timeStampOffset
    cpu.signals = signals
    cpu.stateHasChanged = true
    cpu.raise(.interrupt)
  }
}

extension VirtualMachine {
  /// The state of all processors and devices. Only while the machine is paused or has not started.
  public func save() -> MachineSnapshot {
    lock.withLock {
      MachineSnapshot(
        time: clock.now, timeStamp: clock.timeStamp,
        processors: cpus.map { ProcessorSnapshot($0, timeStampOffset: clock.timeStampOffset) },
        devices: devices.map { MachineSnapshot.DeviceState(name: $0.name, state: $0.save()) })
    }
  }

  /// Puts processors and devices into a saved state. The machine must be put together as the saved one was; where it is
  /// not, nothing is changed. Only while the machine is paused.
  public func restore(_ snapshot: MachineSnapshot) throws(MachineSnapshot.Mismatch) {
    try check(snapshot)
    lock.withLock { takeOver(snapshot) }
  }

  func check(_ snapshot: MachineSnapshot) throws(MachineSnapshot.Mismatch) {
    guard snapshot.processors.count == cpus.count, snapshot.devices.map(\.name) == devices.map(\.name),
      snapshot.processors.allSatisfy({ $0.bytes.count == ProcessorSnapshot.size }),
      devices.indices.allSatisfy({
        let device = devices[$0]
        return accepts(device, snapshot.devices[$0].state)
      })
    else {
      throw MachineSnapshot.Mismatch(description: "the snapshot is of a machine that was put together differently")
    }
  }

  /// `check` has passed, the machine lock is held, the clock stands still.
  func takeOver(_ snapshot: MachineSnapshot) {
    clock.set(now: snapshot.time, timeStamp: snapshot.timeStamp)
    for (cpu, saved) in zip(cpus, snapshot.processors) {
      saved.restore(to: cpu, timeStampOffset: clock.timeStampOffset)
    }
    for (device, saved) in zip(devices, snapshot.devices) { putBack(device, saved.state) }
  }
}

private func accepts<D: Device>(_ device: D, _ state: any Codable) -> Bool { state is D.State }

private func putBack<D: Device>(_ device: D, _ state: any Codable) {
  if let state = state as? D.State { device.restore(state) }
}
