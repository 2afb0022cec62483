import CHost
import Machine
import Memory
import X86

/// What the person who looks for the bug gets to read.
extension LockstepEngine {
  /// Most instructions that a report shows.
  private static let shownInstructions = 32

  func report(
    _ cpu: UnsafeMutablePointer<CPUState>, _ size: UInt64, _ firstExit: VMExit, _ secondExit: VMExit
  ) -> String {
    let count = cpu.pointee.instructionCount
    var lines = ["\(names.0) and \(names.1) differ after \(count) instructions, in a window of \(size) at most"]
    if firstExit != secondExit { lines.append("  exit: \(firstExit) with \(names.0), \(secondExit) with \(names.1)") }
    lines += stateLines(cpu, twin.state)
    let end = CodeAddress(cpu.pointee)
    lines.append("  \(names.0) is at \(end), \(names.1) at \(CodeAddress(twin.state.pointee))")
    if let memory = MemoryComparison(memory, twin.memory).difference { lines.append(line(of: memory)) }
    let reader = CodeReader(memory: memory, state: UnsafePointer(cpu))
    if !tail.isEmpty { lines.append("  the window's last instructions:") }
    lines += tail.map { "    " + reader.line(at: $0) }
    return (lines + replay(cpu, size)).joined(separator: "\n")
  }

  func memoryReport(_ difference: MemoryComparison.Difference) -> String {
    """
    \(names.0) and \(names.1) differ in memory, written within the last comparison's distance
    \(line(of: difference))
      near \(statistics.instructions) instructions, at \(CodeAddress(twin.state.pointee))
    """
  }

  private func line(of difference: MemoryComparison.Difference) -> String {
    "  memory at 0x\(hex(difference.address.rawValue, 8)): \(hex(difference.first)) with \(names.0), "
      + "\(hex(difference.second)) with \(names.1)"
  }

  private func stateLines(_ first: UnsafeRawPointer, _ second: UnsafeRawPointer) -> [String] {
    StateLayout.differences(first, second).map { field in
      let (ours, theirs) = (Self.text(first, field), Self.text(second, field))
      return "  \(field.name): \(ours) with \(names.0), \(theirs) with \(names.1)"
    }
  }

  private static func text(_ state: UnsafeRawPointer, _ field: StateLayout.Field) -> String {
    let bytes = field.range.reversed().map { hex(UInt64(state.load(fromByteOffset: $0, as: UInt8.self)), 2) }.joined()
    guard field.name == "rflags" else { return bytes }
    let flags = state.load(fromByteOffset: field.range.lowerBound, as: UInt64.self)
    return "\(hex(flags, 8)) [\(RFLAGS.text(flags))]"
  }

  // MARK: Once more, slowly

  /// Runs the window again from its beginning, by ever more instructions, to find the first that brings a difference.
  ///
  /// Registers and the stack's pages are as they were; other memory is as the window left it, and so are the engines'
  /// blocks. That is not the same run, but mostly close enough: what does not show again is reported as such. Nothing
  /// runs afterwards.
  private func replay(_ cpu: UnsafeMutablePointer<CPUState>, _ size: UInt64) -> [String] {
    let reader = CodeReader(memory: memory, state: UnsafePointer(cpu))
    let (path, states) = step(cpu, size)
    defer { for state in states { state.deallocate() } }
    var last = path.count
    var found: [String] = []
    for count in 1...max(1, states.count) where count <= states.count {
      restore(twin.state)
      guard let exit = try? second.run(&twin.state.pointee, budget: UInt64(count)), exit == .budgetSpent else { break }
      let state = states[count - 1].assumingMemoryBound(to: CPUState.self)
      if StateLayout.areEqual(state, twin.state) { continue }
      let flags = state.pointee.rflags ^ twin.state.pointee.rflags
      if flags & ~RFLAGS.arithmetic == 0, StateLayout.areEqualButForFlags(state, twin.state),
        UndefinedFlags.verdict(on: flags, behind: Array(path.prefix(count)), reader) != .defined
      {
        continue
      }
      last = count
      found = ["  again from the window's beginning, the first difference is behind instruction \(count):"]
      found += stateLines(state, twin.state).map { "  " + $0 }
      break
    }
    if found.isEmpty { found.append("  again from the window's beginning, by single instructions, none shows") }
    let shown = path.prefix(last).suffix(Self.shownInstructions)
    found.append("  the instructions up to there:")
    return found + shown.map { "    " + reader.line(at: $0) }
  }

  /// Where the first engine passes, and its states behind each instruction.
  private func step(
    _ cpu: UnsafeMutablePointer<CPUState>, _ size: UInt64
  ) -> (path: [CodeAddress], states: [UnsafeMutableRawPointer]) {
    var path: [CodeAddress] = []
    var states: [UnsafeMutableRawPointer] = []
    restore(cpu)
    for _ in 0..<size {
      path.append(CodeAddress(cpu.pointee))
      guard let exit = try? first.run(&cpu.pointee, budget: 1), exit == .budgetSpent else { break }
      let state = UnsafeMutableRawPointer.allocate(byteCount: MemoryLayout<CPUState>.size, alignment: 64)
      StateLayout.copy(from: cpu, to: state)
      states.append(state)
    }
    return (path, states)
  }

  /// The state at the window's beginning. Engines drop what they derived from another only where that was another mode
  /// or address space: what they have translated is to be seen at work.
  private func restore(_ cpu: UnsafeMutablePointer<CPUState>) {
    let saved = start.assumingMemoryBound(to: CPUState.self)
    let isOther =
      cpu.pointee.cr0 != saved.pointee.cr0 || cpu.pointee.cr3 != saved.pointee.cr3
      || cpu.pointee.cr4 != saved.pointee.cr4 || cpu.pointee.efer != saved.pointee.efer
      || cpu.pointee.cpl != saved.pointee.cpl
    StateLayout.copy(from: start, to: cpu)
    stack.restore(to: cpu == twin.state ? twin.memory : memory)
    guard isOther else { return }
    (cpu == twin.state ? second : first).stateChanged(&cpu.pointee)
  }
}
