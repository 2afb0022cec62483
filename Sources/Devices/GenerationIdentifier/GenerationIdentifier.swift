import Machine
import Memory
import X86

/// The identifier that tells a guest which of the machines it is that went on from one saved state (Microsoft, "Virtual
/// Machine Generation ID"). Whoever must not do things twice in two of them looks: Linux takes it for a sign to stir its
/// entropy anew.
///
/// It lies in guest memory, where firmware says that it has put it, or where the builder has. A machine keeps its
/// identifier over resets; one that goes on from a snapshot gets another, and an event tells the guest.
///
/// There are no regions.
public final class GenerationIdentifier: Device {
  public struct State: Codable, Equatable, Sendable {
    /// 16 bytes; empty before the first reset.
    var identifier: [UInt8] = []
    /// Guest-physical; zero: not in memory.
    var address: UInt64 = 0
  }

  static let size = 16

  public let name = "generation-identifier"
  private let notify: () -> Void
  private var platform: DevicePlatform?
  private var state = State()
  private var errors = GuestErrorLog(device: "generation-identifier")

  /// `notify` raises the event by which the guest learns that the identifier has changed.
  public init(notify: @escaping () -> Void) { self.notify = notify }

  public func attach(to platform: DevicePlatform) {
    self.platform = platform
    errors.start(platform.log)
  }

  public func reset() {
    if state.identifier.isEmpty { state.identifier = fresh() }
  }

  /// The identifier is, from now on, at `address`, to which it is written; at zero it is not in memory. Any number, as the
  /// guest may have it.
  public func place(at address: UInt64) {
    state.address = address
    write()
  }

  /// The machine has gone on from a saved state: the identifier becomes another.
  public func renew() {
    state.identifier = fresh()
    write()
    notify()
  }

  private func fresh() -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: Self.size)
    bytes.withUnsafeMutableBytes { platform?.inputs.entropy($0) }
    return bytes
  }

  private func write() {
    guard state.address != 0, let memory = platform?.memory else { return }
    let address = GuestPhysicalAddress(state.address)
    guard state.identifier.withUnsafeBytes({ memory.write(address, from: $0) }) else {
      return errors.note("\(address) is not in memory")
    }
  }

  public func read(region: Int, offset: UInt64, size: Int) -> UInt64 { .max }

  public func write(region: Int, offset: UInt64, size: Int, value: UInt64) {}

  public func save() -> State { state }

  public func restore(_ state: State) {
    self.state = state
    self.state.identifier = state.identifier.resized(to: Self.size, with: 0)
  }
}
