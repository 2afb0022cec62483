import Machine

/// Commands for the controller itself (NVMe 1.4, 5).
extension NVMeController {
  private enum Feature {
    static let writeCache: UInt8 = 0x06
    static let queueCount: UInt8 = 0x07
    /// Arbitration, power, temperature, error recovery, coalescing, vectors, atomicity, events.
    static let remembered: Set<UInt8> = [0x01, 0x02, 0x04, 0x05, 0x08, 0x09, 0x0a, 0x0b]
  }

  private static let entryLimit: UInt32 = 1024

  func administrate(_ command: NVMeCommand) {
    guard !command.isUnsupportedKind else { return complete(command, queue: 0, .invalidField) }
    switch command.opcode {
    case NVMeCommand.Admin.createCompletionQueue: complete(command, queue: 0, createCompletionQueue(command))
    case NVMeCommand.Admin.createSubmissionQueue: complete(command, queue: 0, createSubmissionQueue(command))
    case NVMeCommand.Admin.deleteCompletionQueue: complete(command, queue: 0, deleteCompletionQueue(command))
    case NVMeCommand.Admin.deleteSubmissionQueue: complete(command, queue: 0, deleteSubmissionQueue(command))
    case NVMeCommand.Admin.identify: identify(command)
    case NVMeCommand.Admin.getLogPage: getLogPage(command)
    case NVMeCommand.Admin.setFeatures: setFeature(command)
    case NVMeCommand.Admin.getFeatures: getFeature(command)
    // Bit 0: it was not aborted. The disk cannot take anything back.
    case NVMeCommand.Admin.abort: complete(command, queue: 0, .success, result: 1)
    case NVMeCommand.Admin.asynchronousEventRequest:
      guard state.eventRequests.count < NVMeIdentity.eventRequestLimit else {
        return complete(command, queue: 0, .tooManyEventRequests)
      }
      // It waits for as long as nothing happens, and takes up no room meanwhile.
      state.eventRequests.append(command.identifier)
      state.submissionQueues[0]?.inFlight -= 1
    default: complete(command, queue: 0, .invalidOpcode)
    }
  }

  // MARK: Queues

  private func createCompletionQueue(_ command: NVMeCommand) -> NVMeStatus {
    let number = Int(command.word(10) & 0xffff)
    let size = command.word(10) >> 16 + 1
    let vector = Int(command.word(11) >> 16)
    guard (1...queueLimit).contains(number), state.completionQueues[number] == nil else {
      return .invalidQueueIdentifier
    }
    guard size >= 2, size <= Self.entryLimit else { return .invalidQueueSize }
    guard vector <= queueLimit else { return .invalidVector }
    guard command.word(11) & 1 != 0, command.page1 % NVMeTransfer.pageSize == 0 else { return .invalidField }
    state.completionQueues[number] = NVMeCompletionQueue(
      base: command.page1, size: size, vector: command.word(11) & 2 != 0 ? vector : nil)
    return .success
  }

  private func createSubmissionQueue(_ command: NVMeCommand) -> NVMeStatus {
    let number = Int(command.word(10) & 0xffff)
    let size = command.word(10) >> 16 + 1
    let answers = Int(command.word(11) >> 16)
    guard (1...queueLimit).contains(number), state.submissionQueues[number] == nil else {
      return .invalidQueueIdentifier
    }
    guard answers > 0, state.completionQueues[answers] != nil else { return .invalidCompletionQueue }
    guard size >= 2, size <= Self.entryLimit else { return .invalidQueueSize }
    guard command.word(11) & 1 != 0, command.page1 % NVMeTransfer.pageSize == 0 else { return .invalidField }
    state.submissionQueues[number] = NVMeSubmissionQueue(
      base: command.page1, size: size, completionQueue: answers, birth: nextBirth())
    return .success
  }

