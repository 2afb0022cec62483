/// One 8259A (Intel 8259A data sheet, order number 231468), without its bus cycles.
///
/// A rising edge on an edge-triggered input is remembered until it is acknowledged, even when the input falls before.
/// The real chip forgets it and answers the acknowledge cycle with its spurious vector; but a device model may pulse its
/// line, and the pulse must not be lost. An input in level mode follows its wire.
struct PICChip: Codable {
  /// IRR, ISR and IMR.
  private(set) var requests: UInt8 = 0
  private(set) var inService: UInt8 = 0
  private(set) var mask: UInt8 = 0
  /// Levels of the inputs.
  private(set) var inputs: UInt8 = 0
  /// ELCR: inputs in level mode.
  private(set) var levelTriggered: UInt8 = 0
  /// ICW2 without its low three bits.
  private var vectorBase: UInt8 = 0
  /// ICW3: which inputs have a slave (master), or the number of this slave.
  private(set) var cascade: UInt8
  /// ICW1: there is only this one.
  private(set) var isSingle = false
  /// ICW4.
  private var automaticEndOfInterrupt = false
  private var specialFullyNested = false
  /// The initialization command word that the next write to the odd address is: 2, 3 or 4; 0: it is OCW1.
  private var awaitedWord: UInt8 = 0
  private var needsWord4 = false
  /// The input of lowest priority; 7 unless rotated.
  private var lowestPriority: UInt8 = 7
  private var rotatesAutomatically = false
  private var specialMask = false
  /// OCW3: the next read is a poll.
  private(set) var isPolled = false
  /// OCW3: reads of the even address give ISR instead of IRR.
  private var readsInService = false

  /// - Parameter cascade: ICW3 until software has written it.
  init(cascade: UInt8) {
    self.cascade = cascade
  }

  /// Power-up. The wires keep their levels.
  mutating func reset(cascade: UInt8) {
    let inputs = inputs
    self = PICChip(cascade: cascade)
    self.inputs = inputs
  }

  // MARK: Inputs and priorities

  mutating func setInput(_ input: UInt8, _ level: Bool) {
    let bit: UInt8 = 1 << (input & 7)
    if level {
      if levelTriggered & bit != 0 || inputs & bit == 0 { requests |= bit }
      inputs |= bit
    } else {
      inputs &= ~bit
      if levelTriggered & bit != 0 { requests &= ~bit }
    }
  }

  /// Writes ELCR. An input that becomes level-triggered follows its wire from now on.
  mutating func setLevelTriggered(_ inputs: UInt8) {
    levelTriggered = inputs
    requests = requests & ~inputs | self.inputs & inputs
  }

  /// Sets an input's request directly: how the slave's output reaches the master.
  mutating func request(_ input: UInt8) {
    requests |= 1 << (input & 7)
  }

  /// The input whose interrupt the chip presents, nil while its output is low.
  ///
  /// - Parameter slaves: inputs that have a slave; in special fully nested mode a slave's further interrupts pass while
  ///   one of its interrupts is in service.
  func presented(slaves: UInt8) -> UInt8? {
    let pending = requests & ~mask
    guard pending != 0, awaitedWord == 0 else { return nil }
    let priority = highestPriority(of: pending)
    let input = (priority &+ lowestPriority &+ 1) & 7
    // In special mask mode a masked input in service holds nothing back.
    let blocking = specialMask ? inService & ~mask : inService
    guard blocking != 0 else { return input }
    let current = highestPriority(of: blocking)
    let isNestedSlave = specialFullyNested && priority == current && slaves & 1 << input != 0
    return priority < current || isNestedSlave ? input : nil
  }

  /// Priority, 0 highest, of the most urgent of `inputs`, which are not empty.
  private func highestPriority(of inputs: UInt8) -> UInt8 {
    let shift = (lowestPriority &+ 1) & 7
    let rotated = inputs >> shift | inputs << ((8 &- shift) & 7)
    return UInt8(truncatingIfNeeded: rotated.trailingZeroBitCount)
  }

