import CHost
import X86

/// A semantic function that is the same for all operand sizes.
protocol SizedFunction {
  func run<T: Lane>(_ processor: SoftwareProcessor, _ op: Op, as type: T.Type) throws(GuestFault) -> Flow
}

extension SoftwareProcessor {
  /// Runs a function in the operation's operand size.
  @inline(__always)
  func bySize<F: SizedFunction>(_ op: Op, _ function: F) throws(GuestFault) -> Flow {
    switch op.pointee.size {
    case 1: try function.run(self, op, as: Int8.self)
    case 2: try function.run(self, op, as: Int16.self)
    case 4: try function.run(self, op, as: Int32.self)
    default: try function.run(self, op, as: Int64.self)
    }
  }

  /// Sets RFLAGS' arithmetic bits from their lazy form.
  @inline(__always)
  func setFlags(_ a: UInt64, _ b: UInt64, _ result: UInt64, _ kind: UInt64) {
    cpu.pointee.rflags =
      cpu.pointee.rflags & ~RFLAGS.arithmetic | LazyFlags.materialize(a, b, result, kind)
  }
}

extension Operation {
  /// A register offset that stands for no register.
  static let absent: UInt8 = 128
}
