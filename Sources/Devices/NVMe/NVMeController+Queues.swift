import Memory
import X86

/// Commands in, answers out.
extension NVMeController {
  /// Takes what the driver has put into a submission queue.
  func takeCommands(_ number: Int) {
    while let queue = state.submissionQueues[number], queue.head != queue.tail, queue.inFlight < queue.size {
      guard !state.registers.isFatal, let memory = platform?.memory else { return }
      var bytes = [UInt8](repeating: 0, count: NVMeCommand.size)
      let address = GuestPhysicalAddress(queue.base &+ UInt64(queue.head) * UInt64(NVMeCommand.size))
      guard bytes.withUnsafeMutableBytes({ memory.read(address, into: $0) }) else {
        return fail("submission queue \(number) is not in RAM")
      }
      state.submissionQueues[number]?.head = (queue.head + 1) % queue.size
      state.submissionQueues[number]?.inFlight += 1
      let command = NVMeCommand(bytes)
      if number == 0 { administrate(command) } else { access(command, queue: number) }
    }
  }

  /// Answers a command of a queue.
  func complete(_ command: NVMeCommand, queue: Int, _ status: NVMeStatus, result: UInt32 = 0) {
    complete(command.identifier, queue: queue, status, result: result)
  }

  func complete(_ command: UInt16, queue number: Int, _ status: NVMeStatus, result: UInt32 = 0) {
    guard let queue = state.submissionQueues[number] else { return }
    state.submissionQueues[number]?.inFlight = queue.inFlight - min(queue.inFlight, 1)
    state.completionQueues[queue.completionQueue]?.waiting.append(
      NVMeCompletion(result: result, queue: number, command: command, status: status.rawValue))
    postWaiting(queue.completionQueue)
  }

  /// Puts the answers that wait into their queue, as far as there is room.
  func postWaiting(_ number: Int) {
    guard var queue = state.completionQueues[number], !queue.waiting.isEmpty else { return }
    var count = 0
    while count < queue.waiting.count, !queue.isFull {
      let answer = queue.waiting[count]
      var bytes = [UInt8](repeating: 0, count: NVMeCompletion.size)
      bytes.put(answer.result, at: 0)
      bytes.put(UInt16(truncatingIfNeeded: state.submissionQueues[answer.queue]?.head ?? 0), at: 8)
      bytes.put(UInt16(truncatingIfNeeded: answer.queue), at: 10)
      bytes.put(answer.command, at: 12)
      bytes.put(answer.status << 1 | (queue.phase ? 1 : 0), at: 14)
      let address = GuestPhysicalAddress(queue.base &+ UInt64(queue.tail) * UInt64(NVMeCompletion.size))
      guard let memory = platform?.memory, post(bytes, at: address, memory) else {
        return fail("completion queue \(number) is not in RAM")
      }
      queue.tail = (queue.tail + 1) % queue.size
      if queue.tail == 0 { queue.phase.toggle() }
      count += 1
    }
    guard count > 0 else { return }
    queue.waiting.removeFirst(count)
    state.completionQueues[number] = queue
    if let vector = queue.vector, pci.usesMessageTable { pci.signal(vector) } else { driveInterrupt() }
  }

  /// The doubleword with the phase bit comes last: the driver looks at it while this is written.
  private func post(_ bytes: [UInt8], at address: GuestPhysicalAddress, _ memory: GuestMemory) -> Bool {
    bytes.withUnsafeBytes {
      memory.write(address, from: UnsafeRawBufferPointer(rebasing: $0[..<12]))
        && memory.write(address &+ 12, from: UnsafeRawBufferPointer(rebasing: $0[12...]))
    }
  }

  /// The pin is asserted while a queue that interrupts has something that the driver has not looked at.
  func driveInterrupt() {
    let isAsserted = state.completionQueues.values.contains { queue in
      guard let vector = queue.vector, !queue.isEmpty else { return false }
      return vector >= 32 || state.registers.interruptMask & 1 << UInt32(vector) == 0
    }
    pci.setInterrupt(isAsserted && !pci.usesMessageTable)
  }
}