  func vector(of input: UInt8) -> UInt8 { vectorBase | input }

  /// The request of `input` goes into service. Nil, a request that has gone away: nothing changes.
  mutating func acknowledge(_ input: UInt8?) {
    guard let input else { return }
    let bit: UInt8 = 1 << input
    if levelTriggered & bit == 0 { requests &= ~bit }
    if automaticEndOfInterrupt {
      if rotatesAutomatically { lowestPriority = input }
    } else {
      inService |= bit
    }
  }

  // MARK: Registers

  /// A write to the even address: ICW1, OCW2 or OCW3.
  mutating func writeCommand(_ value: UInt8) {
    if value & 0x10 != 0 {
      initialize(value)
    } else if value & 0x08 != 0 {
      writeOperation3(value)
    } else {
      writeOperation2(value)
    }
  }

  /// ICW1. Level mode comes from ELCR, not from bit 3, as in the PC's chip sets.
  private mutating func initialize(_ value: UInt8) {
    // An input that is high now must fall and rise before it interrupts.
    requests &= levelTriggered
    inService = 0
    mask = 0
    lowestPriority = 7
    specialMask = false
    readsInService = false
    isPolled = false
    rotatesAutomatically = false
    isSingle = value & 2 != 0
    needsWord4 = value & 1 != 0
    if !needsWord4 {
      automaticEndOfInterrupt = false
      specialFullyNested = false
    }
    awaitedWord = 2
  }

  /// OCW2: end of interrupt and rotation.
  private mutating func writeOperation2(_ value: UInt8) {
    let level = value & 7
    switch value >> 5 {
    case 0b000: rotatesAutomatically = false
    case 0b100: rotatesAutomatically = true
    case 0b001: _ = endHighest()
    case 0b101: if let ended = endHighest() { lowestPriority = ended }
    case 0b011: inService &= ~(1 << level)
    case 0b111:
      inService &= ~(1 << level)
      lowestPriority = level
    case 0b110: lowestPriority = level
    default: break
    }
  }

  /// Non-specific end of interrupt: the most urgent in service, of which special mask mode hides the masked ones.
  private mutating func endHighest() -> UInt8? {
    let candidates = specialMask ? inService & ~mask : inService
    guard candidates != 0 else { return nil }
    let input = (highestPriority(of: candidates) &+ lowestPriority &+ 1) & 7
    inService &= ~(1 << input)
    return input
  }

  /// OCW3: special mask mode, poll, and which register is read.
  private mutating func writeOperation3(_ value: UInt8) {
    if value & 0x40 != 0 { specialMask = value & 0x20 != 0 }
    if value & 0x04 != 0 {
      isPolled = true
    } else if value & 0x02 != 0 {
      readsInService = value & 0x01 != 0
    }
  }

  /// A write to the odd address: ICW2 to ICW4 after ICW1, otherwise OCW1.
  mutating func writeData(_ value: UInt8) {
    switch awaitedWord {
    case 2:
      vectorBase = value & 0xf8
      awaitedWord = !isSingle ? 3 : needsWord4 ? 4 : 0
    case 3:
      cascade = value
      awaitedWord = needsWord4 ? 4 : 0
    case 4:
      automaticEndOfInterrupt = value & 0x02 != 0
      specialFullyNested = value & 0x10 != 0
      awaitedWord = 0
    default:
      mask = value
    }
  }

  /// A read of the even or odd address. A poll acknowledges `presented`, the input that the chip presents.
  mutating func read(isData: Bool, presented: UInt8?) -> UInt8 {
    if isPolled {
      isPolled = false
      acknowledge(presented)
      return presented.map { 0x80 | $0 } ?? 0
    }
    if isData { return mask }
    return readsInService ? inService : requests
  }
}
