extension VGA {
  /// All registers, and in a saved state what the memory holds.
  public struct State: Codable, Equatable, Sendable {
    static let sequencerCount = 5
    static let graphicsCount = 9
    static let attributeCount = 21
    static let crtcCount = 25
    static let extensionCount = 10

    var miscellaneous: UInt8 = 0
    var featureControl: UInt8 = 0
    var sequencerIndex: UInt8 = 0
    var sequencer = [UInt8](repeating: 0, count: sequencerCount)
    var graphicsIndex: UInt8 = 0
    var graphics = [UInt8](repeating: 0, count: graphicsCount)
    var attributeIndex: UInt8 = 0
    /// The next write to port 0x3c0 is data.
    var attributeTakesData = false
    var attribute = [UInt8](repeating: 0, count: attributeCount)
    var crtcIndex: UInt8 = 0
    var crtc = [UInt8](repeating: 0, count: crtcCount)
    var palette = [UInt8](repeating: 0, count: 768)
    var paletteMask: UInt8 = 0xff
    var paletteReadIndex: UInt8 = 0
    var paletteWriteIndex: UInt8 = 0
    /// Which of a colour's three bytes comes next.
    var paletteStep: UInt8 = 0
    /// The last index was for reading.
    var paletteReads = false
    /// One byte of each plane, plane 0 lowest.
    var latch: UInt32 = 0
    var extensionIndex: UInt16 = 0
    var extensions = [UInt16](repeating: 0, count: extensionCount)
    var pci: PCIEndpoint.State?
    /// Without the zeros at its end.
    var memory: [UInt8]?

    public init() { extensions[Extension.identification] = Extension.version }

    /// A state from outside may have more or less of everything.
    mutating func bringIntoShape() {
      sequencer = sequencer.resized(to: Self.sequencerCount, with: 0)
      graphics = graphics.resized(to: Self.graphicsCount, with: 0)
      attribute = attribute.resized(to: Self.attributeCount, with: 0)
      crtc = crtc.resized(to: Self.crtcCount, with: 0)
      palette = palette.resized(to: 768, with: 0)
      extensions = extensions.resized(to: Self.extensionCount, with: 0)
      paletteStep %= 3
    }

    /// Where the window lies, by register GR6: 128 KiB from 0xa0000, 64 KiB there, 32 KiB at 0xb0000, 32 KiB at 0xb8000.
    var windowMap: UInt8 { graphics[6] >> 2 & 3 }

    /// The extensions' 64 KiB bank in the window.
    var bank: UInt16 { isLinear ? extensions[Extension.bank] : 0 }

    /// A mode of the extensions is on.
    var isLinear: Bool { extensions[Extension.enable] & Extension.isEnabled != 0 }
  }

  /// Registers of the extensions (Bochs, "VBE DISPI").
  enum Extension {
    static let identification = 0
    static let width = 1
    static let height = 2
    static let depth = 3
    static let enable = 4
    static let bank = 5
    static let virtualWidth = 6
    static let virtualHeight = 7
    static let x = 8
    static let y = 9
    /// Reads the size of the memory in 64 KiB units, and is none that can be written.
    static let memory = 10

    static let version: UInt16 = 0xb0c5

    // Bits of `enable`.
    static let isEnabled: UInt16 = 1
    /// Reads of width, height and depth give the largest values.
    static let readsLimits: UInt16 = 2
    static let hasWidePalette: UInt16 = 0x20
    static let keepsMemory: UInt16 = 0x80

    static let widthLimit: UInt16 = 2560
    static let heightLimit: UInt16 = 1600
    static let depthLimit: UInt16 = 32
  }
}
