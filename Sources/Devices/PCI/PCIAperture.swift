/// Registers of a PCI function's configuration space that are none: bytes behind them belong to something else.
public struct PCIAperture {
  public let registers: Range<Int>
  /// By offset in `registers`.
  public let read: (_ offset: Int) -> UInt8
  public let write: (_ offset: Int, _ value: UInt8) -> Void
}
