import Machine

/// What a PC makes of an x87 error while CR0.NE is clear (82371SB datasheet, "Coprocessor Error Register"; SDM vol. 1,
/// 8.7.2): FERR# sets a latch, which is interrupt 13. The handler resets it by a write to port 0xf0, and from then until
/// the error is cleared the processor ignores it (IGNNE#), so that the handler can look at the x87 unit.
///
/// Region 0: one port (0xf0).
public final class NumericErrorLatch: Device {
  public struct State: Codable, Equatable, Sendable {
    var isSet = false
  }

  public let name = "numeric-error"
  private let interrupt: InterruptLine
  private let ignore: () -> Void
  private var state = State()

  /// - Parameter ignore: asserts IGNNE#.
  public init(interrupt: InterruptLine, ignore: @escaping () -> Void) {
    self.interrupt = interrupt
    self.ignore = ignore
  }

  /// FERR#.
  public var input: InterruptLine {
    InterruptLine { [unowned self] level in
      if level { set(true) }
    }
  }

  public func attach(to platform: DevicePlatform) {}

  public func reset() { set(false) }

  public func read(region: Int, offset: UInt64, size: Int) -> UInt64 {
    ByteCycles.read(offset: offset, size: size) { _ in 0xff }
  }

  public func write(region: Int, offset: UInt64, size: Int, value: UInt64) {
    guard offset == 0, state.isSet else { return }
    set(false)
    ignore()
  }

  public func save() -> State { state }

  public func restore(_ state: State) { set(state.isSet) }

  private func set(_ isSet: Bool) {
    state.isSet = isSet
    interrupt.set(isSet)
  }
}
