import Machine

// Data on their way between host and drive: through the data register, block by block, or by the channel's bus
// master, all at once.

extension IDEUnit {
  /// Bytes that the buffer holds at most: a multiple of every block size that ATA commands have.
  private static let bufferLimit: UInt64 = 64 << 10

  // MARK: Data through the register

  /// Gets data for the host: what the drive has made, or the next part of what is on the medium.
  func fillBuffer() {
    guard let transfer = state.transfer else { return }
    state.position = 0
    switch transfer.content {
    case .bytes(let bytes):
      buffer = ATABuffer(bytes)
      openBlock(interrupts: true)
    case .parameters: preconditionFailure("parameters go to the drive")
    case .medium:
      state.status = .busy
      buffer = ATABuffer(count: Int(min(transfer.count - state.moved, Self.bufferLimit)))
      moveBuffer(transfer) { [self] in openBlock(interrupts: true) }
    }
  }

  /// Makes room for data of the host's.
  func emptyBuffer(isFirst: Bool) {
    guard let transfer = state.transfer else { return }
    state.position = 0
    let limit = transfer.content == .parameters ? transfer.count : Self.bufferLimit
    buffer = ATABuffer(count: Int(min(transfer.count - state.moved, limit)))
    openBlock(interrupts: !isFirst)
  }

  private func moveBuffer(_ transfer: ATATransfer, then next: @escaping () -> Void) {
    let buffer = buffer
    wait { resume in
      drive?.move(
        transfer, position: state.moved, count: UInt64(buffer.bytes.count), memory: [.buffer(buffer.bytes)]
      ) { [self] result in
        withExtendedLifetime(buffer) {}
        resume { self.conclude(result, transfer, then: next) }
      }
    }
  }

  private func conclude(_ result: ATAMovement, _ transfer: ATATransfer, then next: () -> Void) {
    switch result {
    case .moved: next()
    case .badMemory: go(.done(.failure(.aborted, transfer.registers)))
    case .failed(let outcome): go(.done(outcome))
    }
  }

  private func openBlock(interrupts: Bool) {
    guard let transfer = state.transfer else { return }
    state.blockEnd = min(state.position + transfer.blockSize, buffer.bytes.count)
    state.status = [.ready, .seekComplete, .dataRequest]
    markPhase(count: state.blockEnd - state.position)
    if interrupts { raiseInterrupt() }
  }

  /// Tells the host of a packet device what the block is: interrupt reason and byte count (ATA8-ACS, 7.18.5).
  func markPhase(count: Int) {
    guard let transfer = state.transfer, transfer.isPacket else { return }
    switch (transfer.content, transfer.direction) {
    case (.parameters, _): state.registers.count = 1
    case (_, .toHost): state.registers.count = 2
    case (_, .toDrive): state.registers.count = 0
    }
    if transfer.content != .parameters { state.registers.byteCount = UInt16(truncatingIfNeeded: count) }
  }

  /// The host reads the data register, `width` bytes: 2 or 4.
  func readData(width: Int) -> UInt64 {
    var value: UInt64 = 0
    for shift in stride(from: 0, to: 8 * width, by: 16) { value |= UInt64(readWord()) << UInt64(shift) }
    return value
  }

  private func readWord() -> UInt16 {
    guard state.transfer?.direction == .toHost, state.position < state.blockEnd else { return 0 }
    let word: UInt16
    if state.position + 1 < state.blockEnd {
      word = buffer.bytes.loadUnaligned(fromByteOffset: state.position, as: UInt16.self)
    } else {
      word = UInt16(buffer.bytes[state.position])
    }
    state.position = min(state.position + 2, state.blockEnd)
    if state.position == state.blockEnd { endReadBlock() }
    return word
  }

  private func endReadBlock() {
    guard let transfer = state.transfer else { return }
    guard state.position == buffer.bytes.count else { return openBlock(interrupts: true) }
    state.moved += UInt64(buffer.bytes.count)
    guard state.moved >= transfer.count, let drive else { return fillBuffer() }
    // A packet command ends with an interrupt of its own, others with the last block's.
    go(drive.finish(transfer), interrupts: transfer.isPacket)
  }

  /// The host writes the data register, `width` bytes: 2 or 4.
  func writeData(_ value: UInt64, width: Int) {
    for shift in stride(from: 0, to: 8 * width, by: 16) {
      writeWord(UInt16(truncatingIfNeeded: value >> UInt64(shift)))
    }
  }

  private func writeWord(_ word: UInt16) {
    guard state.transfer?.direction == .toDrive, state.position < state.blockEnd else { return }
    if state.position + 1 < state.blockEnd {
      buffer.bytes.storeBytes(of: word, toByteOffset: state.position, as: UInt16.self)
    } else {
      buffer.bytes[state.position] = UInt8(truncatingIfNeeded: word)
    }
    state.position = min(state.position + 2, state.blockEnd)
    if state.position == state.blockEnd { endWriteBlock() }
  }

  private func endWriteBlock() {
    guard let transfer = state.transfer else { return }
    guard state.position == buffer.bytes.count else { return openBlock(interrupts: true) }
    state.status = .busy
    if transfer.content == .parameters {
      if let drive { go(drive.accept(buffer.contents, for: transfer)) }
      return
    }
    moveBuffer(transfer) { [self] in
      state.moved += UInt64(buffer.bytes.count)
      guard state.moved >= transfer.count, let drive else { return emptyBuffer(isFirst: false) }
      go(drive.finish(transfer))
    }
  }

  // MARK: Data through the bus master

  /// The transfer that waits for the bus master.
  var awaitsDMA: ATATransfer? {
    guard let transfer = state.transfer, transfer.method == .dma, state.status.contains(.dataRequest), inFlight == 0
    else { return nil }
    return transfer
  }

  /// Moves all of the waiting transfer. `ended` is called when the bus master has no more to do, before the drive's
  /// interrupt; it gets false where the memory is none. Not called after a reset.
  func moveByDMA(_ segments: GuestSegments, platform: DevicePlatform, ended: @escaping (_ isMemory: Bool) -> Void) {
    guard let transfer = awaitsDMA, let drive else { return }
    func conclude(_ step: ATAStep?) {
      ended(step != nil)
      go(step ?? .done(.failure(.aborted, transfer.registers)))
    }
    switch transfer.content {
    case .bytes(let bytes): conclude(segments.write(bytes, to: platform.memory) ? drive.finish(transfer) : nil)
    case .parameters: conclude(segments.read(from: platform.memory).map { drive.accept($0, for: transfer) })
    case .medium:
      wait { resume in
        drive.move(transfer, position: 0, count: transfer.count, memory: segments.memory) { result in
          resume {
            switch result {
            case .moved: conclude(drive.finish(transfer))
            case .badMemory: conclude(nil)
            case .failed(let outcome): conclude(.done(outcome))
            }
          }
        }
      }
    }
  }
}
