/// The gate on address line 20. Two sources drive it, the keyboard controller's output port and system control port A;
/// the line is open while either wants it to be, as on Intel's chip sets.
///
/// It holds no state of its own that a snapshot would need: both sources tell it theirs when they are restored.
public final class A20Gate {
  /// Called under the machine lock with each new state: false means that address bit 20 reads as zero.
  public var onChange: ((Bool) -> Void)?
  /// Whether address line 20 passes.
  public private(set) var isOpen = true

  var keyboardController = true { didSet { update() } }
  var systemControl = false { didSet { update() } }

  public init() {}

  private func update() {
    let open = keyboardController || systemControl
    guard open != isOpen else { return }
    isOpen = open
    onChange?(open)
  }
}
