import CHost
import Memory
import X86

/// Files without any header, which run in real-address mode from their first byte on: boot sectors, `.com` programs, test
/// programs. There are no BIOS services.
extension BootLoader {
  /// Below an image there is a stack if there is room for this many bytes of it in the segment.
  private static let leastStack: UInt16 = 0x1000

  /// Loads a file and sets the processor, which is in its power-up state, up to run it: all segments are the one of
  /// `address`, and the stack goes down from the image, or from the segment's end where the image is at its beginning.
  public static func loadFlat(
    _ file: BootFile, at address: RealModeAddress, memory: GuestMemory, state: inout CPUState
  ) throws(BootFailure) -> LoadedKernel {
    guard file.size > 0 else { throw BootFailure(file.name, .empty) }
    let start = address.linear
    let end = start.addingClamped(file.size)
    let top = memory.ranges[0].upperBound
    guard end <= top else { throw BootFailure(file.name, .kernelDoesNotFit(needs: end, has: top)) }
    try memory.load(file, at: 0, count: file.size, to: start)
    state.enterRealMode(
      at: address, stackPointer: address.offset >= leastStack ? address.offset & ~1 : 0xfffe)
    return LoadedKernel(bootProtocol: .flat, kernel: start..<end, entry: start, modules: [])
  }
}

extension CPUState {
  /// Real-address mode as after power-up, with other segments; interrupts are off.
  mutating func enterRealMode(at address: RealModeAddress, stackPointer: UInt16) {
    let data =
      SegmentAttributes.present | SegmentAttributes.nonSystem | SegmentAttributes.readWrite | SegmentAttributes.accessed
    let base = UInt64(address.segment) << 4
    let segment = SegmentState(base: base, limit: 0xffff, selector: address.segment, attributes: data)
    segments = (segment, segment, segment, segment, segment, segment)
    segments.1.attributes |= SegmentAttributes.code
    idtr = DescriptorTableState(base: 0, limit: 0x3ff, reserved: 0)
    rip = UInt64(address.offset)
    gpr.4 = UInt64(stackPointer)
  }

  /// Points the data segments of real-address mode at 0.
  mutating func clearDataSegments() {
    var data = segments.3
    data.base = 0
    data.selector = 0
    segments = (data, segments.1, data, data, data, data)
  }
}
