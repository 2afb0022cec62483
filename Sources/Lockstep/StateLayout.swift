import CHost
import Glibc

/// The parts of a `CPUState`: what is copied and compared, and what it is called.
enum StateLayout {
  /// All that is the architecture's.
  static let size = MemoryLayout<CPUState>.offset(of: \CPUState.engine)!
  private static let flags = MemoryLayout<CPUState>.offset(of: \CPUState.rflags)!

  static func copy(from source: UnsafeRawPointer, to target: UnsafeMutableRawPointer) { memcpy(target, source, size) }

  static func areEqual(_ first: UnsafeMutablePointer<CPUState>, _ second: UnsafeMutablePointer<CPUState>) -> Bool {
    // Scratch space of whoever runs.
    first.pointee.temporary = (0, 0)
    second.pointee.temporary = (0, 0)
    return memcmp(first, second, size) == 0
  }

  static func areEqualButForFlags(_ first: UnsafeRawPointer, _ second: UnsafeRawPointer) -> Bool {
    memcmp(first, second, flags) == 0 && memcmp(first + flags + 8, second + flags + 8, size - flags - 8) == 0
  }

  /// A part with a name.
  struct Field {
    let name: String
    let range: Range<Int>
  }

  /// Parts that differ, with 64 bits of both values at most; what has no name goes by its offset.
  static func differences(_ first: UnsafeRawPointer, _ second: UnsafeRawPointer) -> [Field] {
    var found: [Field] = []
    var position = 0
    for field in fields + [Field(name: "", range: size..<size)] {
      // Between two named parts.
      while position < field.range.lowerBound {
        let range = position..<min(position + 8, field.range.lowerBound)
        if memcmp(first + range.lowerBound, second + range.lowerBound, range.count) != 0 {
          found.append(Field(name: "state+\(position)", range: range))
        }
        position = range.upperBound
      }
      if memcmp(first + field.range.lowerBound, second + field.range.lowerBound, field.range.count) != 0 {
        found.append(field)
      }
      position = field.range.upperBound
    }
    return found
  }

  /// In the order of their places.
  private static let fields: [Field] = {
    var fields: [Field] = []
    func add(_ names: [String], _ offset: Int?, _ size: Int, stride: Int? = nil) {
      guard let offset else { return }
      for (index, name) in names.enumerated() {
        let start = offset + index * (stride ?? size)
        fields.append(Field(name: name, range: start..<start + size))
      }
    }
    typealias Layout = MemoryLayout<CPUState>
    let names = ["rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi"] + (8..<16).map { "r\($0)" }
    add(names, Layout.offset(of: \.gpr), 8)
    add(["rip"], Layout.offset(of: \.rip), 8)
    for (index, name) in ["es", "cs", "ss", "ds", "fs", "gs"].enumerated() {
      let start = Layout.offset(of: \.segments).map { $0 + 16 * index }
      add(["\(name).base"], start, 8)
      add(["\(name).limit"], start.map { $0 + 8 }, 4)
      add(["\(name)", "\(name).attributes"], start.map { $0 + 12 }, 2)
    }
    add(["temporary"], Layout.offset(of: \.temporary), 16)
    add(["rflags"], Layout.offset(of: \.rflags), 8)
    add(["cr0", "cr2", "cr3", "cr4", "cr8"], Layout.offset(of: \.cr0), 8)
    add(["efer", "xcr0"], Layout.offset(of: \.efer), 8)
    add(["dr0", "dr1", "dr2", "dr3", "dr6", "dr7"], Layout.offset(of: \.dr), 8)
    add(["star", "lstar", "cstar", "fmask", "kernel gs.base"], Layout.offset(of: \.star), 8)
    add(["tsc offset"], Layout.offset(of: \.tscOffset), 8)
    add(["pkru"], Layout.offset(of: \.pkru), 4)
    add(
      [
        "cpl", "activity", "interrupt shadow", "NMI blocked", "NMI pending", "interrupt pending", "interrupt vector",
        "interrupt window wanted",
      ], Layout.offset(of: \.cpl), 1)
    add(["pending debug trap"], Layout.offset(of: \.pendingDebug), 4)
    add(["instruction count"], Layout.offset(of: \.instructionCount), 8)
    add(["x87 instruction pointer", "x87 data pointer"], Layout.offset(of: \.fpuInstructionPointer), 8)
    add(["x87 opcode", "x87 code segment", "x87 data segment"], Layout.offset(of: \.fpuOpcode), 2)
    let xsave = Layout.offset(of: \.xsave)
    add(["x87 control", "x87 status"], xsave, 2)
    add(["x87 tag"], xsave.map { $0 + 4 }, 1)
    add(["mxcsr"], xsave.map { $0 + 24 }, 4)
    add((0..<8).map { "st\($0)" }, xsave.map { $0 + 32 }, 10, stride: 16)
    add((0..<16).map { "xmm\($0)" }, xsave.map { $0 + 160 }, 16)
    add(["xstate_bv", "xcomp_bv"], xsave.map { $0 + 512 }, 8)
    add((0..<16).map { "ymm\($0) high" }, xsave.map { $0 + 576 }, 16)
    return fields
  }()
}
