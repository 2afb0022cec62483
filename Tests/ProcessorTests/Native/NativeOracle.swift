import CHost
import Glibc
import Host

/// Runs one instruction on the host with all registers given: what the native unit is measured against.
///
/// The instruction runs as it is, with its own registers; only RSP must not be among them.
final class NativeOracle {
  /// Offsets in `state`: sixteen YMM registers, general registers, RFLAGS, FXSAVE image.
  static let generals = 512
  static let flags = 640
  static let image = 704
  static let size = image + 512

  let state: UnsafeMutableRawPointer
  private let code: CodeMemory

  init() throws {
    state = .allocate(byteCount: Self.size, alignment: 64)
    state.initializeMemory(as: UInt8.self, repeating: 0, count: Self.size)
    code = try CodeMemory(size: 4096)
  }

  deinit { state.deallocate() }

  func run(_ instruction: [UInt8]) {
    var bytes: [UInt8] = [0x53, 0x55, 0x41, 0x54, 0x41, 0x55, 0x41, 0x56, 0x41, 0x57, 0x57]  // PUSH …; PUSH RDI
    bytes += [0x48, 0x0f, 0xae, 0x8f] + displacement(Self.image)  // FXRSTOR64 [RDI + …]
    for number in 0..<16 { bytes += vectorMove(0x10, number) }
    bytes += [0xff, 0xb7] + displacement(Self.flags) + [0x9d]  // PUSH [RDI + …]; POPF
    for number in 0..<16 where number != 4 && number != 7 { bytes += generalMove(0x8b, number) }
    bytes += generalMove(0x8b, 7)
    bytes += instruction
    bytes += [0x9c, 0x57, 0x48, 0x8b, 0x7c, 0x24, 0x10]  // PUSHF; PUSH RDI; MOV RDI, [RSP + 16]
    for number in 0..<16 where number != 4 && number != 7 { bytes += generalMove(0x89, number) }
    bytes += [0x58, 0x48, 0x89, 0x87] + displacement(Self.generals + 56)  // POP RAX; MOV [RDI + …], RAX
    bytes += [0x8f, 0x87] + displacement(Self.flags)  // POP [RDI + …]
    bytes += [0x48, 0x0f, 0xae, 0x87] + displacement(Self.image)  // FXSAVE64 [RDI + …]
    for number in 0..<16 { bytes += vectorMove(0x11, number) }
    bytes += [0xc5, 0xf8, 0x77, 0xdb, 0xe3]  // VZEROUPPER; FNINIT
    bytes += [0x5f, 0x41, 0x5f, 0x41, 0x5e, 0x41, 0x5d, 0x41, 0x5c, 0x5d, 0x5b, 0xc3]
    bytes.withUnsafeBytes { code.writable.copyMemory(from: $0.baseAddress!, byteCount: bytes.count) }
    let mxcsr = nativeMXCSR()
    unsafeBitCast(code.executable, to: (@convention(c) (UnsafeMutableRawPointer) -> Void).self)(state)
    nativeSetMXCSR(mxcsr)
  }

  private func displacement(_ value: Int) -> [UInt8] { withUnsafeBytes(of: Int32(value)) { Array($0) } }

  /// VMOVUPS between YMM `number` and its place.
  private func vectorMove(_ opcode: UInt8, _ number: Int) -> [UInt8] {
    [0xc5, number >= 8 ? 0x7c : 0xfc, opcode, UInt8(0x87 | (number & 7) << 3)] + displacement(number * 32)
  }

  private func generalMove(_ opcode: UInt8, _ number: Int) -> [UInt8] {
    [number >= 8 ? 0x4c : 0x48, opcode, UInt8(0x87 | (number & 7) << 3)] + displacement(Self.generals + number * 8)
  }
}