  private func deleteCompletionQueue(_ command: NVMeCommand) -> NVMeStatus {
    let number = Int(command.word(10) & 0xffff)
    guard number > 0, state.completionQueues[number] != nil else { return .invalidQueueIdentifier }
    guard !state.submissionQueues.values.contains(where: { $0.completionQueue == number }) else {
      return .invalidQueueDeletion
    }
    state.completionQueues[number] = nil
    driveInterrupt()
    return .success
  }

  private func deleteSubmissionQueue(_ command: NVMeCommand) -> NVMeStatus {
    let number = Int(command.word(10) & 0xffff)
    guard number > 0, state.submissionQueues[number] != nil else { return .invalidQueueIdentifier }
    state.submissionQueues[number] = nil
    return .success
  }

  // MARK: Identities and logs

  private func identify(_ command: NVMeCommand) {
    let number = command.namespace
    switch command.word(10) & 0xff {
    case 0: number == 1 ? give(identity.namespace, command) : complete(command, queue: 0, .invalidNamespace)
    case 1: give(identity.controller, command)
    case 2:
      number < 0xffff_fffe
        ? give(identity.namespaces(above: number), command) : complete(command, queue: 0, .invalidNamespace)
    case 3: number == 1 ? give(identity.descriptors, command) : complete(command, queue: 0, .invalidNamespace)
    default: complete(command, queue: 0, .invalidField)
    }
  }

  private func getLogPage(_ command: NVMeCommand) {
    guard let page = identity.log(UInt8(truncatingIfNeeded: command.word(10))) else {
      return complete(command, queue: 0, .invalidLogPage)
    }
    let count = ((UInt64(command.word(11) & 0xffff) << 16 | UInt64(command.word(10) >> 16)) + 1) * 4
    let offset = UInt64(command.word(13)) << 32 | UInt64(command.word(12))
    guard offset % 4 == 0, offset < UInt64(page.count) else { return complete(command, queue: 0, .invalidField) }
    give(Array(page[Int(offset)...].prefix(Int(min(count, UInt64(page.count))))), command)
  }

  /// Puts bytes where the command wants them, and answers.
  private func give(_ bytes: [UInt8], _ command: NVMeCommand) {
    guard let memory = platform?.memory else { return }
    do throws(NVMeTransfer.Failure) {
      let transfer = try NVMeTransfer(
        page1: command.page1, page2: command.page2, count: UInt64(bytes.count), memory: memory)
      transfer.write(bytes, memory: memory)
      complete(command, queue: 0, .success)
    } catch {
      complete(command, queue: 0, error.status)
    }
  }

  // MARK: Features

  private func setFeature(_ command: NVMeCommand) {
    let feature = UInt8(truncatingIfNeeded: command.word(10))
    switch feature {
    // They cannot be saved.
    case _ where command.word(10) & 1 << 31 != 0: complete(command, queue: 0, .invalidField)
    case Feature.writeCache:
      state.hasWriteCache = command.word(11) & 1 != 0
      complete(command, queue: 0, .success)
    case Feature.queueCount: complete(command, queue: 0, .success, result: queueCounts)
    case _ where Feature.remembered.contains(feature):
      state.features[feature] = command.word(11)
      complete(command, queue: 0, .success)
    default: complete(command, queue: 0, .invalidField)
    }
  }

  private func getFeature(_ command: NVMeCommand) {
    let feature = UInt8(truncatingIfNeeded: command.word(10))
    switch feature {
    case Feature.writeCache: complete(command, queue: 0, .success, result: state.hasWriteCache ? 1 : 0)
    case Feature.queueCount: complete(command, queue: 0, .success, result: queueCounts)
    case _ where Feature.remembered.contains(feature):
      complete(command, queue: 0, .success, result: state.features[feature] ?? 0)
    default: complete(command, queue: 0, .invalidField)
    }
  }

  /// Numbers of submission and completion queues, less one each.
  private var queueCounts: UInt32 { UInt32(queueLimit - 1) << 16 | UInt32(queueLimit - 1) }
}
