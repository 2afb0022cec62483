import Machine

/// What a bus gives the function in one of its slots.
struct PCISlot {
  /// Puts the function's region on the machine's bus, or takes it away.
  let place: (_ region: Int, _ placement: BusPlacement?) -> Void
  /// The level of the function's interrupt pin.
  let setPin: (_ level: Bool) -> Void
  /// A message-signalled interrupt: a 32-bit write of the data to the address.
  let send: (_ address: UInt64, _ data: UInt32) -> Void
}
