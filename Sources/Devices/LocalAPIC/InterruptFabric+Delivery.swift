/// Who gets a message (SDM vol. 3A, 11.6.2).
extension InterruptFabric {
  /// Delivers a message to the local APICs that it addresses. False where none of them takes it.
  @discardableResult public func send(_ message: InterruptMessage) -> Bool {
    send(message, excluding: nil)
  }

  private func send(_ message: InterruptMessage, excluding sender: LocalAPIC?) -> Bool {
    if message.deliveryMode == .lowestPriority {
      guard let apic = lowestPriorityReceiver(of: message, excluding: sender) else { return false }
      return apic.accept(.fixed, vector: message.vector, isLevelTriggered: message.isLevelTriggered)
    }
    var isAccepted = false
    for apic in apics where apic !== sender && apic.isAddressed(by: message) {
      let taken = apic.accept(
        message.deliveryMode, vector: message.vector, isLevelTriggered: message.isLevelTriggered)
      isAccepted = isAccepted || taken
    }
    return isAccepted
  }

  /// Delivers a device's MSI: its 32-bit write of `data` to `address`. Other addresses are ignored.
  public func sendMessageSignalled(address: UInt64, data: UInt32) {
    guard let message = InterruptMessage(address: address, data: data) else { return }
    send(message)
  }

  /// Of those addressed and enabled, the one of lowest processor priority; equals take turns.
  private func lowestPriorityReceiver(of message: InterruptMessage, excluding sender: LocalAPIC?) -> LocalAPIC? {
    var best: LocalAPIC?
    var bestPriority: UInt8 = 0
    for step in 0..<cpuCount {
      let apic = apics[(nextLowestPriority &+ step) % cpuCount]
      guard apic !== sender, apic.isSoftwareEnabled, apic.isAddressed(by: message) else { continue }
      let priority = apic.processorPriority >> 4
      if best != nil, priority >= bestPriority { continue }
      best = apic
      bestPriority = priority
    }
    if let best { nextLowestPriority = (best.cpu + 1) % cpuCount }
    return best
  }

  /// Carries out the command in `sender`'s ICR (SDM vol. 3A, 11.6.1).
  func send(from sender: LocalAPIC, destination: UInt32, isWide: Bool) {
    let command = UInt32(truncatingIfNeeded: sender.registers.command)
    let message = InterruptMessage(
      vector: UInt8(truncatingIfNeeded: command), deliveryMode: .init(bits: command >> 8), destination: destination,
      isLogical: command & 1 << 11 != 0, isLevelTriggered: false, hasWideDestination: isWide)
    switch message.deliveryMode {
    case .initialize where command & (1 << 15 | 1 << 14) == 1 << 15:
      // INIT level de-assert only synchronised arbitration IDs, long ago.
      return
    case .fixed, .lowestPriority:
      if message.vector < 16 { sender.note(APICError.sendIllegalVector) }
    default: break
    }
    switch (command >> 18) & 3 {
    case 0: send(message)
    case 1: sendToSelf(message, from: sender)
    case 2: sendToAll(message, from: sender, includesSender: true)
    default: sendToAll(message, from: sender, includesSender: false)
    }
  }

  /// The self-IPI register of x2APIC mode.
  func sendSelf(from sender: LocalAPIC, vector: UInt8) {
    if vector < 16 { sender.note(APICError.sendIllegalVector) }
    _ = sender.accept(.fixed, vector: vector, isLevelTriggered: false)
  }

  /// INIT and start-up have no shorthand that includes the sender (SDM vol. 3A, table 11-3).
  private func sendToSelf(_ message: InterruptMessage, from sender: LocalAPIC) {
    switch message.deliveryMode {
    case .initialize, .startUp: return
    default: _ = sender.accept(message.deliveryMode, vector: message.vector, isLevelTriggered: false)
    }
  }

  private func sendToAll(_ message: InterruptMessage, from sender: LocalAPIC, includesSender: Bool) {
    var everybody = message
    everybody.destination = everybody.hasWideDestination ? 0xffff_ffff : 0xff
    if includesSender, message.deliveryMode == .lowestPriority {
      send(everybody)
    } else {
      _ = send(everybody, excluding: sender)
      if includesSender { sendToSelf(message, from: sender) }
    }
  }
}

extension LocalAPIC {
  /// Whether `message`'s destination names this processor.
  func isAddressed(by message: InterruptMessage) -> Bool {
    let destination = message.destination
    switch mode {
    case .disabled: return false
    case _ where message.isBroadcast: return true
    case .x2APIC where message.isLogical:
      let logical = extendedLogicalDestination
      return logical >> 16 == destination >> 16 && logical & destination & 0xffff != 0
    case .x2APIC:
      return destination == UInt32(truncatingIfNeeded: cpu)
    case .xAPIC where message.isLogical:
      return destination <= 0xff && matchesLogical(UInt8(destination))
    case .xAPIC:
      return destination == UInt32(registers.identifier)
    }
  }

  /// Flat and cluster model of the destination format register (SDM vol. 3A, 11.6.2.2).
  private func matchesLogical(_ destination: UInt8) -> Bool {
    switch registers.destinationFormat >> 28 {
    case 0xf: destination & registers.logicalDestination != 0
    case 0x0:
      destination >> 4 == registers.logicalDestination >> 4
        && destination & registers.logicalDestination & 0xf != 0
    default: false
    }
  }
}
