import CHost
import Machine
import X86

/// Accesses that somebody outside the engine answers: the responder, if there is one, at once. Otherwise a read leaves the
/// engine and executes the instruction again; an instruction with several reads is executed once for each, and the
/// answers that it already has are replayed to it.
extension SoftwareProcessor {
  /// The answer to `exit`, or leaves the engine to get it.
  func answer(to exit: VMExit) throws(GuestFault) -> UInt64 {
    if replay.hasNext { return try replay.next() }
    guard respond(to: exit) else {
      pendingExits.append(exit)
      throw .exit
    }
    cpu.pointee.completion.isValid = 0
    guard cpu.pointee.completion.isRefused == 0 else {
      cpu.pointee.completion.isRefused = 0
      throw .generalProtection()
    }
    return cpu.pointee.completion.data
  }

  /// Has `exit` answered without leaving the engine. False: the engine has to be left.
  ///
  /// What the answer brings about, like an interrupt or the wish to stop, comes before the next instruction.
  func respond(to exit: VMExit) -> Bool {
    // The responder knows nothing of x87 registers that are in the host's; one exit puts them back.
    guard let responder, cpu.pointee.engine.x87Residence == X87Residence.memory.rawValue else { return false }
    let (guest, host) = (nativeMXCSR(), cpu.pointee.engine.hostMXCSR)
    if guest != host { nativeSetMXCSR(host) }
    responder.respond(to: exit)
    if nativeMXCSR() != guest { nativeSetMXCSR(guest) }
    if attentionLoad(cpu.pointee.engine.attention.unsafelyUnwrapped) != 0 {
      cpu.pointee.engine.stopReason |= StopReason.serialize
    }
    return true
  }

  /// `size` bytes, 1 to 8, of a device. Odd sizes, from accesses that cross a page, go in power-of-two pieces.
  func deviceLoad(_ address: GuestPhysicalAddress, size: Int) throws(GuestFault) -> UInt64 {
    if size == 4, address.rawValue == cpu.pointee.engine.numberAddress, responder != nil, replay.isEmpty {
      return UInt64(cpu.pointee.engine.number)
    }
    if size.nonzeroBitCount == 1 { return try answer(to: .memoryRead(address: address, size: size)) }
    var value: UInt64 = 0
    for index in 0..<size {
      value |= try answer(to: .memoryRead(address: address &+ UInt64(index), size: 1)) << UInt64(8 * index)
    }
    return value
  }

  /// Posts a store to a device; it is carried out when the instruction has ended.
  func deviceStore(_ value: UInt64, at address: GuestPhysicalAddress, size: Int) {
    guard size.nonzeroBitCount == 1 else {
      for index in 0..<size {
        deviceStore(value >> UInt64(8 * index) & 0xff, at: address &+ UInt64(index), size: 1)
      }
      return
    }
    let mask = size == 8 ? ~0 : (1 as UInt64) << UInt64(8 * size) &- 1
    pendingExits.append(.memoryWrite(address: address, size: size, value: value & mask))
    cpu.pointee.engine.stopReason |= StopReason.exits
  }

  /// IN. `size` is 1, 2 or 4 bytes.
  func portRead(_ port: UInt16, size: Int) throws(GuestFault) -> UInt32 {
    UInt32(truncatingIfNeeded: try answer(to: .portRead(port: port, size: size)))
  }

  /// OUT; carried out when the instruction has ended.
  func portWrite(_ port: UInt16, size: Int, value: UInt32) {
    pendingExits.append(.portWrite(port: port, size: size, value: value))
    cpu.pointee.engine.stopReason |= StopReason.exits
  }
}

/// Bits of `EngineArea.stopReason`: why a chain has to be left at the end of the current instruction, or was left.
enum StopReason {
  /// `pendingExits` holds exits for writes that have happened.
  static let exits: UInt64 = 1
  /// The current instruction threw; the fault is in `SoftwareProcessor.fault`.
  static let fault: UInt64 = 2
  /// Interrupts, debug traps or the code mode must be looked at before the next instruction.
  static let serialize: UInt64 = 4
}

/// Answers that the running instruction has already got, in the order in which it asks.
struct ReplayedAnswers {
  private var answers: [(data: UInt64, isRefused: Bool)] = []
  private var used = 0

  init() { answers.reserveCapacity(16) }

  var hasNext: Bool { used < answers.count }

  /// Whether the running instruction has not asked for anything.
  var isEmpty: Bool { answers.isEmpty }

  mutating func next() throws(GuestFault) -> UInt64 {
    let answer = answers[used]
    used += 1
    if answer.isRefused { throw .generalProtection() }
    return answer.data
  }

  /// A further answer has come; the instruction starts again.
  mutating func append(_ completion: ExitCompletion) {
    answers.append((completion.data, completion.isRefused != 0))
    used = 0
  }

  /// The instruction has ended, or faulted.
  mutating func clear() {
    if answers.isEmpty { return }
    answers.removeAll(keepingCapacity: true)
    used = 0
  }
}
