import Machine
import Memory
import X86

/// A VGA with the extensions of Bochs, as QEMU's standard display (IBM VGA/XGA Technical Reference; Bochs, "VBE DISPI";
/// QEMU, docs/specs/standard-vga): text and planar modes through registers and a 128 KiB window below 1 MiB, and linear
/// modes of up to 32 bits a pixel.
///
/// **Memory.** The display's memory is memory of the guest (`GuestMemory.DeviceMemory`). Byte `4 * a + p` is byte `a` of
/// plane `p`, so that one 32-bit word has what a latch takes, and 256-colour and linear modes lie in it as they are shown.
/// Where base-address register 0 puts it, and in the window while that is linear (chain-4 with all planes), the guest reaches
/// it as plain memory, without this device. All else goes through `VGA+Planes`.
///
/// **Screen.** Nothing is drawn while the guest runs. Whoever wants to see the screen asks for it (`VGA+Screen`).
///
/// Region 0: the memory (BAR 0). Region 1: the registers again, in memory (BAR 2). Region 2: ports 0x3b0 to 0x3df.
/// Region 3: the window, 0xa0000 to 0xbffff. Region 4: ports 0x1ce to 0x1d1 of the extensions.
public final class VGA: PCIFunction {
  public static let vendor: UInt16 = 0x1234
  public static let device: UInt16 = 0x1111
  /// Bytes of display memory, a power of two.
  public static let memorySize: UInt64 = 16 << 20
  public static let window: Range<UInt64> = 0xa_0000..<0xc_0000
  /// The first port of region 2.
  public static let firstPort: UInt16 = 0x3b0

  /// Regions as the bus knows them.
  enum Region {
    static let memory = 0
    static let registers = 1
    static let ports = 2
    static let window = 3
    static let extensions = 4
  }

  private static let registersSize: UInt64 = 4096

  public let name = "vga"
  public let pci: PCIEndpoint
  /// The display's own memory.
  let memory: GuestMemory.DeviceMemory
  var state = State()
  private let startsInTextMode: Bool
  private(set) var platform: DevicePlatform?
  /// Where base-address register 0 has put the memory.
  private var linearRange: Range<UInt64>?

  /// `memory` has `memorySize` bytes. `startsInTextMode`: no video BIOS will run, and each reset leaves the display as one
  /// would (`enterTextMode`).
  public init(memory: GuestMemory.DeviceMemory, startsInTextMode: Bool = false) {
    precondition(memory.count == Self.memorySize, "the display's memory has another size")
    self.memory = memory
    self.startsInTextMode = startsInTextMode
    var space = PCIConfigurationSpace(
      vendor: Self.vendor, device: Self.device, revision: 2, classCode: 0x03_0000, subsystemVendor: 0x1af4,
      subsystem: 0x1100)
    // The fixed ports and the window answer always.
    space.set(PCIConfigurationSpace.Register.command, UInt16(0), writable: 1)
    pci = PCIEndpoint(space)
    pci.addRegion(Region.memory, index: 0, kind: .memory32(prefetchable: true), size: Self.memorySize)
    pci.addRegion(Region.registers, index: 2, kind: .memory32(prefetchable: false), size: Self.registersSize)
    pci.onChange = { [unowned self] in placeMemory() }
  }

  public func attach(to platform: DevicePlatform) { self.platform = platform }

  public func reset() {
    state = State()
    if startsInTextMode { enterTextMode() }
    pci.reset()
    windowChanged()
  }

  public func save() -> State {
    var state = state
    state.pci = pci.save()
    let contents = UnsafeRawBufferPointer(start: memory.base, count: Int(memory.count))
    // Most of it is zeros, behind what is shown.
    state.memory = Array(contents[..<(contents.lastIndex { $0 != 0 }.map { $0 + 1 } ?? 0)])
    return state
  }

  public func restore(_ state: State) {
    self.state = state
    self.state.bringIntoShape()
    if let contents = state.memory {
      self.state.memory = nil
      let count = min(contents.count, Int(memory.count))
      (memory.base + count).initializeMemory(as: UInt8.self, repeating: 0, count: Int(memory.count) - count)
      contents.withUnsafeBytes { bytes in
        if let start = bytes.baseAddress { memory.base.copyMemory(from: start, byteCount: count) }
      }
      platform?.memory.noteWrite(memory, at: 0, count: memory.count)
    }
    if let function = state.pci { pci.restore(function) }
    windowChanged()
  }

  public func read(region: Int, offset: UInt64, size: Int) -> UInt64 {
    switch region {
    case Region.memory:
      return ByteCycles.read(offset: offset, size: size) {
        $0 < Self.memorySize ? memory.base.load(fromByteOffset: Int($0), as: UInt8.self) : 0xff
      }
    case Region.registers: return readMappedRegister(offset, size: size)
    case Region.ports:
      return ByteCycles.read(offset: offset, size: size) { readPort(Self.firstPort + UInt16($0 & 0x3f)) }
    case Region.window: return ByteCycles.read(offset: offset, size: size) { readWindow(Int($0 & 0x1_ffff)) }
    case Region.extensions: return readExtension(offset, size: size)
    default: return .max
    }
  }

  public func write(region: Int, offset: UInt64, size: Int, value: UInt64) {
    switch region {
    case Region.memory:
      ByteCycles.write(offset: offset, size: size, value: value) { offset, byte in
        if offset < Self.memorySize { store(byte, at: Int(offset)) }
      }
    case Region.registers: writeMappedRegister(offset, size: size, value: value)
    case Region.ports:
      ByteCycles.write(offset: offset, size: size, value: value) { writePort(Self.firstPort + UInt16($0 & 0x3f), $1) }
    case Region.window:
      ByteCycles.write(offset: offset, size: size, value: value) { writeWindow(Int($0 & 0x1_ffff), $1) }
    case Region.extensions: writeExtension(offset, size: size, value: value)
    default: break
    }
  }

  /// Stores a byte of the display's memory.
  func store(_ byte: UInt8, at offset: Int) {
    let offset = offset & Int(Self.memorySize - 1)
    memory.base.storeBytes(of: byte, toByteOffset: offset, as: UInt8.self)
    platform?.memory.noteWrite(memory, at: UInt64(offset), count: 1)
  }

  // MARK: Plain memory

  /// Puts the memory where base-address register 0 says, unless something else is there already: then what the bus routes
  /// here is all that the guest reaches of it.
  private func placeMemory() {
    guard let guestMemory = platform?.memory else { return }
    let range = pci.address(index: 0).map { $0..<$0 + Self.memorySize }
    guard range != linearRange else { return }
    if let linearRange { guestMemory.map(linearRange, to: .ram) }
    linearRange = nil
    guard let range, guestMemory.isFree(range) else { return }
    guestMemory.map(range, to: .memory(memory))
    linearRange = range
  }

  /// Lets the guest's accesses to the window go to memory themselves where they would do no more here.
  func windowChanged() {
    guard let guestMemory = platform?.memory else { return }
    let first = Self.window.lowerBound..<Self.window.lowerBound + 0x1_0000
    guestMemory.map(first.upperBound..<Self.window.upperBound, to: .bus)
    let bank = UInt64(state.bank) << 16
    let isPlain =
      isChained && state.sequencer[2] & 0xf == 0xf && state.windowMap == 1 && bank <= Self.memorySize - 0x1_0000
    guestMemory.map(first, to: isPlain ? .memory(memory.part(bank, count: 0x1_0000)) : .bus)
  }
}
