import CHost
import CZydis

final class NativeUnit {
  func prepare(
    _ instruction: UnsafePointer<ZydisDecodedInstruction>, operands: UnsafePointer<ZydisDecodedOperand>,
    bytes: UnsafePointer<UInt8>, into operation: inout Operation
  ) -> Bool { false }
  func enter(_ cpu: CPU) {}
  func leave(_ cpu: CPU) {}
}
