/// Mode 3, 80 by 25 characters of 9 by 16 pixels in 16 colours, as a video BIOS leaves it (IBM VGA/XGA Technical Reference,
/// "VGA Registers", and its tables of the BIOS's modes). There is no font: who asks for the screen gets text.
extension VGA {
  /// Sets the mode, and clears the 32 KiB of the window.
  func enterTextMode() {
    state.miscellaneous = 0x67
    state.sequencer = [0x03, 0x00, 0x03, 0x00, 0x02]
    state.crtc = [
      0x5f, 0x4f, 0x50, 0x82, 0x55, 0x81, 0xbf, 0x1f, 0x00, 0x4f, 0x0d, 0x0e, 0x00, 0x00, 0x00, 0x00, 0x9c, 0x8e, 0x8f,
      0x28, 0x1f, 0x96, 0xb9, 0xa3, 0xff,
    ]
    state.graphics = [0x00, 0x00, 0x00, 0x00, 0x00, 0x10, 0x0e, 0x0f, 0xff]
    // Colours of an EGA: brown is 0x14, light ones have bits 3 to 5.
    state.attribute = [0, 1, 2, 3, 4, 5, 0x14, 7] + (0x38...0x3f) + [0x0c, 0x00, 0x0f, 0x08, 0x00]
    // The palette is on.
    state.attributeIndex = 0x20
    for colour in 0..<64 {
      // Bits 2, 1 and 0 are two thirds of red, green and blue, bits 5, 4 and 3 one third.
      for part in 0..<3 {
        let (strong, weak) = (colour >> (2 - part) & 1, colour >> (5 - part) & 1)
        state.palette[3 * colour + part] = UInt8(strong * 0x2a + weak * 0x15)
      }
    }
    // A blank in plane 0, light grey on black in plane 1.
    let blanks = 0x8000 / 2
    memory.base.initializeMemory(as: UInt32.self, repeating: UInt32(0x0720).littleEndian, count: blanks)
    platform?.memory.noteWrite(memory, at: 0, count: UInt64(blanks * 4))
  }
}
