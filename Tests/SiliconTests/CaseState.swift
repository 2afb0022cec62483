import CSilicon
import CZydis

/// Access to a `SiliconState` in shared memory, field by field.
struct CaseState {
  let pointer: UnsafeMutablePointer<SiliconState>

  private static let offsetOfBefore = MemoryLayout<SiliconCase>.offset(of: \.before)!
  private static let offsetOfAfter = MemoryLayout<SiliconCase>.offset(of: \.after)!
  private static let offsetOfLegacy = MemoryLayout<SiliconState>.offset(of: \.legacy)!
  private static let offsetOfUpper = MemoryLayout<SiliconState>.offset(of: \.upper)!

  init(before one: UnsafeMutablePointer<SiliconCase>) {
    pointer = (UnsafeMutableRawPointer(one) + Self.offsetOfBefore).assumingMemoryBound(to: SiliconState.self)
  }

  init(after one: UnsafeMutablePointer<SiliconCase>) {
    pointer = (UnsafeMutableRawPointer(one) + Self.offsetOfAfter).assumingMemoryBound(to: SiliconState.self)
  }

  init(_ pointer: UnsafeMutablePointer<SiliconState>) { self.pointer = pointer }

  var data: UnsafeMutablePointer<UInt8> { siliconData(pointer) }

  var legacy: UnsafeMutableRawPointer { UnsafeMutableRawPointer(pointer) + Self.offsetOfLegacy }
  var upper: UnsafeMutableRawPointer { UnsafeMutableRawPointer(pointer) + Self.offsetOfUpper }

  var rip: UInt64 {
    get { pointer.pointee.rip }
    nonmutating set { pointer.pointee.rip = newValue }
  }

  var rflags: UInt64 {
    get { pointer.pointee.rflags }
    nonmutating set { pointer.pointee.rflags = newValue }
  }

  var fsBase: UInt64 {
    get { pointer.pointee.fsBase }
    nonmutating set { pointer.pointee.fsBase = newValue }
  }

  var gsBase: UInt64 {
    get { pointer.pointee.gsBase }
    nonmutating set { pointer.pointee.gsBase = newValue }
  }

  private var registers: UnsafeMutablePointer<UInt64> {
    UnsafeMutableRawPointer(pointer).assumingMemoryBound(to: UInt64.self)
  }

  func gpr(_ number: Int) -> UInt64 { registers[number] }
  func setGPR(_ number: Int, _ value: UInt64) { registers[number] = value }

  /// Sets as much of a register as an address register of that name has; the rest stays.
  func setAddress(_ number: Int, _ value: UInt64, _ register: ZydisRegister) {
    let mask: UInt64 =
      switch ZydisRegisterGetClass(register) {
      case ZYDIS_REGCLASS_GPR64: ~0
      case ZYDIS_REGCLASS_GPR32: 0xffff_ffff
      case ZYDIS_REGCLASS_GPR16: 0xffff
      default: 0
      }
    setGPR(number, gpr(number) & ~mask | value & mask)
  }

  // MARK: Memory

  /// Offset in the data pages of what is at a linear address; nil: something else, or nothing.
  static func place(_ address: UInt64) -> Int? {
    let pageSize = UInt64(SiliconDataSize / 2)
    let offset = address &- UInt64(SiliconDataAddress)
    if offset < 2 * pageSize { return Int(offset) }
    let offsetInLast = address &- UInt64(SiliconLastAddress)
    if offsetInLast < pageSize { return Int(offsetInLast) }
    let offsetInFirst = address &- UInt64(SiliconFirstAddress)
    return offsetInFirst < pageSize ? Int(pageSize + offsetInFirst) : nil
  }

  /// Eight bytes of the data pages; zero where there are none.
  func load(_ address: UInt64) -> UInt64 {
    guard let offset = Self.place(address), offset <= SiliconDataSize - 8 else { return 0 }
    return UnsafeRawPointer(data).loadUnaligned(fromByteOffset: offset, as: UInt64.self)
  }

