import CHost
import X86

/// The x87 environment: what FNSTENV stores, and the head of what FNSAVE stores (SDM vol. 1, 8.1.10).
struct X87Environment {
  /// Layouts in memory, by operand size and mode.
  enum Format {
    case protected32, real32, protected16, real16

    /// Bytes of the environment.
    var size: Int {
      switch self {
      case .protected32, .real32: 28
      case .protected16, .real16: 14
      }
    }

    /// Bytes of each of its seven fields.
    var fieldSize: Int { size / 7 }

    var parts: OperandParts { .x87State(field: fieldSize) }
  }

  var control: UInt16 = 0x37f
  var status: UInt16 = 0
  /// Two bits for each register.
  var tags: UInt16 = 0xffff
  var instructionPointer: UInt64 = 0
  var dataPointer: UInt64 = 0
  var codeSegment: UInt16 = 0
  var dataSegment: UInt16 = 0
  /// 11 bits.
  var opcode: UInt16 = 0

  init() {}

  /// Reads an image of the given format.
  init(_ image: UnsafeRawPointer, _ format: Format) {
    func word(_ offset: Int) -> UInt16 { image.loadUnaligned(fromByteOffset: offset, as: UInt16.self) }
    func double(_ offset: Int) -> UInt32 { image.loadUnaligned(fromByteOffset: offset, as: UInt32.self) }
    let step = format.fieldSize
    control = word(0)
    status = word(step)
    tags = word(2 * step)
    switch format {
    case .protected32:
      instructionPointer = UInt64(double(12))
      codeSegment = word(16)
      opcode = word(18) & 0x7ff
      dataPointer = UInt64(double(20))
      dataSegment = word(24)
    case .real32:
      instructionPointer = UInt64(double(12) & 0xffff | (double(16) >> 12) << 16)
      opcode = UInt16(truncatingIfNeeded: double(16) & 0x7ff)
      dataPointer = UInt64(double(20) & 0xffff | (double(24) >> 12) << 16)
    case .protected16:
      instructionPointer = UInt64(word(6))
      codeSegment = word(8)
      dataPointer = UInt64(word(10))
      dataSegment = word(12)
    case .real16:
      instructionPointer = UInt64(word(6)) | UInt64(word(8) >> 12) << 16
      opcode = word(8) & 0x7ff
      dataPointer = UInt64(word(10)) | UInt64(word(12) >> 12) << 16
    }
  }

  /// Writes an image of the given format. Reserved halves of doublewords are ones, as the hardware has them.
  func write(to image: UnsafeMutableRawPointer, _ format: Format) {
    func put(_ offset: Int, _ value: UInt16) { image.storeBytes(of: value, toByteOffset: offset, as: UInt16.self) }
    func put(_ offset: Int, _ value: UInt32) { image.storeBytes(of: value, toByteOffset: offset, as: UInt32.self) }
    let linearInstruction = UInt32(truncatingIfNeeded: instructionPointer &+ UInt64(codeSegment) << 4)
    let linearData = UInt32(truncatingIfNeeded: dataPointer &+ UInt64(dataSegment) << 4)
    switch format {
    case .protected32, .real32:
      put(0, 0xffff_0000 | UInt32(control))
      put(4, 0xffff_0000 | UInt32(status))
      put(8, 0xffff_0000 | UInt32(tags))
    case .protected16, .real16:
      put(0, control)
      put(2, status)
      put(4, tags)
    }
    switch format {
    case .protected32:
      put(12, UInt32(truncatingIfNeeded: instructionPointer))
      put(16, UInt32(opcode & 0x7ff) << 16 | UInt32(codeSegment))
      put(20, UInt32(truncatingIfNeeded: dataPointer))
      put(24, 0xffff_0000 | UInt32(dataSegment))
    case .real32:
      put(12, 0xffff_0000 | linearInstruction & 0xffff)
      put(16, (linearInstruction >> 16) << 12 & 0x0fff_f000 | UInt32(opcode & 0x7ff))
      put(20, 0xffff_0000 | linearData & 0xffff)
      put(24, (linearData >> 16) << 12 & 0x0fff_f000)
    case .protected16:
      put(6, UInt16(truncatingIfNeeded: instructionPointer))
      put(8, codeSegment)
      put(10, UInt16(truncatingIfNeeded: dataPointer))
      put(12, dataSegment)
    case .real16:
      put(6, UInt16(truncatingIfNeeded: linearInstruction))
      put(8, UInt16(truncatingIfNeeded: linearInstruction >> 16) << 12 | opcode & 0x7ff)
      put(10, UInt16(truncatingIfNeeded: linearData))
      put(12, UInt16(truncatingIfNeeded: linearData >> 16) << 12)
    }
  }
}
