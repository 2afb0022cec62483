/// The 256 bytes of configuration registers of one PCI function (PCI Local Bus Specification 3.0, 6.1), and which of their
/// bits a guest may change.
///
/// Registers are data: a function builds its space once, saying for each register what it reads and what is writable,
/// and then only asks what the guest has set. Nothing is writable unless somebody said so.
public struct PCIConfigurationSpace {
  /// Offsets of the registers that all functions have.
  public enum Register {
    public static let vendor = 0x00
    public static let device = 0x02
    public static let command = 0x04
    public static let status = 0x06
    public static let revision = 0x08
    /// Three bytes: programming interface, subclass, class.
    public static let classCode = 0x09
    public static let headerType = 0x0e
    public static let baseAddress = 0x10
    public static let subsystemVendor = 0x2c
    public static let subsystem = 0x2e
    public static let capabilities = 0x34
    public static let interruptLine = 0x3c
    public static let interruptPin = 0x3d
  }

  /// What lies behind a base-address register.
  public enum BaseAddressKind: Sendable, Equatable {
    case ports
    case memory32(prefetchable: Bool)
    /// Takes two registers.
    case memory64(prefetchable: Bool)
  }

  public static let size = 256

  private var bytes = [UInt8](repeating: 0, count: size)
  private var writable = [UInt8](repeating: 0, count: size)
  private var clearedByOne = [UInt8](repeating: 0, count: size)

  /// `classCode` is class, subclass and programming interface in its three low bytes: 0x060000 is a host bridge.
  public init(
    vendor: UInt16, device: UInt16, revision: UInt8, classCode: UInt32, isMultifunction: Bool = false,
    subsystemVendor: UInt16 = 0, subsystem: UInt16 = 0
  ) {
    set(Register.vendor, vendor)
    set(Register.device, device)
    set(Register.revision, revision)
    for index in 0..<3 { set(Register.classCode + index, UInt8(truncatingIfNeeded: classCode >> (8 * UInt32(index)))) }
    set(Register.headerType, UInt8(isMultifunction ? 0x80 : 0))
    set(Register.subsystemVendor, subsystemVendor)
    set(Register.subsystem, subsystem)
  }

  // MARK: Building

  /// Gives a register its value and the bits that a guest may change. Little-endian; the register must lie in the space.
  public mutating func set<T: FixedWidthInteger & UnsignedInteger>(
    _ register: Int, _ value: T, writable: T = 0, clearedByOne: T = 0
  ) {
    precondition(register >= 0 && register + T.bitWidth / 8 <= Self.size, "a register outside of configuration space")
    for index in 0..<T.bitWidth / 8 {
      bytes[register + index] = UInt8(truncatingIfNeeded: value >> (8 * T(index)))
      self.writable[register + index] = UInt8(truncatingIfNeeded: writable >> (8 * T(index)))
      self.clearedByOne[register + index] = UInt8(truncatingIfNeeded: clearedByOne >> (8 * T(index)))
    }
  }

  /// Lets a guest change these bits, too, of a register that has its value already.
  public mutating func allow(_ register: Int, _ bits: UInt16) {
    for index in 0..<2 { writable[register + index] |= UInt8(truncatingIfNeeded: bits >> (8 * UInt16(index))) }
  }

  /// Adds base-address register `index`, 0 to 5, for `size` bytes, a power of two (ports: 4 to 256; memory: 16 and more).
  /// The address bits below the size are fixed at zero: that is how a guest learns the size (6.2.5.1).
  public mutating func addBaseAddress(_ index: Int, kind: BaseAddressKind, size: UInt64) {
    precondition(size.nonzeroBitCount == 1, "a base-address register decodes a power of two")
    let register = Register.baseAddress + 4 * index
    let mask = ~(size - 1)
    switch kind {
    case .ports:
      precondition((0..<6).contains(index) && (4...256).contains(size), "PCI 3.0, 6.2.5.1")
      set(register, UInt32(1), writable: UInt32(truncatingIfNeeded: mask))
    case .memory32(let prefetchable):
      precondition((0..<6).contains(index) && (16...1 << 31).contains(size), "PCI 3.0, 6.2.5.1")
      set(register, UInt32(prefetchable ? 8 : 0), writable: UInt32(truncatingIfNeeded: mask))
    case .memory64(let prefetchable):
      precondition((0..<5).contains(index) && size >= 16, "PCI 3.0, 6.2.5.1")
      set(register, UInt64(prefetchable ? 0xc : 4), writable: mask)
    }
  }

  // MARK: The function's own view

  /// A register's value, little-endian; the register must lie in the space.
  public func get<T: FixedWidthInteger & UnsignedInteger>(_ register: Int, as type: T.Type = T.self) -> T {
    precondition(register >= 0 && register + T.bitWidth / 8 <= Self.size, "a register outside of configuration space")
    return (0..<T.bitWidth / 8).reduce(0) { $0 | T(truncatingIfNeeded: bytes[register + $1]) << T(8 * $1) }
  }

  /// Gives a register another value; what a guest may change of it stays.
  public mutating func put(_ register: Int, _ value: UInt16) {
    for index in 0..<2 { bytes[register + index] = UInt8(truncatingIfNeeded: value >> (8 * UInt16(index))) }
  }

  /// Everything that a guest can have changed: the whole space, for a snapshot.
  public var contents: [UInt8] { bytes }

  /// Takes a snapshot's contents over: the bits that a guest can have changed.
  public mutating func restore(_ contents: [UInt8]) {
    for (index, byte) in contents.prefix(Self.size).enumerated() {
      let changeable = writable[index] | clearedByOne[index]
      bytes[index] = bytes[index] & ~changeable | byte & changeable
    }
  }

  // MARK: The guest's view

  /// Reads one byte; `offset` is 0 to 255.
  public func read(_ offset: UInt8) -> UInt8 { bytes[Int(offset)] }

  /// Writes one byte; bits that are not writable keep their value.
  public mutating func write(_ offset: UInt8, _ value: UInt8) {
    let index = Int(offset)
    let mask = writable[index]
    bytes[index] = (bytes[index] & ~mask | value & mask) & ~(value & clearedByOne[index])
  }
}
