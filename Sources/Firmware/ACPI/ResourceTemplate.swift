/// Builds the resource lists of `_CRS` (ACPI 6.5, 6.4).
struct ResourceTemplate {
  private var writer = ByteWriter()

  /// The whole template, with its end tag.
  var term: AMLTerm { .buffer(writer.bytes + [0x79, 0x00]) }

  /// `count` ports at a fixed place (6.4.2.5).
  func ports(_ first: UInt16, count: UInt8) -> Self {
    adding {
      $0.append([0x47, 0x01])
      $0.append(first)
      $0.append(first)
      $0.append([1, count])
    }
  }

  /// An edge-triggered, active-high interrupt of the 8259s (6.4.2.1).
  func interrupt(_ number: Int) -> Self {
    adding {
      $0.append([0x22])
      $0.append(UInt16(1) << UInt16(number))
    }
  }

  /// A byte channel of the ISA DMA controller (6.4.2.2).
  func dma(_ channel: Int) -> Self {
    adding {
      $0.append([0x2a])
      // Compatible timing, no bus master, eight bits.
      $0.append([1 << UInt8(channel), 0])
    }
  }

  /// Level-triggered, active-low interrupts that can be shared, one of which is meant (6.4.3.6).
  func sharedInterrupts(_ numbers: [UInt32]) -> Self {
    adding {
      $0.append([0x89])
      $0.append(UInt16(2 + 4 * numbers.count))
      // A consumer, low, shared; the numbers follow.
      $0.append([0x0d, UInt8(numbers.count)])
      for number in numbers { $0.append(number) }
    }
  }

  /// A global system interrupt that nobody shares, active high (6.4.3.6).
  func globalInterrupt(_ number: UInt32, isLevel: Bool) -> Self {
    adding {
      $0.append([0x89])
      $0.append(UInt16(6))
      // A consumer; an edge, unless it is a level; one number.
      $0.append([isLevel ? 0x01 : 0x03, 1])
      $0.append(number)
    }
  }

  /// Memory at a fixed place (6.4.3.4).
  func memory(_ first: UInt32, count: UInt32, isWritable: Bool = false) -> Self {
    adding {
      $0.append([0x86])
      $0.append(UInt16(9))
      $0.append([isWritable ? 1 : 0])
      $0.append(first)
      $0.append(count)
    }
  }

  /// Bus numbers that a bridge passes on (6.4.3.5.3).
  func busNumbers(_ range: ClosedRange<UInt8>) -> Self {
    word(kind: 2, flags: 0, UInt16(range.lowerBound)...UInt16(range.upperBound))
  }

  /// Ports that a bridge passes on, of all kinds.
  func portWindow(_ range: ClosedRange<UInt16>) -> Self { word(kind: 1, flags: 3, range) }

  /// Memory that a bridge passes on: writable, and prefetched and combined by nobody unless it is `cacheable`.
  func memoryWindow(_ range: ClosedRange<UInt32>, isCacheable: Bool = false) -> Self {
    adding {
      $0.append([0x87])
      $0.append(UInt16(23))
      $0.append([0, Self.fixedWindow, isCacheable ? 3 : 1])
      $0.append(UInt32(0))
      $0.append(range.lowerBound)
      $0.append(range.upperBound)
      $0.append(UInt32(0))
      $0.append(range.upperBound - range.lowerBound + 1)
    }
  }

  /// Both ends are fixed; addresses are decoded positively; the bridge produces what its children consume.
  private static let fixedWindow: UInt8 = 0x0c

  private func word(kind: UInt8, flags: UInt8, _ range: ClosedRange<UInt16>) -> Self {
    adding {
      $0.append([0x88])
      $0.append(UInt16(13))
      $0.append([kind, Self.fixedWindow, flags])
      $0.append(UInt16(0))
      $0.append(range.lowerBound)
      $0.append(range.upperBound)
      $0.append(UInt16(0))
      // The length of all 65536 would not fit; no window here is that large.
      $0.append(UInt16(truncatingIfNeeded: Int(range.upperBound) - Int(range.lowerBound) + 1))
    }
  }

  private func adding(_ change: (inout ByteWriter) -> Void) -> Self {
    var copy = self
    change(&copy.writer)
    return copy
  }
}
