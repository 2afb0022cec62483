/// Linear modes: the registers of Bochs' display, reached by an index and a data port, and in memory by themselves
/// (Bochs, "VBE DISPI"; QEMU, docs/specs/standard-vga, "Memory bar 2").
extension VGA {
  private enum MappedRegister {
    static let ports: Range<UInt64> = 0x400..<0x420
    static let extensions: Range<UInt64> = 0x500..<0x516
    /// Size of the registers of QEMU's own, and byte order, which is little.
    static let ownSize: UInt64 = 0x600
    static let byteOrder: UInt64 = 0x604
    static let littleEndian: UInt64 = 0x1e1e_1e1e
  }

  // MARK: Ports

  /// Offset 0 is the index port. Data is at the next port, or at the next even one, where accesses are aligned.
  func readExtension(_ offset: UInt64, size: Int) -> UInt64 {
    guard size == 2 else { return .max }
    return offset == 0 ? UInt64(state.extensionIndex) : UInt64(extensionValue(Int(state.extensionIndex)))
  }

  func writeExtension(_ offset: UInt64, size: Int, value: UInt64) {
    guard size == 2 else { return }
    let value = UInt16(truncatingIfNeeded: value)
    if offset == 0 {
      state.extensionIndex = value
    } else {
      setExtension(Int(state.extensionIndex), value)
    }
  }

  // MARK: Memory

  func readMappedRegister(_ offset: UInt64, size: Int) -> UInt64 {
    switch offset {
    case MappedRegister.ports:
      ByteCycles.read(offset: offset, size: size) {
        $0 < MappedRegister.ports.upperBound ? readPort(0x3c0 + UInt16($0 - MappedRegister.ports.lowerBound)) : 0xff
      }
    case MappedRegister.extensions where size == 2 && offset & 1 == 0:
      UInt64(extensionValue(Int(offset - MappedRegister.extensions.lowerBound) / 2))
    case MappedRegister.ownSize: 8
    case MappedRegister.byteOrder: MappedRegister.littleEndian
    default: .max
    }
  }

  func writeMappedRegister(_ offset: UInt64, size: Int, value: UInt64) {
    switch offset {
    case MappedRegister.ports:
      ByteCycles.write(offset: offset, size: size, value: value) { offset, byte in
        guard offset < MappedRegister.ports.upperBound else { return }
        writePort(0x3c0 + UInt16(offset - MappedRegister.ports.lowerBound), byte)
      }
    case MappedRegister.extensions where size == 2 && offset & 1 == 0:
      setExtension(Int(offset - MappedRegister.extensions.lowerBound) / 2, UInt16(truncatingIfNeeded: value))
    default: break
    }
  }

  // MARK: Registers

  private func extensionValue(_ index: Int) -> UInt16 {
    let readsLimits = state.extensions[Extension.enable] & Extension.readsLimits != 0
    switch index {
    case Extension.width where readsLimits: return Extension.widthLimit
    case Extension.height where readsLimits: return Extension.heightLimit
    case Extension.depth where readsLimits: return Extension.depthLimit
    case Extension.memory: return UInt16(Self.memorySize >> 16)
    default: return state.extensions.indices.contains(index) ? state.extensions[index] : 0
    }
  }

  private func setExtension(_ index: Int, _ value: UInt16) {
    switch index {
    case Extension.identification:
      // Versions that are known can be asked for.
      if (0xb0c0...Extension.version).contains(value) { state.extensions[index] = value }
    case Extension.width: state.extensions[index] = min(value, Extension.widthLimit) & ~7
    case Extension.height: state.extensions[index] = min(value, Extension.heightLimit)
    case Extension.depth: if [4, 8, 15, 16, 24, 32].contains(value) { state.extensions[index] = value }
    case Extension.bank: if UInt64(value) < Self.memorySize >> 16 { state.extensions[index] = value }
    case Extension.virtualWidth, Extension.x, Extension.y: state.extensions[index] = value
    case Extension.enable: setEnable(value)
    default: break
    }
    if state.isLinear { limitGeometry() }
    windowChanged()
  }

  private func setEnable(_ value: UInt16) {
    let wasLinear = state.isLinear
    if (value ^ state.extensions[Extension.enable]) & Extension.hasWidePalette != 0 {
      // What is there keeps its brightness.
      let widens = value & Extension.hasWidePalette != 0
      for index in state.palette.indices {
        state.palette[index] = widens ? state.palette[index] << 2 : state.palette[index] >> 2
      }
    }
    state.extensions[Extension.enable] = value
    guard state.isLinear else {
      state.extensions[Extension.bank] = 0
      return
    }
    guard !wasLinear else { return }
    for index in [Extension.virtualWidth, Extension.x, Extension.y] { state.extensions[index] = 0 }
    limitGeometry()
    if value & Extension.keepsMemory == 0 {
      memory.base.initializeMemory(
        as: UInt8.self, repeating: 0, count: lineSize * Int(state.extensions[Extension.height]))
      platform?.memory.noteWrite(
        memory, at: 0, count: UInt64(lineSize) * UInt64(state.extensions[Extension.height]))
    }
    enterGraphics()
  }

  /// Bytes from one line of a linear mode to the next.
  var lineSize: Int {
    let width = Int(state.extensions[Extension.virtualWidth])
    return switch state.extensions[Extension.depth] {
    case 4: width / 2
    case 15: width * 2
    case let depth: width * Int(depth) / 8
    }
  }

  /// Keeps what is shown inside of the memory.
  private func limitGeometry() {
    if state.extensions[Extension.width] == 0 { state.extensions[Extension.width] = 8 }
    if state.extensions[Extension.height] == 0 { state.extensions[Extension.height] = 1 }
    if state.extensions[Extension.depth] == 0 { state.extensions[Extension.depth] = 8 }
    let width = state.extensions[Extension.width]
    state.extensions[Extension.virtualWidth] = max(state.extensions[Extension.virtualWidth], width)
    if lineSize * Int(state.extensions[Extension.height]) > Int(Self.memorySize) {
      state.extensions[Extension.virtualWidth] = width
    }
    let lines = min(Int(Self.memorySize) / max(1, lineSize), 0xffff)
    state.extensions[Extension.virtualHeight] = UInt16(lines)
    state.extensions[Extension.height] = min(state.extensions[Extension.height], UInt16(lines))
  }

  /// What the VGA's own registers are in such a mode: graphics, 64 KiB of window, all planes.
  private func enterGraphics() {
    state.graphics[6] = state.graphics[6] & ~0x0c | 0x05
    state.graphics[5] = state.graphics[5] & ~0x60
    if state.extensions[Extension.depth] == 4 {
      state.sequencer[4] &= ~8
    } else {
      state.graphics[5] |= 0x40
      state.sequencer[4] |= 8
      state.sequencer[2] |= 0xf
    }
  }
}
