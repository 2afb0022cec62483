import CHost
import CZydis
import Host

/// A block's guest code beside its translation, as text: guest instructions on the left, what each became on the right,
/// then the code that runs rarely. Exit records, which are data between code, are named.
struct CodeListing {
  /// Something begins at a position in the code memory.
  struct Mark {
    var position: Int
    var content: Content

    enum Content {
      /// The translation of an instruction of the block.
      case instruction(Int)
      /// Nothing: the interpreter runs this instruction of the block.
      case interpreted(Int)
      /// Refills, exits and entries.
      case cold
      /// The exit record of an operation.
      case record(Int)
    }
  }

  private let translation: BlockTranslation
  /// Linear address of the block.
  private let start: UInt64
  private let formatter: UnsafeMutablePointer<ZydisFormatter>
  private let decoder: UnsafeMutablePointer<ZydisDecoder>

  private static let guestWidth = 64

  private init(
    _ translation: BlockTranslation, start: UInt64, _ formatter: UnsafeMutablePointer<ZydisFormatter>,
    _ decoder: UnsafeMutablePointer<ZydisDecoder>
  ) {
    self.translation = translation
    self.start = start
    self.formatter = formatter
    self.decoder = decoder
  }

  /// The listing of a translation that was just made, of a block that starts at a linear address.
  static func text(_ translation: BlockTranslation, start: UInt64) -> String {
    let formatter = UnsafeMutablePointer<ZydisFormatter>.allocate(capacity: 1)
    let decoder = UnsafeMutablePointer<ZydisDecoder>.allocate(capacity: 1)
    defer {
      formatter.deallocate()
      decoder.deallocate()
    }
    guard ZydisFormatterInit(formatter, ZYDIS_FORMATTER_STYLE_INTEL) & 0x8000_0000 == 0,
      ZydisDecoderInit(decoder, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64) & 0x8000_0000 == 0
    else { return "" }
    return CodeListing(translation, start: start, formatter, decoder).text
  }

  private var text: String {
    let block = translation.block.pointee
    let coldStart = translation.translator.coldUsed
    let size = translation.hotEnd - translation.entry + translation.code.position - coldStart
    let mode =
      "\(translation.codeBits)-bit\(translation.isFlat ? "" : " with segments"), "
      + (translation.slotSet == 0 ? "CPL 0" : "CPL above 0")
    var lines = [
      "guest block at 0x\(hexadecimal(start)), physical 0x\(hexadecimal(block.physicalAddress)), \(mode): "
        + "\(block.instructionCount) instructions in \(block.byteCount) bytes; \(size) bytes of host code"
    ]
    var isFirstCold = true
    append(translation.entry, translation.marks.first?.position ?? translation.entry, "(entry)", to: &lines)
    for (number, mark) in translation.marks.enumerated() {
      let next = translation.marks.indices.contains(number + 1) ? translation.marks[number + 1].position : nil
      let isLastHot = mark.position <= translation.hotEnd && (next ?? 0) >= coldStart
      let end = isLastHot ? translation.hotEnd : next ?? translation.code.position
      switch mark.content {
      case .instruction(let index): append(mark.position, end, guest(index), to: &lines)
      case .interpreted(let index): lines.append(padded(guest(index)) + "(the interpreter's)")
      case .cold:
        append(mark.position, end, isFirstCold ? "(what runs rarely)" : "", to: &lines)
        isFirstCold = false
      case .record(let index):
        lines.append(padded("") + "\(host(mark.position))  (exit record: instruction \(index))")
      }
    }
    return lines.joined(separator: "\n") + "\n\n"
  }

  /// Host code between two positions, its first line beside `label`.
  private func append(_ first: Int, _ end: Int, _ label: String, to lines: inout [String]) {
    var label = label
    var position = first
    while position < end {
      let code = (translation.translator.memory.writable + position).assumingMemoryBound(to: UInt8.self)
      var instruction = ZydisDecodedInstruction()
      var text = "(\(code.pointee))"
      var length = 1
      withUnsafeTemporaryAllocation(of: ZydisDecodedOperand.self, capacity: Translator.operandCapacity) { operands in
        guard let operands = operands.baseAddress,
          ZydisDecoderDecodeFull(decoder, code, ZyanUSize(end - position), &instruction, operands) & 0x8000_0000 == 0
        else { return }
        length = Int(instruction.length)
        text = format(&instruction, operands, at: address(position))
      }
      position += length
      // What fills up to an aligned place.
      if text == "int3" { continue }
      lines.append(padded(label) + host(position - length) + "  " + text)
      label = ""
    }
    if !label.isEmpty { lines.append(label) }
  }

