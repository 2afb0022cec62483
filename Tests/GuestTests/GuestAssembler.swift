/// Machine code for small guests: 32-bit protected mode with flat segments and paging off, which is how a PVH kernel is
/// entered. Instructions have their mnemonics' names; operands are in Intel's order. Encodings: SDM vol. 2.
///
/// Code and data lie at `base`, an even number of MiB: a guest that plays with the A20 gate does not lose its own code.
struct GuestAssembler {
  enum Register: UInt8 {
    case eax, ecx, edx, ebx, esp, ebp, esi, edi
  }

  enum Condition: UInt8 {
    case below = 2
    case aboveOrEqual = 3
    case equal = 4
    case notEqual = 5
    case belowOrEqual = 6
    case above = 7
  }

  /// A place in the code, which may be named before it is known.
  struct Label: Hashable {
    fileprivate let number: Int
  }

  static let base: UInt32 = 0x20_0000

  private var code: [UInt8] = []
  private var places: [Int?] = []
  private var relativeUses: [(at: Int, label: Label)] = []
  private var absoluteUses: [(at: Int, label: Label)] = []

  /// The finished bytes. Every label must have been placed.
  var bytes: [UInt8] {
    var bytes = code
    for use in relativeUses { Self.put(offset(of: use.label) &- UInt32(use.at + 4), at: use.at, in: &bytes) }
    for use in absoluteUses { Self.put(Self.base + offset(of: use.label), at: use.at, in: &bytes) }
    return bytes
  }

  init() {}

  /// How many bytes there are so far.
  var bytesSoFar: Int { code.count }

  // MARK: Labels and data

  mutating func makeLabel() -> Label {
    places.append(nil)
    return Label(number: places.count - 1)
  }

  mutating func place(_ label: Label) { places[label.number] = code.count }

  /// A new label, here.
  mutating func here() -> Label {
    let label = makeLabel()
    place(label)
    return label
  }

  mutating func emit(_ bytes: UInt8...) { code += bytes }

  mutating func emit16(_ value: UInt16) { code += [UInt8(truncatingIfNeeded: value), UInt8(value >> 8)] }

  mutating func emit32(_ value: UInt32) {
    emit16(UInt16(truncatingIfNeeded: value))
    emit16(UInt16(value >> 16))
  }

  mutating func emitAddress(of label: Label) {
    absoluteUses.append((code.count, label))
    emit32(0)
  }

  mutating func align(_ alignment: Int) { while code.count % alignment != 0 { emit(0) } }

  // MARK: Instructions

  mutating func mov(_ register: Register, _ value: UInt32) {
    emit(0xb8 + register.rawValue)
    emit32(value)
  }

  mutating func mov(_ register: Register, addressOf label: Label) {
    emit(0xb8 + register.rawValue)
    emitAddress(of: label)
  }

  mutating func mov(_ target: Register, _ source: Register) {
    emit(0x89, 0xc0 | source.rawValue << 3 | target.rawValue)
  }

  /// Stores AL, AX or EAX at [EDI].
  mutating func movToMemory(size: Int) { sized(0x88, size, suffix: [0x07]) }

  /// Loads AL, AX or EAX from [EDI].
  mutating func movFromMemory(size: Int) { sized(0x8a, size, suffix: [0x07]) }

  mutating func add(_ register: Register, _ value: UInt32) { arithmetic(0, register, value) }
  mutating func or(_ register: Register, _ value: UInt32) { arithmetic(1, register, value) }
  mutating func and(_ register: Register, _ value: UInt32) { arithmetic(4, register, value) }
  mutating func cmp(_ register: Register, _ value: UInt32) { arithmetic(7, register, value) }

  mutating func imul(_ register: Register, _ value: UInt32) {
    emit(0x69, 0xc0 | register.rawValue << 3 | register.rawValue)
    emit32(value)
  }

  mutating func bswap(_ register: Register) { emit(0x0f, 0xc8 + register.rawValue) }

  /// Reads port DX into AL, AX or EAX.
  mutating func `in`(size: Int) { sized(0xec, size) }

  /// Writes AL, AX or EAX to port DX.
  mutating func out(size: Int) { sized(0xee, size) }

  mutating func jmp(_ label: Label) {
    emit(0xe9)
    emitDistance(to: label)
  }

  mutating func jmp(_ condition: Condition, _ label: Label) {
    emit(0x0f, 0x80 + condition.rawValue)
    emitDistance(to: label)
  }

  mutating func jmp(_ register: Register) { emit(0xff, 0xe0 + register.rawValue) }

  /// A far jump, which loads CS.
  mutating func jmpFar(selector: UInt16, _ label: Label) {
    emit(0xea)
    emitAddress(of: label)
    emit16(selector)
  }

  mutating func call(_ label: Label) {
    emit(0xe8)
    emitDistance(to: label)
  }

  mutating func ret() { emit(0xc3) }
  mutating func iret() { emit(0xcf) }
  mutating func cli() { emit(0xfa) }
  mutating func hlt() { emit(0xf4) }
  mutating func ud2() { emit(0x0f, 0x0b) }

  mutating func lgdt(_ label: Label) {
    emit(0x0f, 0x01, 0x15)
    emitAddress(of: label)
  }

  mutating func lidt(_ label: Label) {
    emit(0x0f, 0x01, 0x1d)
    emitAddress(of: label)
  }

  // MARK: Encoding

  /// The byte form of an opcode is `opcode`, the others are the next one.
  private mutating func sized(_ opcode: UInt8, _ size: Int, suffix: [UInt8] = []) {
    if size == 2 { emit(0x66) }
    emit(size == 1 ? opcode : opcode + 1)
    code += suffix
  }

  private mutating func arithmetic(_ number: UInt8, _ register: Register, _ value: UInt32) {
    emit(0x81, 0xc0 | number << 3 | register.rawValue)
    emit32(value)
  }

  private mutating func emitDistance(to label: Label) {
    relativeUses.append((code.count, label))
    emit32(0)
  }

  private func offset(of label: Label) -> UInt32 {
    guard let place = places[label.number] else { preconditionFailure("a label was used and never placed") }
    return UInt32(place)
  }

  private static func put(_ value: UInt32, at offset: Int, in bytes: inout [UInt8]) {
    for index in 0..<4 { bytes[offset + index] = UInt8(truncatingIfNeeded: value >> UInt32(8 * index)) }
  }
}