  /// Eight bytes of the data pages; nothing where there are none.
  func store(_ value: UInt64, at address: UInt64) {
    guard let offset = Self.place(address), offset <= SiliconDataSize - 8 else { return }
    UnsafeMutableRawPointer(data).storeBytes(of: value, toByteOffset: offset, as: UInt64.self)
  }

  /// As much of an operand as lies on the data pages.
  func fill(
    _ address: UInt64, count: Int, _ random: inout RandomSource, _ value: (inout RandomSource) -> UInt64
  ) {
    for start in stride(from: 0, to: count, by: 8) {
      let word = value(&random)
      for index in start..<min(count, start + 8) {
        if let offset = Self.place(address &+ UInt64(index)) {
          data[offset] = UInt8(truncatingIfNeeded: word >> UInt64(8 * (index - start)))
        }
      }
    }
  }

  // MARK: x87, SSE and AVX

  /// Initial state, with random contents of what the instruction may use. The rest has a fixed pattern, which must stay.
  func fillVectors(_ random: inout RandomSource, usesX87: Bool, usesVectors: Bool) {
    legacy.initializeMemory(as: UInt8.self, repeating: 0, count: 512)
    legacy.storeBytes(of: 0x37f, as: UInt16.self)
    legacy.storeBytes(of: 0x1f80, toByteOffset: 24, as: UInt32.self)
    for index in 0..<32 {
      let isUsed = usesVectors
      let place = index < 16 ? legacy + 160 + 16 * index : upper + 16 * (index - 16)
      let low = isUsed ? vectorWord(&random) : 0x1111_1111_1111_1111 &* UInt64(index & 15)
      let high = isUsed ? vectorWord(&random) : 0x0123_4567_89ab_cdef ^ UInt64(index)
      place.storeBytes(of: low, as: UInt64.self)
      place.storeBytes(of: high, toByteOffset: 8, as: UInt64.self)
    }
    if usesVectors, random.oneIn(3) {
      // Rounding, flush-to-zero, denormals-are-zero, flags; sometimes exceptions that are not masked.
      var control = UInt32(truncatingIfNeeded: random.next()) & 0xe07f | 0x1f80
      if random.oneIn(4) { control &= ~(UInt32(random.below(64)) << 7) }
      legacy.storeBytes(of: control, toByteOffset: 24, as: UInt32.self)
    }
    if usesX87 { fillX87(&random) }
  }

  private func vectorWord(_ random: inout RandomSource) -> UInt64 {
    switch random.below(4) {
    case 0: random.double()
    case 1: UInt64(random.single()) | UInt64(random.single()) << 32
    case 2: random.operand()
    default: random.next()
    }
  }

  private func fillX87(_ random: inout RandomSource) {
    var control: UInt16 = 0x37f
    if random.oneIn(2) { control = UInt16(truncatingIfNeeded: random.next()) & 0xf00 | 0x7f }
    if random.oneIn(12) { control &= ~UInt16(random.below(64)) }
    // Flags only where they raise nothing.
    var status = UInt16(random.below(8)) << 11 | UInt16(truncatingIfNeeded: random.next()) & 0x4700
    if random.oneIn(4) { status |= UInt16(random.below(128)) & (control & 0x3f | 0x40) }
    let tags = random.oneIn(4) ? UInt8(truncatingIfNeeded: random.next()) : 0xff
    legacy.storeBytes(of: control, as: UInt16.self)
    legacy.storeBytes(of: status, toByteOffset: 2, as: UInt16.self)
    legacy.storeBytes(of: tags, toByteOffset: 4, as: UInt8.self)
    for index in 0..<8 {
      let (mantissa, exponent) = random.extended()
      legacy.storeBytes(of: mantissa, toByteOffset: 32 + 16 * index, as: UInt64.self)
      legacy.storeBytes(of: exponent, toByteOffset: 40 + 16 * index, as: UInt16.self)
    }
  }
}
