import CHost

/// Count and host time of a processor's exits, per cause and per guest address. Always on: a record is a few additions.
///
/// Addresses (ports; pages of memory-mapped registers; MSR numbers) live in a fixed hash table. One that finds no place
/// is counted under its cause only. Written by the processor's thread; read when that thread is parked or has ended.
public final class ExitStatistics: @unchecked Sendable {
  /// Times that something happened, and host time-stamp ticks that it took.
  public struct Total: Sendable, Equatable {
    public var count: UInt64 = 0
    public var ticks: UInt64 = 0

    static func + (left: Self, right: Self) -> Self {
      Self(count: left.count &+ right.count, ticks: left.ticks &+ right.ticks)
    }
  }

  /// What an exit was about.
  struct Place: Hashable {
    var cause: VMExit.Cause
    var address: UInt64
  }

  private struct Slot {
    var key: UInt64 = 0
    var total = Total()
  }

  private static let slotCount = 512
  private static let probes = 8

  private let causes: UnsafeMutablePointer<Total>
  private let slots: UnsafeMutablePointer<Slot>

  public init() {
    causes = .allocate(capacity: VMExit.Cause.allCases.count)
    causes.initialize(repeating: Total(), count: VMExit.Cause.allCases.count)
    slots = .allocate(capacity: Self.slotCount)
    slots.initialize(repeating: Slot(), count: Self.slotCount)
  }

  deinit {
    causes.deallocate()
    slots.deallocate()
  }

  /// Adds one exit that took `ticks`.
  func record(_ exit: VMExit, ticks: UInt64) {
    let (index, address) = Self.classify(exit)
    causes[index].count &+= 1
    causes[index].ticks &+= ticks
    guard let address else { return }
    let key = UInt64(index + 1) << 56 | address & 0x00ff_ffff_ffff_ffff
    var slot = Int(truncatingIfNeeded: (key &* 0x9e37_79b9_7f4a_7c15) >> 55)
    for _ in 0..<Self.probes {
      if slots[slot].key == 0 { slots[slot].key = key }
      if slots[slot].key == key {
        slots[slot].total.count &+= 1
        slots[slot].total.ticks &+= ticks
        return
      }
      slot = (slot + 1) & (Self.slotCount - 1)
    }
  }

  /// Adds time to a cause without counting an exit.
  func addTime(_ cause: VMExit.Cause, ticks: UInt64) {
    guard let index = VMExit.Cause.allCases.firstIndex(of: cause) else { return }
    causes[index].ticks &+= ticks
  }

  public func total(_ cause: VMExit.Cause) -> Total {
    VMExit.Cause.allCases.firstIndex(of: cause).map { causes[$0] } ?? Total()
  }

  /// Everything that was recorded with an address.
  var places: [Place: Total] {
    var result: [Place: Total] = [:]
    for index in 0..<Self.slotCount where slots[index].key != 0 {
      let key = slots[index].key
      let place = Place(
        cause: VMExit.Cause.allCases[Int(key >> 56) - 1], address: key & 0x00ff_ffff_ffff_ffff)
      result[place] = slots[index].total
    }
    return result
  }

  /// Position in `VMExit.Cause.allCases`, which is in the order of declaration, and what the exit was about.
  private static func classify(_ exit: VMExit) -> (Int, UInt64?) {
    switch exit {
    case .portRead(let port, _): (0, UInt64(port))
    case .portWrite(let port, _, _): (1, UInt64(port))
    case .memoryRead(let address, _): (2, address.page)
    case .memoryWrite(let address, _, _): (3, address.page)
    case .msrRead(let index): (4, UInt64(index))
    case .msrWrite(let index, _): (5, UInt64(index))
    case .timeStampRead: (6, nil)
    case .timeStampMoved: (7, nil)
    case .randomRead: (8, nil)
    case .taskPriorityChanged: (9, nil)
    case .halt: (10, nil)
    case .yield: (11, nil)
    case .shutdown: (12, nil)
    case .hypercall: (13, nil)
    case .numericError: (14, nil)
    case .interruptWindow: (15, nil)
    case .debug: (16, nil)
    case .budgetSpent: (17, nil)
    case .attention: (18, nil)
    }
  }
}
