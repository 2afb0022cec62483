import CHost
import CZydis
import Memory
import X86

/// Finding and making blocks.
extension SoftwareProcessor {
  /// Most instructions of one block.
  private static var longestBlock: Int { 48 }

  /// The block at CS:RIP in the current code mode, decoded if need be. Nil when fetching faults: the fault is recorded
  /// as a chain's is.
  func currentBlock() -> UnsafeMutablePointer<CodeBlock>? {
    do throws(GuestFault) {
      let block = try fetchBlock()
      if let table = cpu.pointee.engine.tlb { translations.remember(block, rip: cpu.pointee.rip, table: table) }
      return block
    } catch {
      fault = error
      cpu.pointee.engine.stopReason |= StopReason.fault
      return nil
    }
  }

  private func fetchBlock() throws(GuestFault) -> UnsafeMutablePointer<CodeBlock> {
    let mode = CodeMode(rawValue: cpu.pointee.engine.blockKey)
    let rip = cpu.pointee.rip
    let place = CodePlace(rip: rip, limit: cpu.pointee.segments.1.limit, mode)
    guard place.start <= UInt64(place.limit) else { throw .generalProtection() }
    let start = codeAddress(rip)
    let physical = try translateFetch(start)
    if let block = blocks.find(physical.rawValue, key: mode.rawValue, place) {
      if block.pointee.secondPage == ~0 { return block }
      let second = try translateFetch(codeAddress(rip &+ 4096) & ~0xfff)
      if second.rawValue == block.pointee.secondPage { return block }
    }
    return try build(start, physical, mode, place)
  }

  func codeAddress(_ rip: UInt64) -> UInt64 {
    isLongMode64 ? rip : (rip &+ cpu.pointee.segments.1.base) & 0xffff_ffff
  }

  private func build(
    _ start: UInt64, _ physical: GuestPhysicalAddress, _ mode: CodeMode, _ place: CodePlace
  ) throws(GuestFault) -> UnsafeMutablePointer<CodeBlock> {
    // Collections that grow compute with floating point: neither may the guest's MXCSR trap there, nor collect flags.
    let control = nativeMXCSR()
    nativeSetMXCSR(XSaveArea.initialMXCSR)
    defer { nativeSetMXCSR(control) }
    let longest = mode.contains(.stepping) ? 1 : Self.longestBlock
    blocks.makeRoom(for: longest + 2)
    if native.isNearlyFull || translator?.isNearlyFull == true { blocks.removeAll() }
    // Where there is a translator, an operation that is no instruction comes first and counts entries.
    let lead = translator != nil && !mode.contains(.stepping) ? 1 : 0
    if let translator, lead > 0 {
      blocks.nextOperations.initialize(to: warmUpOperation(count: translator.options.threshold))
    }
    let operations = blocks.nextOperations + lead
    let bytes = (memory.hostPage(of: physical) ?? floatingBus) + Int(physical.rawValue & 0xfff)
    let available = 4096 - Int(physical.rawValue & 0xfff)
    var offset = 0
    var count = 0
    var secondPage: UInt64?
    /// Bytes whose change makes another block.
    var byteCount = 0
    var ended = false
    while !ended, count < longest, offset < available {
      let code = UnsafePointer(bytes.assumingMemoryBound(to: UInt8.self)) + offset
      let room = place.room(at: offset)
      var failure =
        room > 0 ? decoder.decode(code, count: min(available - offset, room), mode: mode) : .truncated
      if failure == .truncated {
        if count > 0 { break }
        guard room > available else { throw .generalProtection() }
        let second = try translateFetch(linear((start | 0xfff) &+ 1))
        secondPage = second.rawValue
        failure = decodeAcross(code, available, second, limit: room, mode)
        guard failure != .truncated else { throw .generalProtection() }
      }
      var op: Operation
      if failure == nil {
        op = decoder.operands(offset: offset, number: count)
        ended = select(&op, code, mode, place, start: Int(physical.rawValue & 0xfff))
      } else {
        op = decoder.placeholder(
          failure == .tooLong ? PseudoInstructions.generalProtection : PseudoInstructions.invalidOpcode,
          offset: offset, number: count)
        ended = true
      }
      (operations + count).initialize(to: op)
      // What is no instruction may become one by a change of any of the bytes that were looked at.
      byteCount = failure == nil ? offset + Int(op.length) : min(offset + 15, available)
      offset += Int(op.length)
      count += 1
      if secondPage != nil { break }
    }
    (operations + count).initialize(to: link(to: offset, number: count, isSamePage: offset < available, mode))
    for number in 0..<count where operations[number].isDirectJump {
      operations[number].detail = UInt16(count - number - 1)
    }
    return blocks.add(
      address: physical.rawValue, key: mode.rawValue, place: place, instructionCount: count, byteCount: byteCount,
      operationCount: lead + count + 1, secondPage: secondPage)
  }

