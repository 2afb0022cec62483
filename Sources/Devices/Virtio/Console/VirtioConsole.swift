import Machine

/// A console with one port (VIRTIO 1.2, 5.3): a queue for what the guest reads, a queue for what it writes.
///
/// Output is taken out of its chain at once and goes on as fast as the backend takes it; until it has, no other chain is
/// taken, and the guest's queue fills up. Input that the guest has no room for waits here.
public final class VirtioConsole: VirtioModel, CharacterPort {
  public struct State: Codable, Equatable, Sendable {
    /// Output that the backend has not taken yet.
    var output: [UInt8] = []
    /// Input that the guest has not taken yet.
    var input: [UInt8] = []
  }

  private enum Queue {
    static let receive = 0
    static let transmit = 1
  }

  /// Feature bit: the driver may write single characters into the configuration structure.
  private static let emergencyWrite: UInt64 = 1 << 2
  private static let emergencyOffset = 8
  /// Bytes that are taken out of one chain; drivers send less.
  private static let outputLimit = 1 << 20
  /// Bytes of input that are taken at once.
  private static let inputLimit = 4096

  public let kind = VirtioKind.console
  public let features = emergencyWrite
  public let queueSizes: [UInt16] = [128, 128]
  /// Columns and rows, which are not told; number of ports; emergency write.
  public let configuration: [UInt8] = [0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]

  public var backend: (any CharacterBackend)?
  public var onReadyToReceive: (() -> Void)?
  public var onListening: (() -> Void)?

  private var core: VirtioCore?
  private var state = State()

  public init() {}

  public func attach(to core: VirtioCore, platform: DevicePlatform) { self.core = core }

  public func reset() { state = State() }

  public func writeConfiguration(_ offset: Int, _ value: UInt8) {
    if offset == Self.emergencyOffset { _ = backend?.send([value]) }
  }

  public func notify(_ queue: Int) {
    switch queue {
    case Queue.transmit: resumeTransmission()
    case Queue.receive:
      deliver()
      if state.input.isEmpty { onReadyToReceive?() }
    default: break
    }
  }

  // MARK: Output

  public func resumeTransmission() {
    guard let core else { return }
    sendOutput()
    core.forEachChain(Queue.transmit, while: state.output.isEmpty) { chain in
      state.output = chain.read(from: 0, count: Self.outputLimit, in: core.memory)
      core.giveBack(chain, written: 0)
      sendOutput()
    }
    core.signal(Queue.transmit)
  }

  private func sendOutput() {
    guard !state.output.isEmpty else { return }
    let count = backend?.send(state.output) ?? state.output.count
    state.output.removeFirst(min(max(count, 0), state.output.count))
  }

  // MARK: Input

  /// The driver has given the receiving queue something to fill.
  public var isListening: Bool { core?.hasChain(Queue.receive) ?? false }

  public var canReceive: Bool { state.input.isEmpty }

  public var receiveCapacity: Int { state.input.isEmpty ? Self.inputLimit : 0 }

  public func receive(_ bytes: [UInt8]) {
    guard let core else { return }
    state.input += core.platform.inputs.receive(bytes, source: kind.name)
    deliver()
  }

  private func deliver() {
    guard let core else { return }
    while !state.input.isEmpty {
      guard let chain = core.takeChain(Queue.receive) else {
        if core.requestNotices(Queue.receive) { continue }
        break
      }
      let written = chain.write(state.input, in: core.memory)
      state.input.removeFirst(Int(written))
      core.giveBack(chain, written: written)
    }
    core.signal(Queue.receive)
  }

  public func save() -> State { state }

  public func restore(_ state: State) { self.state = state }
}