  /// An instruction of the block.
  private func guest(_ index: Int) -> String {
    let address = start &+ UInt64(translation.operations[index].offset)
    let text =
      index < translation.decodedCount
      ? format(translation.decoded(index), translation.decodedOperands(index), at: address) : "(not decoded)"
    return hexadecimal(address) + "  " + text
  }

  private func format(
    _ instruction: UnsafePointer<ZydisDecodedInstruction>, _ operands: UnsafePointer<ZydisDecodedOperand>,
    at address: UInt64
  ) -> String {
    withUnsafeTemporaryAllocation(of: CChar.self, capacity: 256) { buffer in
      guard let text = buffer.baseAddress else { return "" }
      let status = ZydisFormatterFormatInstruction(
        formatter, instruction, operands, instruction.pointee.operand_count_visible, text, 256, address, nil)
      return status & 0x8000_0000 == 0 ? String(cString: text) : ""
    }
  }

  private func padded(_ text: String) -> String {
    text + String(repeating: " ", count: max(2, Self.guestWidth - text.count))
  }

  private func address(_ position: Int) -> UInt64 {
    UInt64(UInt(bitPattern: translation.translator.address(of: position)))
  }

  private func host(_ position: Int) -> String { hexadecimal(address(position)) }
  private func hexadecimal(_ value: UInt64) -> String { String(value, radix: 16) }
}

extension SoftwareProcessor {
  /// Linear address of the block that is running.
  private var blockStart: UInt64 { codeAddress(cpu.pointee.rip) }

  /// Whether somebody asked to see the running block's translation.
  func isListed(_ block: UnsafeMutablePointer<CodeBlock>) -> Bool {
    guard let request = translator?.options.listing else { return false }
    return request.address &- blockStart < UInt64(block.pointee.byteCount)
  }

  /// Tells those who want to know of the translation of the running block.
  func tell(_ translation: BlockTranslation) {
    guard let translator else { return }
    if translation.isListed, let request = translator.options.listing {
      request.print(CodeListing.text(translation, start: blockStart))
    }
    guard let symbols = translator.options.symbols else { return }
    let level = translation.slotSet == 0 ? "kernel" : "user"
    symbols.add(
      translator.address(of: translation.entry), size: translation.hotEnd - translation.entry,
      name: "guest-\(level):\(String(blockStart, radix: 16))")
  }
}

extension Translator {
  /// Names the common routines.
  func nameGlue() {
    guard let symbols = options.symbols else { return }
    var routines = [
      ("put-vectors", glue.putVectors), ("bring-vectors", glue.bringVectors), ("leave", glue.leave),
      ("enter-supervisor", glue.enter[0]), ("enter-user", glue.enter[1]),
      ("enter-segmented-supervisor", glue.enterSegmented[0]), ("enter-segmented-user", glue.enterSegmented[1]),
      ("load-vectors", glue.loadVectors), ("interrupt-return-32", glue.interruptReturn32),
      ("interrupt-return-64", glue.interruptReturn64),
      ("enter-block", glue.enterBlock), ("budget", glue.budget),
    ]
    for set in 0..<2 {
      let level = set == 0 ? "supervisor" : "user"
      routines.append(("refill-read-\(level)", glue.refillRead[set]))
      routines.append(("refill-write-\(level)", glue.refillWrite[set]))
      routines.append(("refill-promised-\(level)", glue.refillPromised[set]))
    }
    routines.sort { $0.1 < $1.1 }
    for (index, routine) in routines.enumerated() {
      let end = index + 1 < routines.count ? routines[index + 1].1 : used
      symbols.add(address(of: routine.1), size: end - routine.1, name: "ringside:\(routine.0)")
    }
  }
}
