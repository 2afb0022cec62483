/// What a `FirmwareConfiguration` device holds: gathered while the machine is built.
public struct FirmwareConfigurationItems {
  /// Keys with a fixed meaning (QEMU, docs/specs/fw_cfg, "Items").
  enum Key {
    static let signature: UInt16 = 0x00
    static let features: UInt16 = 0x01
    static let memorySize: UInt16 = 0x03
    static let hasNoDisplay: UInt16 = 0x04
    static let processorCount: UInt16 = 0x05
    static let nodeCount: UInt16 = 0x0d
    static let bootMenu: UInt16 = 0x0e
    static let highestProcessorCount: UInt16 = 0x0f
    static let directory: UInt16 = 0x19
    static let firstFile: UInt16 = 0x20
    /// From here on, keys mean something on PCs only.
    static let timerOverride: UInt16 = 0x8002
  }

  /// Bits of the features item.
  enum Feature {
    static let registers: UInt32 = 1 << 0
    static let dma: UInt32 = 1 << 1
  }

  /// Bytes of a file's name in the directory, with its terminator.
  private static let nameSize = 56

  private var fixed: [UInt16: [UInt8]] = [:]
  /// By name, in the order of their keys.
  private var files: [(name: String, bytes: [UInt8])] = []
  /// By key, who is told what the guest has written.
  private(set) var writable: [UInt16: ([UInt8]) -> Void] = [:]

  /// The items that describe a machine with `memory` bytes of RAM.
  public init(memory: UInt64, processorCount: Int) {
    let count = UInt16(clamping: processorCount)
    fixed[Key.signature] = Array("QEMU".utf8)
    set(Key.features, Feature.registers | Feature.dma)
    set(Key.memorySize, memory)
    set(Key.hasNoDisplay, 1 as UInt16)
    set(Key.processorCount, count)
    set(Key.nodeCount, 0 as UInt64)
    set(Key.bootMenu, 0 as UInt16)
    set(Key.highestProcessorCount, count)
    // The timer is wired to pin 2 of the I/O APIC.
    set(Key.timerOverride, 1 as UInt8)
  }

  private mutating func set(_ key: UInt16, _ value: some FixedWidthInteger) {
    fixed[key] = withUnsafeBytes(of: value.littleEndian) { Array($0) }
  }

  /// Adds a file, such as "etc/e820". The name has at most 55 bytes of ASCII.
  public mutating func add(_ name: String, _ bytes: [UInt8]) {
    precondition(name.utf8.count < Self.nameSize, "a configuration file's name is too long")
    files.append((name, bytes))
  }

  /// Adds a file of `count` zeros that the guest may write. `onWrite` gets all of it each time, under the machine lock.
  public mutating func addWritable(_ name: String, count: Int, onWrite: @escaping ([UInt8]) -> Void) {
    writable[Key.firstFile + UInt16(clamping: files.count)] = onWrite
    add(name, [UInt8](repeating: 0, count: count))
  }

  /// All items by key, the directory among them.
  var items: [UInt16: [UInt8]] {
    var items = fixed
    var directory = bigEndian(UInt32(files.count))
    for (index, file) in files.enumerated() {
      let key = Key.firstFile + UInt16(clamping: index)
      items[key] = file.bytes
      directory += bigEndian(UInt32(clamping: file.bytes.count)) + bigEndian(key) + [0, 0]
      let name = Array(file.name.utf8)
      directory += name + [UInt8](repeating: 0, count: Self.nameSize - name.count)
    }
    items[Key.directory] = directory
    return items
  }

  private func bigEndian(_ value: some FixedWidthInteger) -> [UInt8] {
    withUnsafeBytes(of: value.bigEndian) { Array($0) }
  }
}
