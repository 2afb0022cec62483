/// The window at 0xa0000 (IBM VGA/XGA Technical Reference, "Graphics Controller"; "Memory Modes").
extension VGA {
  /// Address bits 0 and 1 choose the plane.
  var isChained: Bool { state.sequencer[4] & 8 != 0 }

  /// Where in the memory an address of the window leads, before planes; nil where the window is not.
  private func address(_ offset: Int) -> Int? {
    let bank = Int(state.bank) << 16
    switch state.windowMap {
    case 0: return offset + bank
    case 1: return offset < 0x1_0000 ? offset + bank : nil
    case 2: return (0x1_0000..<0x1_8000).contains(offset) ? offset - 0x1_0000 : nil
    default: return offset >= 0x1_8000 ? offset - 0x1_8000 : nil
    }
  }

  private func word(_ address: Int) -> UInt32 {
    memory.base.load(fromByteOffset: (address << 2) & Int(Self.memorySize - 1), as: UInt32.self)
  }

  private func setWord(_ address: Int, _ value: UInt32) {
    let offset = (address << 2) & Int(Self.memorySize - 1)
    memory.base.storeBytes(of: value, toByteOffset: offset, as: UInt32.self)
    platform?.memory.noteWrite(memory, at: UInt64(offset), count: 4)
  }

  func readWindow(_ offset: Int) -> UInt8 {
    guard let address = address(offset) else { return 0xff }
    if isChained { return memory.base.load(fromByteOffset: address & Int(Self.memorySize - 1), as: UInt8.self) }
    if state.graphics[5] & 0x10 != 0 {
      // Even addresses are planes 0 and 2, odd ones 1 and 3.
      let plane = UInt32(state.graphics[4] & 2) | UInt32(address & 1)
      return UInt8(truncatingIfNeeded: word(address >> 1) >> (8 * plane))
    }
    state.latch = word(address)
    guard state.graphics[5] & 8 != 0 else {
      return UInt8(truncatingIfNeeded: state.latch >> (8 * UInt32(state.graphics[4] & 3)))
    }
    // Read mode 1: which pixels have the colour to compare with, in the planes that count.
    let different = (state.latch ^ spread(state.graphics[2])) & spread(state.graphics[7])
    let folded = different | different >> 16
    return ~UInt8(truncatingIfNeeded: folded | folded >> 8)
  }

  func writeWindow(_ offset: Int, _ value: UInt8) {
    guard let address = address(offset) else { return }
    let mask = state.sequencer[2]
    if isChained {
      if mask & 1 << UInt8(address & 3) != 0 { store(value, at: address) }
    } else if state.graphics[5] & 0x10 != 0 {
      let planes = mask & (address & 1 == 0 ? 0b0101 : 0b1010)
      // Text lies in planes 0 and 1; fonts, in plane 2, are loaded with this off.
      if planes & 1 << UInt8(address & 1) != 0 { store(value, at: (address & ~1) << 1 | address & 1) }
    } else {
      writePlanes(address, value, planes: mask)
    }
  }

  /// The four write modes.
  private func writePlanes(_ address: Int, _ value: UInt8, planes: UInt8) {
    let graphics = state.graphics
    let rotation = graphics[3] & 7
    let rotated = value >> rotation | value << ((8 - rotation) & 7)
    var bits = graphics[8]
    var data: UInt32
    switch graphics[5] & 3 {
    case 0:
      // Planes that are enabled for it take the set/reset value.
      let enabled = spread(graphics[1])
      data = repeated(rotation == 0 ? value : rotated) & ~enabled | spread(graphics[0]) & enabled
    case 1: return setWord(address, merge(state.latch, into: word(address), planes))
    case 2: data = spread(value)
    default:
      bits &= rotation == 0 ? value : rotated
      data = spread(graphics[0])
    }
    switch graphics[3] >> 3 & 3 {
    case 1: data &= state.latch
    case 2: data |= state.latch
    case 3: data ^= state.latch
    default: break
    }
    let bitMask = repeated(bits)
    setWord(address, merge(data & bitMask | state.latch & ~bitMask, into: word(address), planes))
  }

  private func merge(_ new: UInt32, into old: UInt32, _ planes: UInt8) -> UInt32 {
    let mask = spread(planes)
    return new & mask | old & ~mask
  }

  /// A byte of all ones for each of the four bits that is set.
  private func spread(_ bits: UInt8) -> UInt32 {
    var value: UInt32 = 0
    for plane in 0..<4 as Range<UInt32> where bits & 1 << UInt8(plane) != 0 { value |= 0xff << (8 * plane) }
    return value
  }

  private func repeated(_ byte: UInt8) -> UInt32 { UInt32(byte) &* 0x0101_0101 }
}
