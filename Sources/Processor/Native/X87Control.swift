import CHost
import CZydis
import Glibc
import X86

/// x87 instructions that change which exceptions are masked, or move the whole state, and so do not run natively.
enum X87Control {
  static let rows: [InstructionRow] = [
    InstructionRow(ZYDIS_MNEMONIC_FWAIT, wait),
    InstructionRow(ZYDIS_MNEMONIC_FNINIT, initialize),
    InstructionRow(ZYDIS_MNEMONIC_FLDCW, loadControl),
    InstructionRow(ZYDIS_MNEMONIC_FNSTENV, storeEnvironment),
    InstructionRow(ZYDIS_MNEMONIC_FLDENV, loadEnvironment),
    InstructionRow(ZYDIS_MNEMONIC_FNSAVE, save),
    InstructionRow(ZYDIS_MNEMONIC_FRSTOR, restore),
  ]

  /// Registers in an FNSAVE image: eight of 10 bytes.
  private static let registerBytes = 80

  /// WAIT has its own rule for #NM: CR0.MP and CR0.TS.
  static func wait(_ processor: SoftwareProcessor, _ op: Op) throws(GuestFault) -> Flow {
    if processor.cpu.pointee.cr0 & (CR0.mp | CR0.ts) == CR0.mp | CR0.ts { throw .deviceNotAvailable }
    processor.takeX87()
    defer { processor.endIgnoring() }
    return try processor.waitForX87(op) ?? .next
  }

  static func initialize(_ processor: SoftwareProcessor, _ op: Op) throws(GuestFault) -> Flow {
    // The data registers keep what they hold.
    processor.takeX87()
    processor.cpu.pointee.ignoresNumericErrors = 0
    nativeX87Initialize()
    processor.cpu.pointee.engine.x87Residence = X87Residence.host.rawValue
    processor.setPointers(X87Environment())
    return .next
  }

  static func loadControl(_ processor: SoftwareProcessor, _ op: Op) throws(GuestFault) -> Flow {
    processor.takeX87()
    defer { processor.endIgnoring() }
    if let flow = try processor.waitForX87(op) { return flow }
    let address = try processor.operandAddress(op, count: 2, for: .read)
    let control = try processor.load(address, as: UInt16.self)
    processor.maskedControl = nil
    nativeX87LoadControl(control)
    nativeX87Classify(processor.cpu)
    return .next
  }

  static func storeEnvironment(_ processor: SoftwareProcessor, _ op: Op) throws(GuestFault) -> Flow {
    processor.takeX87()
    let format = processor.environmentFormat(op)
    var area = try GuestArea(processor, op, format.parts, count: format.size, for: .write)
    try area.checkWritable()
    let image = UnsafeMutableRawPointer(processor.cpu) + StateOffset.scratch
    nativeX87StoreEnvironment(image)
    processor.environment(of: image).write(to: image, format)
    nativeX87Classify(processor.cpu)
    try area.write(0, from: image, count: format.size)
    return .next
  }

  static func loadEnvironment(_ processor: SoftwareProcessor, _ op: Op) throws(GuestFault) -> Flow {
    processor.takeX87()
    defer { processor.endIgnoring() }
    if let flow = try processor.waitForX87(op) { return flow }
    let format = processor.environmentFormat(op)
    let area = try GuestArea(processor, op, format.parts, count: format.size, for: .read)
    let image = UnsafeMutableRawPointer(processor.cpu) + StateOffset.scratch
    try area.read(0, into: image, count: format.size)
    var environment = X87Environment(image, format)
    processor.setPointers(environment)
    environment.forgetPointers()
    environment.write(to: image, .protected32)
    processor.maskedControl = nil
    nativeX87LoadEnvironment(image)
    nativeX87Classify(processor.cpu)
    return .next
  }

  static func save(_ processor: SoftwareProcessor, _ op: Op) throws(GuestFault) -> Flow {
    processor.takeX87()
    let format = processor.environmentFormat(op)
    let count = format.size + registerBytes
    var area = try GuestArea(processor, op, format.parts, count: count, for: .write)
    try area.checkWritable()
    let image = UnsafeMutableRawPointer(processor.cpu) + StateOffset.scratch
    nativeX87SaveImage(image)
    processor.environment(of: image).write(to: image, format)
    if format.size != 28 { memmove(image + format.size, image + 28, registerBytes) }
    processor.cpu.pointee.engine.x87Residence = X87Residence.host.rawValue
    processor.setPointers(X87Environment())
    try area.write(0, from: image, count: count)
    return .next
  }

  static func restore(_ processor: SoftwareProcessor, _ op: Op) throws(GuestFault) -> Flow {
    processor.takeX87()
    defer { processor.endIgnoring() }
    if let flow = try processor.waitForX87(op) { return flow }
    let format = processor.environmentFormat(op)
    let count = format.size + registerBytes
    let area = try GuestArea(processor, op, format.parts, count: count, for: .read)
    let image = UnsafeMutableRawPointer(processor.cpu) + StateOffset.scratch
    try area.read(0, into: image, count: count)
    var environment = X87Environment(image, format)
    processor.setPointers(environment)
    environment.forgetPointers()
    if format.size != 28 { memmove(image + 28, image + format.size, registerBytes) }
    environment.write(to: image, .protected32)
    processor.maskedControl = nil
    nativeX87RestoreImage(image)
    nativeX87Classify(processor.cpu)
    return .next
  }
}

extension X87Environment {
  /// The host never sees the guest's pointers, nor the guest the host's.
  fileprivate mutating func forgetPointers() {
    instructionPointer = 0
    dataPointer = 0
    codeSegment = 0
    dataSegment = 0
    opcode = 0
  }
}

extension SoftwareProcessor {
  /// The environment in an image that the host stored, with the guest's pointers.
  fileprivate func environment(of image: UnsafeRawPointer) -> X87Environment {
    var environment = X87Environment(image, .protected32)
    environment.instructionPointer = cpu.pointee.fpuInstructionPointer
    environment.dataPointer = cpu.pointee.fpuDataPointer
    environment.codeSegment = cpu.pointee.fpuCodeSegment
    environment.dataSegment = cpu.pointee.fpuDataSegment
    environment.opcode = cpu.pointee.fpuOpcode
    return environment
  }

  fileprivate func setPointers(_ environment: X87Environment) {
    cpu.pointee.fpuInstructionPointer = environment.instructionPointer
    cpu.pointee.fpuDataPointer = environment.dataPointer
    cpu.pointee.fpuCodeSegment = environment.codeSegment
    cpu.pointee.fpuDataSegment = environment.dataSegment
    cpu.pointee.fpuOpcode = environment.opcode
  }

  /// By operand size (14, 28, 94 or 108 bytes) and mode.
  fileprivate func environmentFormat(_ op: Op) -> X87Environment.Format {
    let isSmall = op.pointee.size == 14 || op.pointee.size == 94
    if usesParagraphs { return isSmall ? .real16 : .real32 }
    return isSmall ? .protected16 : .protected32
  }
}
