import CHost
import Memory
import X86

/// Selectors of the segments in which a kernel is entered.
struct BootSelectors {
  let code: UInt16
  let data: UInt16
  /// The task register has to hold something in protected mode.
  let task: UInt16

  private init(code: UInt16) {
    self.code = code
    data = code + 8
    task = code + 16
  }

  /// What Linux's boot protocol names `__BOOT_CS` and `__BOOT_DS`.
  static let linux = BootSelectors(code: 0x10)
  /// Multiboot leaves them open. GRUB 0.97 and QEMU have these, GRUB 2 has Linux's. Kernels whose own table begins with code
  /// and data, as most do, may go on with the selector that they were entered with (xv6 does), and then need these.
  static let multiboot = BootSelectors(code: 0x08)
}

/// The processor states in which boot protocols enter a kernel. Each starts from a state after reset and sets what the
/// protocol prescribes.
extension CPUState {
  private static let flatLimit: UInt32 = 0xffff_ffff

  /// Bytes that the descriptor table takes, a multiple of 8.
  static let bootDescriptorTableSize = 8 * 6

  /// Flat 32-bit protected mode without paging, interrupts off, registers zero. The descriptor table is written to
  /// `descriptorTable`.
  mutating func enterProtectedMode(
    memory: GuestMemory, descriptorTable: UInt64 = BootLayout.descriptorTable, selectors: BootSelectors = .linux
  ) {
    clearRegisters()
    cr0 = CR0.pe | CR0.et
    cr3 = 0
    cr4 = 0
    efer = 0
    loadSegments(selectors, codeMode: SegmentAttributes.big, memory: memory, table: descriptorTable)
  }

  /// 64-bit mode with the low 4 GiB mapped to themselves in pages of 2 MiB, interrupts off, registers zero.
  mutating func enterLongMode(memory: GuestMemory) {
    clearRegisters()
    memory.placeIdentityMap()
    cr0 = CR0.pe | CR0.et | CR0.pg
    cr3 = BootLayout.pageTables
    cr4 = CR4.pae
    efer = EFER.lme | EFER.lma
    loadSegments(.linux, codeMode: SegmentAttributes.long, memory: memory, table: BootLayout.descriptorTable)
  }

  private mutating func clearRegisters() {
    gpr = (0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
    rflags = RFLAGS.fixed
    cr2 = 0
    cpl = 0
    activity = .running
    interruptShadow = []
    idtr = DescriptorTableState(base: 0, limit: 0, reserved: 0)
    ldtr = SegmentState(base: 0, limit: 0, selector: 0, attributes: 0)
  }

  /// Loads all segment registers with flat segments, and writes the table that they would have come from.
  private mutating func loadSegments(
    _ selectors: BootSelectors, codeMode: UInt16, memory: GuestMemory, table address: UInt64
  ) {
    let common =
      SegmentAttributes.accessed | SegmentAttributes.readWrite | SegmentAttributes.nonSystem
      | SegmentAttributes.present | SegmentAttributes.granularity
    let code = SegmentState(
      base: 0, limit: Self.flatLimit, selector: selectors.code, attributes: common | SegmentAttributes.code | codeMode)
    let data = SegmentState(
      base: 0, limit: Self.flatLimit, selector: selectors.data, attributes: common | SegmentAttributes.big)
    // A busy 32-bit (in 64-bit mode: 64-bit) task-state segment at 0, of the smallest size.
    tr = SegmentState(base: 0, limit: 0x67, selector: selectors.task, attributes: 0xb | SegmentAttributes.present)
    segments = (data, code, data, data, data, data)

    var table = ByteWriter(count: Self.bootDescriptorTableSize)
    for segment in [code, data, tr] { table.put(segment.descriptor, at: Int(segment.selector)) }
    memory.place(table.bytes, at: address)
    gdtr = DescriptorTableState(base: address, limit: UInt32(table.bytes.count - 1), reserved: 0)
  }
}

extension SegmentState {
  /// The descriptor that this segment would be loaded from, for bases below 4 GiB (SDM vol. 3A, 3.4.5).
  fileprivate var descriptor: UInt64 {
    let isPaged = attributes & SegmentAttributes.granularity != 0
    let limit = UInt64(isPaged ? self.limit >> 12 : self.limit)
    var value = limit & 0xffff | (base & 0xff_ffff) << 16
    value |= UInt64(attributes & 0xf0ff) << 40
    value |= (limit >> 16 & 0xf) << 48
    return value | (base >> 24 & 0xff) << 56
  }
}

extension GuestMemory {
  /// Four-level page tables that map the low 4 GiB to themselves (SDM vol. 3A, 4.5).
  fileprivate func placeIdentityMap() {
    let presentWritable: UInt64 = 0b11
    let large: UInt64 = 1 << 7
    let pageSize = 4096
    var tables = ByteWriter(count: 6 * pageSize)
    tables.put(BootLayout.pageTables + 0x1000 | presentWritable, at: 0)
    for directory in 0..<4 {
      tables.put(
        BootLayout.pageTables + 0x2000 + UInt64(directory * pageSize) | presentWritable, at: pageSize + 8 * directory)
    }
    for page in 0..<4 * 512 {
      tables.put(UInt64(page) << 21 | presentWritable | large, at: 2 * pageSize + 8 * page)
    }
    place(tables.bytes, at: BootLayout.pageTables)
  }
}
