/// What is on the screen, worked out from registers and memory when somebody asks.
extension VGA {
  /// The most lines and columns of a screen that is drawn, in pixels: the extensions' limits.
  private static let limit = Int(Extension.widthLimit)

  /// The screen as it is now. Text modes give text; `drawsImages` says whether pictures are to be drawn or only sized.
  public func screen(drawsImages: Bool = true) -> Screen {
    if state.isLinear { return linearScreen(drawsImages) }
    // Off by the attribute controller, which is cut off while its palette is written, or by the sequencer.
    guard state.attributeIndex & 0x20 != 0, state.sequencer[1] & 0x20 == 0 else { return .off }
    return state.graphics[6] & 1 == 0 ? .text(textLines) : planarScreen(drawsImages)
  }

  /// Lines that the CRT controller shows, and how many of them a row of characters or a line of pixels takes.
  private var scanLines: (count: Int, perRow: Int) {
    let crtc = state.crtc
    let end = Int(crtc[0x12]) | Int(crtc[7] & 0x02) << 7 | Int(crtc[7] & 0x40) << 3
    return (end + 1, (Int(crtc[9] & 0x1f) + 1) * (crtc[9] & 0x80 != 0 ? 2 : 1))
  }

  private var columns: Int { Int(state.crtc[1]) + 1 }
  private var startAddress: Int { Int(state.crtc[0x0c]) << 8 | Int(state.crtc[0x0d]) }
  /// Bytes of memory from one row to the next: a character, or eight pixels, have four of each word.
  private var rowSize: Int { Int(state.crtc[0x13]) << 3 }

  private func byte(_ offset: Int) -> UInt8 {
    memory.base.load(fromByteOffset: offset & Int(Self.memorySize - 1), as: UInt8.self)
  }

  private var textLines: [String] {
    let lines = scanLines
    return (0..<lines.count / lines.perRow).map { row in
      var text = (0..<columns).map { column in
        CodePage437.characters[Int(byte(startAddress << 2 + row * rowSize + column << 2))]
      }
      while text.last == " " { text.removeLast() }
      return String(text)
    }
  }

  // MARK: Pictures

  /// Draws, or only tells the size; `pixel` gives a colour as 0xrrggbb.
  private func image(_ width: Int, _ height: Int, _ draws: Bool, _ pixel: (Int, Int) -> UInt32) -> Screen {
    let (width, height) = (min(width, Self.limit), min(height, Self.limit))
    guard draws else { return .image(width: width, height: height, pixels: []) }
    var pixels: [UInt8] = []
    pixels.reserveCapacity(width * height * 3)
    for y in 0..<height {
      for x in 0..<width {
        let colour = pixel(x, y)
        pixels.append(UInt8(truncatingIfNeeded: colour >> 16))
        pixels.append(UInt8(truncatingIfNeeded: colour >> 8))
        pixels.append(UInt8(truncatingIfNeeded: colour))
      }
    }
    return .image(width: width, height: height, pixels: pixels)
  }

  /// A colour of the palette.
  private func colour(_ index: UInt8) -> UInt32 {
    let first = Int(index & state.paletteMask) * 3
    let isWide = state.extensions[Extension.enable] & Extension.hasWidePalette != 0
    return (0..<3).reduce(0) { value, part in
      let level = UInt32(state.palette[first + part])
      return value << 8 | (isWide ? level : level << 2 | level >> 4)
    }
  }

  /// A colour of a mode with 16, by way of the attribute controller.
  private func attributeColour(_ index: UInt8) -> UInt32 {
    let value = state.attribute[Int(index & state.attribute[0x12] & 0xf)]
    let control = state.attribute[0x10]
    // The upper bits of the colour's number come from the colour-select register.
    let upper = state.attribute[0x14]
    return colour(
      control & 0x80 != 0 ? value & 0x0f | upper << 4 : value & 0x3f | upper << 4 & 0xc0)
  }

  private func planarScreen(_ draws: Bool) -> Screen {
    let lines = scanLines
    let height = lines.count / lines.perRow
    let (start, rowSize) = (startAddress << 2, rowSize)
    switch state.graphics[5] >> 5 & 3 {
    case 0:
      return image(columns * 8, height, draws) { x, y in
        let word = start + y * rowSize + (x >> 3) << 2
        let bit = UInt8(7 - x & 7)
        return attributeColour((0..<4).reduce(0) { $0 | (byte(word + $1) >> bit & 1) << UInt8($1) })
      }
    case 1:
      // Two bits a pixel: four pixels in each of two planes, even lines and odd lines in two halves.
      let isInterlaced = state.crtc[0x17] & 1 == 0
      let half = state.crtc[0x17] & 0x40 == 0 ? 14 : 15
      return image(columns * 8, height, draws) { x, y in
        let line = isInterlaced ? start + (y >> 1) * rowSize + (y & 1) << half : start + y * rowSize
        let value = byte(line + (x >> 3) << 2 + x >> 2 & 1)
        return attributeColour(value >> UInt8(6 - 2 * (x & 3)) & 3)
      }
    default:
      return image(columns * 4, height, draws) { x, y in colour(byte(start + y * rowSize + x)) }
    }
  }

  private func linearScreen(_ draws: Bool) -> Screen {
    let extensions = state.extensions
    let depth = Int(extensions[Extension.depth])
    let bytes = (depth + 7) / 8
    let (lineSize, x0) = (lineSize, Int(extensions[Extension.x]))
    let top = Int(extensions[Extension.y]) * lineSize
    func value(_ offset: Int) -> UInt32 {
      (0..<bytes).reduce(0) { $0 | UInt32(byte(offset + $1)) << (8 * UInt32($1)) }
    }
    return image(Int(extensions[Extension.width]), Int(extensions[Extension.height]), draws) { x, y in
      let line = top + y * lineSize
      switch depth {
      case 4:
        let word = line + ((x + x0) >> 3) << 2
        let bit = UInt8(7 - (x + x0) & 7)
        return attributeColour((0..<4).reduce(0) { $0 | (byte(word + $1) >> bit & 1) << UInt8($1) })
      case 8: return colour(byte(line + x + x0))
      case 15:
        let value = value(line + (x + x0) * 2)
        return (value & 0x7c00) << 9 | (value & 0x03e0) << 6 | (value & 0x001f) << 3
      case 16:
        let value = value(line + (x + x0) * 2)
        return (value & 0xf800) << 8 | (value & 0x07e0) << 5 | (value & 0x001f) << 3
      default: return value(line + (x + x0) * bytes) & 0xff_ffff
      }
    }
  }
}
