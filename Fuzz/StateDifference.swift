import CHost
import Memory
import X86

/// What differs between two guests that should be the same.
enum StateDifference {
  private static let names: [(String, Int, Int)] = {
    func place<T>(_ name: String, _ path: PartialKeyPath<CPUState>, _: T.Type) -> (String, Int, Int) {
      (name, MemoryLayout<CPUState>.offset(of: path)!, MemoryLayout<T>.size)
    }
    var names = ["rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi"].enumerated().map { ($1, 8 * $0, 8) }
    names += (8..<16).map { ("r\($0)", 8 * $0, 8) }
    names.append(place("rip", \.rip, UInt64.self))
    let segments = MemoryLayout<CPUState>.offset(of: \CPUState.segments)!
    names += ["es", "cs", "ss", "ds", "fs", "gs"].enumerated().map { ($1, segments + 16 * $0, 16) }
    names.append(place("rflags", \.rflags, UInt64.self))
    names.append(place("cr0", \.cr0, UInt64.self))
    names.append(place("cr2", \.cr2, UInt64.self))
    names.append(place("cr3", \.cr3, UInt64.self))
    names.append(place("cr4", \.cr4, UInt64.self))
    names.append(place("dr6", \.dr6, UInt64.self))
    names.append(place("dr7", \.dr7, UInt64.self))
    names.append(place("cpl", \.cpl, UInt8.self))
    names.append(place("interruptShadow", \.interruptShadow, UInt8.self))
    names.append(place("instructionCount", \.instructionCount, UInt64.self))
    let xsave = MemoryLayout<CPUState>.offset(of: \CPUState.xsave)!
    names += [("x87 control", xsave, 2), ("x87 status", xsave + 2, 2), ("MXCSR", xsave + 24, 4)]
    names += (0..<8).map { ("st\($0)", xsave + 32 + 16 * $0, 16) }
    names += (0..<16).map { ("xmm\($0)", xsave + 160 + 16 * $0, 16) }
    return names
  }()

  /// Nil if the states are alike.
  static func between(_ first: [UInt8], _ second: [UInt8]) -> String? {
    guard first != second else { return nil }
    var lines: [String] = []
    var known = Set<Int>()
    for (name, offset, size) in names {
      known.formUnion(offset..<offset + size)
      let (ours, theirs) = (first[offset..<offset + size], second[offset..<offset + size])
      if ours != theirs { lines.append("  \(name): \(text(ours)) stepwise, \(text(theirs)) at once") }
    }
    for offset in first.indices where first[offset] != second[offset] && !known.contains(offset) {
      lines.append(
        "  byte \(offset): \(text(first[offset...offset])) stepwise, \(text(second[offset...offset])) at once")
    }
    return lines.prefix(12).joined(separator: "\n")
  }

  /// Where a state is in its code, with the bytes that are there at the end.
  static func place(_ state: [UInt8], _ memory: GuestMemory) -> String {
    state.withUnsafeBytes { bytes in
      let rip = bytes.load(fromByteOffset: MemoryLayout<CPUState>.offset(of: \.rip)!, as: UInt64.self)
      let segments = bytes.baseAddress! + MemoryLayout<CPUState>.offset(of: \CPUState.segments)!
      let code = segments.load(fromByteOffset: 16, as: SegmentState.self)
      var found: [String] = []
      for index in 0..<20 {
        let byte = memory.load(GuestPhysicalAddress(code.base &+ rip &+ UInt64(index)), as: UInt8.self)
        found.append(byte.map { String($0, radix: 16) } ?? "?")
      }
      return "\(String(code.selector, radix: 16)):\(String(rip, radix: 16)) (\(found.joined(separator: " ")))"
    }
  }

  private static func text(_ bytes: ArraySlice<UInt8>) -> String {
    bytes.reversed().map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
  }

  /// The first page of RAM, below the page tables, whose contents differ.
  static func between(_ first: GuestMemory, _ second: GuestMemory) -> String? {
    for page in 0..<Int(Layout.tables >> 12) where first.dirty[page] | second.dirty[page] != 0 {
      let (ours, theirs) = (first.base + page << 12, second.base + page << 12)
      for offset in stride(from: 0, to: 4096, by: 8) {
        let (one, other) = (
          ours.load(fromByteOffset: offset, as: UInt64.self), theirs.load(fromByteOffset: offset, as: UInt64.self)
        )
        guard one != other else { continue }
        let address = String(page << 12 + offset, radix: 16)
        return "  memory at 0x\(address): \(String(one, radix: 16)) stepwise, \(String(other, radix: 16)) at once"
      }
    }
    return nil
  }
}
