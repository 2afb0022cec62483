/// The ports of the VGA (IBM VGA/XGA Technical Reference, "VGA Registers").
extension VGA {
  /// Nanoseconds of a frame of text mode (70 Hz), of its vertical retrace, of a line and of its part that is not shown.
  private enum Beam {
    static let frame: UInt64 = 14_268_000
    static let retrace: UInt64 = 1_557_000
    static let line: UInt64 = 31_778
    static let blank: UInt64 = 6_356
  }

  /// Bits that exist in the sequencer's and the graphics controller's registers.
  private static let sequencerMasks: [UInt8] = [0x03, 0x3d, 0x0f, 0x3f, 0x0e]
  private static let graphicsMasks: [UInt8] = [0x0f, 0x0f, 0x0f, 0x1f, 0x03, 0x7b, 0x0f, 0x0f, 0xff]

  /// The CRT controller's ports are where the miscellaneous register has them: for colour or for monochrome.
  private func isElsewhere(_ port: UInt16) -> Bool {
    let isColour = state.miscellaneous & 1 != 0
    return (0x3b0...0x3bf).contains(port) ? isColour : (0x3d0...0x3df).contains(port) && !isColour
  }

  func readPort(_ port: UInt16) -> UInt8 {
    guard !isElsewhere(port) else { return 0xff }
    switch port {
    case 0x3c0: return state.attributeTakesData ? 0 : state.attributeIndex
    case 0x3c1:
      let index = Int(state.attributeIndex & 0x1f)
      return index < State.attributeCount ? state.attribute[index] : 0
    // Input status 0: no interrupt; a colour monitor is there.
    case 0x3c2: return 0x10
    case 0x3c4: return state.sequencerIndex
    case 0x3c5:
      return state.sequencerIndex < UInt8(State.sequencerCount) ? state.sequencer[Int(state.sequencerIndex)] : 0
    case 0x3c6: return state.paletteMask
    case 0x3c7: return state.paletteReads ? 3 : 0
    case 0x3c8: return state.paletteWriteIndex
    case 0x3c9: return readPalette()
    case 0x3ca: return state.featureControl
    case 0x3cc: return state.miscellaneous
    case 0x3ce: return state.graphicsIndex
    case 0x3cf:
      return state.graphicsIndex < UInt8(State.graphicsCount) ? state.graphics[Int(state.graphicsIndex)] : 0
    case 0x3b4, 0x3d4: return state.crtcIndex
    case 0x3b5, 0x3d5: return state.crtcIndex < UInt8(State.crtcCount) ? state.crtc[Int(state.crtcIndex)] : 0
    case 0x3ba, 0x3da:
      state.attributeTakesData = false
      return beam
    default: return 0xff
    }
  }

  /// Input status 1: in bit 0 whether nothing is shown now, in bit 3 whether it is the vertical retrace.
  private var beam: UInt8 {
    let time = (platform?.clock.now ?? 0) % Beam.frame
    guard time >= Beam.retrace else { return 0x09 }
    return time % Beam.line < Beam.blank ? 0x01 : 0x00
  }

  func writePort(_ port: UInt16, _ value: UInt8) {
    guard !isElsewhere(port) else { return }
    switch port {
    case 0x3c0: writeAttribute(value)
    case 0x3c2: state.miscellaneous = value & ~0x10
    case 0x3c4: state.sequencerIndex = value & 7
    case 0x3c5:
      guard state.sequencerIndex < UInt8(State.sequencerCount) else { return }
      state.sequencer[Int(state.sequencerIndex)] = value & Self.sequencerMasks[Int(state.sequencerIndex)]
      windowChanged()
    case 0x3c6: state.paletteMask = value
    case 0x3c7:
      state.paletteReadIndex = value
      state.paletteStep = 0
      state.paletteReads = true
    case 0x3c8:
      state.paletteWriteIndex = value
      state.paletteStep = 0
      state.paletteReads = false
    case 0x3c9: writePalette(value)
    case 0x3ba, 0x3da: state.featureControl = value & 0x10
    case 0x3ce: state.graphicsIndex = value & 0xf
    case 0x3cf:
      guard state.graphicsIndex < UInt8(State.graphicsCount) else { return }
      state.graphics[Int(state.graphicsIndex)] = value & Self.graphicsMasks[Int(state.graphicsIndex)]
      windowChanged()
    case 0x3b4, 0x3d4: state.crtcIndex = value
    case 0x3b5, 0x3d5: writeCRTC(value)
    default: break
    }
  }

  /// Index and data take turns at one port.
  private func writeAttribute(_ value: UInt8) {
    if state.attributeTakesData {
      let index = Int(state.attributeIndex & 0x1f)
      if index < State.attributeCount { state.attribute[index] = value & (index < 16 ? 0x3f : 0xff) }
    } else {
      state.attributeIndex = value & 0x3f
    }
    state.attributeTakesData.toggle()
  }

  private func writeCRTC(_ value: UInt8) {
    let index = Int(state.crtcIndex)
    guard index < State.crtcCount else { return }
    // Registers 0 to 7 can be locked; bit 4 of the last, of the line to compare with, never is.
    guard index > 7 || state.crtc[0x11] & 0x80 == 0 else {
      if index == 7 { state.crtc[7] = state.crtc[7] & ~0x10 | value & 0x10 }
      return
    }
    state.crtc[index] = value
  }

  private func readPalette() -> UInt8 {
    let value = state.palette[Int(state.paletteReadIndex) * 3 + Int(state.paletteStep)]
    if stepPalette() { state.paletteReadIndex &+= 1 }
    return value
  }

  private func writePalette(_ value: UInt8) {
    let isWide = state.extensions[Extension.enable] & Extension.hasWidePalette != 0
    state.palette[Int(state.paletteWriteIndex) * 3 + Int(state.paletteStep)] = isWide ? value : value & 0x3f
    if stepPalette() { state.paletteWriteIndex &+= 1 }
  }

  /// Goes on to a colour's next byte. True if that is the next colour's first.
  private func stepPalette() -> Bool {
    state.paletteStep = (state.paletteStep + 1) % 3
    return state.paletteStep == 0
  }
}