  private func warmUpOperation(count: Int) -> Operation {
    var op = decoder.placeholder(PseudoInstructions.invalidOpcode, offset: 0, number: 0)
    op.handler = TranslationHandlers.warmUp
    op.immediate = UInt64(count)
    op.length = 0
    return op
  }

  /// Decodes an instruction whose first bytes end a page, and of which `limit` bytes may be fetched.
  private func decodeAcross(
    _ code: UnsafePointer<UInt8>, _ count: Int, _ second: GuestPhysicalAddress, limit: Int, _ mode: CodeMode
  ) -> InstructionDecoder.Failure? {
    decoder.decode(joinBytes(code, count, second.rawValue), count: min(15, limit), mode: mode)
  }

  /// 15 bytes in one piece, of which `count` end a page and the others begin page `second`. They last until the next such.
  func joinBytes(_ code: UnsafePointer<UInt8>, _ count: Int, _ second: UInt64) -> UnsafePointer<UInt8> {
    let page = memory.hostPage(of: GuestPhysicalAddress(second)) ?? floatingBus
    let rest = page.assumingMemoryBound(to: UInt8.self)
    for index in 0..<15 { crossing[index] = index < count ? code[index] : rest[index - count] }
    return UnsafePointer(crossing)
  }

  /// The operation that leads from a block's end to what follows.
  private func link(to offset: Int, number: Int, isSamePage: Bool, _ mode: CodeMode) -> Operation {
    var op = decoder.placeholder(PseudoInstructions.invalidOpcode, offset: offset, number: number)
    op.handler = BranchHandlers.jumpDirect
    op.immediate = UInt64(offset)
    op.addressMask = mode.contains(.code64) ? ~0 : 0xffff_ffff
    op.length = 0
    if isSamePage { op.flags = OperationFlags.linkable.rawValue }
    return op
  }

  /// Chooses what runs the decoded instruction. True if it ends its block.
  private func select(
    _ op: inout Operation, _ code: UnsafePointer<UInt8>, _ mode: CodeMode, _ place: CodePlace, start: Int
  ) -> Bool {
    let instruction = decoder.instruction
    func refuse(_ row: UInt16) -> Bool {
      op.semantic = row
      op.handler = Chain.semanticHandler
      return true
    }
    guard model.offers(instruction) else { return refuse(PseudoInstructions.invalidOpcode) }
    if let unit = decoder.unit {
      guard unit.isEnabled(in: mode) else {
        op.detail = unit.rawValue
        return refuse(PseudoInstructions.unitDisabled)
      }
      if native.prepare(
        instruction, operands: decoder.operands, bytes: secondPageSafe(code, op), mode: mode, into: &op)
      {
        return false
      }
    }
    guard let number = InstructionTable.rowNumber(for: instruction.pointee.mnemonic, op) else {
      return refuse(PseudoInstructions.invalidOpcode)
    }
    let options = InstructionTable.rows[Int(number)].options
    if options.contains(.privileged), mode.contains(.unprivileged) {
      return refuse(PseudoInstructions.generalProtection)
    }
    op.semantic = number
    // What goes beyond CS's limit is for the semantic function to refuse.
    if op.isDirectJump, !setTarget(&op, mode, place, start) { return options.contains(.endsBlock) }
    if let handler = HandlerSelection.handler(for: instruction.pointee.mnemonic, op, mode: mode, flagRules) {
      op.handler = handler
    }
    return options.contains(.endsBlock)
  }

  /// Makes a direct branch ready to be taken without a look at its target. False if it may have to fault.
  private func setTarget(_ op: inout Operation, _ mode: CodeMode, _ place: CodePlace, _ start: Int) -> Bool {
    let mask: UInt64 = op.size == 2 ? 0xffff : mode.contains(.code64) ? ~0 : 0xffff_ffff
    // Those that count take their counter's width from the mask.
    if !Loops.counts(decoder.instruction.pointee.mnemonic) { op.addressMask = mask }
    let target = start &+ Int(truncatingIfNeeded: op.immediate)
    let isOnPage = target >= 0 && target < 4096
    guard !mode.contains(.flat) else {
      if isOnPage, op.size != 2 { op.flags |= OperationFlags.linkable.rawValue }
      return true
    }
    let rip = place.start &+ op.immediate
    if isOnPage, rip & mask == rip { op.flags |= OperationFlags.linkable.rawValue }
    return rip & mask <= UInt64(place.limit)
  }

  /// The instruction's bytes in one piece.
  private func secondPageSafe(_ code: UnsafePointer<UInt8>, _ op: Operation) -> UnsafePointer<UInt8> {
    let isWhole = Int(bitPattern: code) & 0xfff &+ Int(op.length) <= 4096
    return isWhole ? code : UnsafePointer(crossing)
  }
}

extension Operation {
  /// A relative branch.
  var isDirectJump: Bool {
    flags & OperationFlags.relative.rawValue != 0
  }
}
