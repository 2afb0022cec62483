import Machine

/// Commands for the disk (NVMe 1.4, 6).
extension NVMeController {
  private static let forceUnitAccess: UInt32 = 1 << 30
  private static let deallocate: UInt32 = 1 << 25
  private static let allNamespaces: UInt32 = 0xffff_ffff
  private static let rangeSize: UInt64 = 16

  func access(_ command: NVMeCommand, queue: Int) {
    guard !command.isUnsupportedKind else { return complete(command, queue: queue, .invalidField) }
    guard
      command.namespace == 1 || (command.opcode == NVMeCommand.Disk.flush && command.namespace == Self.allNamespaces)
    else { return complete(command, queue: queue, .invalidNamespace) }
    switch command.opcode {
    case NVMeCommand.Disk.flush: submit([BlockRequest(.flush)], command, queue)
    case NVMeCommand.Disk.read: transfer(.read, command, queue)
    case NVMeCommand.Disk.write: transfer(.write, command, queue)
    case NVMeCommand.Disk.writeZeroes:
      guard let range = range(command) else { return complete(command, queue: queue, .outOfRange) }
      submit(
        written(
          [
            BlockRequest(
              .writeZeroes(mayUnmap: command.word(12) & Self.deallocate != 0), offset: range.lowerBound,
              count: range.upperBound - range.lowerBound)
          ], command), command, queue)
    case NVMeCommand.Disk.datasetManagement: manage(command, queue)
    default: complete(command, queue: queue, .invalidOpcode)
    }
  }

  /// The bytes of a command's blocks; nil: not all of them are on the disk.
  private func range(_ command: NVMeCommand) -> Range<UInt64>? {
    range(first: command.firstBlock, count: command.blockCount)
  }

  private func range(first: UInt64, count: UInt64) -> Range<UInt64>? {
    let total = identity.blockCount
    guard first <= total, count <= total - first else { return nil }
    return first * Self.blockSize..<(first + count) * Self.blockSize
  }

  private func transfer(_ operation: BlockRequest.Operation, _ command: NVMeCommand, _ queue: Int) {
    guard let memory = platform?.memory else { return }
    guard let range = range(command) else { return complete(command, queue: queue, .outOfRange) }
    let count = range.upperBound - range.lowerBound
    guard count <= NVMeTransfer.pageSize << UInt64(NVMeIdentity.transferExponent) else {
      return complete(command, queue: queue, .invalidField)
    }
    do throws(NVMeTransfer.Failure) {
      let pages = try NVMeTransfer(page1: command.page1, page2: command.page2, count: count, memory: memory)
      let request = BlockRequest(operation, offset: range.lowerBound, count: count, memory: pages.blockMemory)
      submit(operation == .write ? written([request], command) : [request], command, queue)
    } catch {
      complete(command, queue: queue, error.status)
    }
  }

  /// A write that is to be on stable storage is followed by a flush.
  private func written(_ requests: [BlockRequest], _ command: NVMeCommand) -> [BlockRequest] {
    let isThrough = !state.hasWriteCache || command.word(12) & Self.forceUnitAccess != 0
    return isThrough ? requests + [BlockRequest(.flush)] : requests
  }

  /// A list of ranges whose contents matter no more, if the command says that; other hints are heard and forgotten (6.7).
  private func manage(_ command: NVMeCommand, _ queue: Int) {
    guard let memory = platform?.memory else { return }
    guard command.word(11) & 4 != 0 else { return complete(command, queue: queue, .success) }
    let count = UInt64(command.word(10) & 0xff) + 1
    do throws(NVMeTransfer.Failure) {
      let list = try NVMeTransfer(
        page1: command.page1, page2: command.page2, count: count * Self.rangeSize, memory: memory
      ).read(memory: memory)
      var requests: [BlockRequest] = []
      for start in stride(from: 0, to: list.count, by: Int(Self.rangeSize)) {
        let blocks = list.littleEndian(at: start + 4, size: 4)
        guard let range = range(first: list.littleEndian(at: start + 8, size: 8), count: blocks) else {
          return complete(command, queue: queue, .outOfRange)
        }
        if !range.isEmpty {
          requests.append(
            BlockRequest(.discard, offset: range.lowerBound, count: range.upperBound - range.lowerBound))
        }
      }
      submit(requests, command, queue)
    } catch {
      complete(command, queue: queue, error.status)
    }
  }

  // MARK: The disk's answers

  /// Gives the disk its part of the work, one after the other, and the driver its answer.
  private func submit(_ requests: [BlockRequest], _ command: NVMeCommand, _ queue: Int) {
    guard let birth = state.submissionQueues[queue]?.birth else { return }
    beginOperation()
    next(requests[...], command, queue, birth)
  }

  private func next(_ requests: ArraySlice<BlockRequest>, _ command: NVMeCommand, _ queue: Int, _ birth: UInt64) {
    guard let request = requests.first else { return finish(command, queue, .success, birth) }
    disk.submit(request) { [self] result in
      guard result == .success else {
        return finish(command, queue, status(result, request.operation), birth)
      }
      next(requests.dropFirst(), command, queue, birth)
    }
  }

  private func finish(_ command: NVMeCommand, _ queue: Int, _ status: NVMeStatus, _ birth: UInt64) {
    endOperation()
    // The queue may have gone meanwhile, and another have come.
    guard state.submissionQueues[queue]?.birth == birth else { return }
    complete(command, queue: queue, status)
    // There is room for another.
    takeCommands(queue)
  }

  private func status(_ result: BlockResult, _ operation: BlockRequest.Operation) -> NVMeStatus {
    switch result {
    case .success: .success
    case .outOfRange: .outOfRange
    case .badMemory: .dataTransferError
    case .readOnly: .readOnly
    case .noSpace: .capacityExceeded
    case .failed: operation == .read ? .unrecoveredReadError : .writeFault
    }
  }
}
