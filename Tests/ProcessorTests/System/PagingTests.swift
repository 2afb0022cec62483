import CHost
import Memory
import Testing
import X86

@testable import Processor

/// Address translation against the manual's rules (SDM vol. 3A, 4.6 and 4.7), written down here a second time as one
/// formula over all levels' bits.
struct PagingTests {
  enum Paging: String, CaseIterable, CustomTestStringConvertible {
    case legacy, legacyLarge, pae, paeLarge, fourLevel, fourLevel2M, fourLevel1G, fiveLevel
    var testDescription: String { rawValue }

    var isLong: Bool { self == .fiveLevel || rawValue.hasPrefix("four") }
    var hasWideEntries: Bool { self != .legacy && self != .legacyLarge }
    /// Shifts of the levels whose entries have rights, top to leaf.
    var shifts: [UInt64] {
      switch self {
      case .legacy: [22, 12]
      case .legacyLarge: [22]
      case .pae: [21, 12]
      case .paeLarge: [21]
      case .fourLevel: [39, 30, 21, 12]
      case .fourLevel2M: [39, 30, 21]
      case .fourLevel1G: [39, 30]
      case .fiveLevel: [48, 39, 30, 21, 12]
      }
    }
  }

  /// What an entry of the upper levels, and the leaf, say.
  struct Bits: OptionSet {
    let rawValue: Int
    static let present = Bits(rawValue: 1)
    static let writable = Bits(rawValue: 2)
    static let user = Bits(rawValue: 4)
    static let noExecute = Bits(rawValue: 8)
    static let all = 0..<16

    var entry: UInt64 { UInt64(rawValue & 7) | (contains(.noExecute) ? 1 << 63 : 0) }
  }

  struct Controls {
    var writeProtect = true
    var smep = false
    var smap = false
    var access = false
    var noExecute = true
  }

  typealias Layout = TestProcessor.Layout

  static let linear: UInt64 = 0x1234_5678 & ~0xfff | 0x123
  static let tables: UInt64 = 0x4_0000

  /// Builds the tables for one address and enters the paging mode. Returns the entries' addresses, top to leaf.
  static func prepare(_ test: TestProcessor, _ paging: Paging, upper: Bits, leaf: Bits, extra: UInt64 = 0) -> [UInt64] {
    let cpu = test.cpu
    let width: UInt64 = paging.hasWideEntries ? 8 : 4
    let indexMask: UInt64 = paging.hasWideEntries ? 0x1ff : 0x3ff
    var table = tables
    if !paging.isLong, paging.hasWideEntries {
      cpu.pointee.pdpte = (tables | 1, tables | 1, tables | 1, tables | 1)
    }
    var locations: [UInt64] = []
    for (number, shift) in paging.shifts.enumerated() {
      let isLeaf = number == paging.shifts.count - 1
      let location = table + (linear >> shift & indexMask) * width
      locations.append(location)
      var entry = isLeaf ? leaf.entry | extra : upper.entry | (table + 0x1000)
      if isLeaf, shift > 12 { entry |= 0x80 }
      if isLeaf, shift == 12 { entry |= 0x5000 }
      if width == 8 {
        test.store(entry, location)
      } else {
        test.store(UInt32(truncatingIfNeeded: entry), location)
      }
      table += 0x1000
    }
    cpu.pointee.cr3 = tables
    cpu.pointee.efer = paging.isLong ? EFER.lme | EFER.lma : 0
    return locations
  }

  static func apply(_ test: TestProcessor, _ paging: Paging, _ controls: Controls, cpl: UInt8) {
    let cpu = test.cpu
    cpu.pointee.cr0 = CR0.pe | CR0.pg | (controls.writeProtect ? CR0.wp : 0)
    cpu.pointee.cr4 =
      CR4.pse | (paging.hasWideEntries ? CR4.pae : 0) | (paging == .fiveLevel ? CR4.la57 : 0)
      | (controls.smep ? CR4.smep : 0) | (controls.smap ? CR4.smap : 0)
    cpu.pointee.efer = cpu.pointee.efer & ~EFER.nxe | (controls.noExecute ? EFER.nxe : 0)
    cpu.pointee.rflags = RFLAGS.fixed | (controls.access ? RFLAGS.ac : 0)
    cpu.pointee.cpl = cpl
    test.processor.translations.flushAll()
    test.processor.modeChanged()
  }

  /// The error code that the manual wants; nil: no fault.
  static func expected(
    _ paging: Paging, upper: Bits, leaf: Bits, _ controls: Controls, _ kind: AccessKind, isUser: Bool, isImplicit: Bool
  ) -> UInt32? {
    let hasNX = controls.noExecute && paging.hasWideEntries
    var code: UInt32 = isUser ? 4 : 0
    if kind == .write { code |= 2 }
    if kind == .fetch, hasNX || controls.smep { code |= 16 }
    let entries = [Bits](repeating: upper, count: paging.shifts.count - 1) + [leaf]
    for entry in entries {
      guard entry.contains(.present) else { return code }
      if !hasNX, paging.hasWideEntries, entry.contains(.noExecute) { return code | 9 }
    }
    let isUserPage = entries.allSatisfy { $0.contains(.user) }
    let isWritable = entries.allSatisfy { $0.contains(.writable) }
    let isNoExecute = hasNX && entries.contains { $0.contains(.noExecute) }
    let denied: Bool
    switch (isUser, kind) {
    case (true, .read): denied = !isUserPage
    case (true, .write): denied = !isUserPage || !isWritable
    case (true, .fetch): denied = !isUserPage || isNoExecute
    case (false, .fetch): denied = isNoExecute || (isUserPage && controls.smep)
    case (false, _):
      let barred = isUserPage && controls.smap && (isImplicit || !controls.access)
      denied = barred || (kind == .write && !isWritable && controls.writeProtect)
    }
    return denied ? code | 1 : nil
  }

  @Test(arguments: Paging.allCases)
  func rightsMatrix(_ paging: Paging) {
    let test = TestProcessor(.protected32, model: Self.wideModel)
    var cases = 0
    var wrong: [String] = []
    let choices: [Controls] = [
      Controls(), Controls(writeProtect: false), Controls(smep: true), Controls(smap: true),
      Controls(smap: true, access: true), Controls(noExecute: false), Controls(smep: true, noExecute: false),
      Controls(writeProtect: false, smep: true, smap: true),
    ]
    for upperBits in Bits.all {
      for leafBits in Bits.all {
        let upper = Bits(rawValue: paging.hasWideEntries ? upperBits : upperBits & 7)
        let leaf = Bits(rawValue: paging.hasWideEntries ? leafBits : leafBits & 7)
        for controls in choices {
          for (kind, isUser, rights) in Self.accesses {
            let entries = Self.prepare(test, paging, upper: upper, leaf: leaf)
            Self.apply(test, paging, controls, cpl: isUser && rights == .current ? 3 : 0)
            let want = Self.expected(
              paging, upper: upper, leaf: leaf, controls, kind, isUser: isUser,
              isImplicit: rights == .implicitSupervisor)
            let got = Self.outcome(test, kind, rights)
            cases += 1
            if got != want {
              wrong.append(
                "\(upper) \(leaf) \(controls) \(kind) \(rights): \(String(describing: got)), not \(String(describing: want))"
              )
            } else if want == nil {
              wrong += Self.marks(test, paging, entries, kind)
            } else if entries.contains(where: { test.load($0, as: UInt32.self) & 0x60 != 0 }) {
              wrong.append("\(upper) \(leaf) \(controls) \(kind) \(rights): refused, but an entry is marked")
            }
          }
        }
      }
    }
    #expect(wrong.isEmpty, "\(wrong.count) of \(cases): \(wrong.prefix(5).joined(separator: "\n"))")
  }

  static let accesses: [(AccessKind, Bool, AccessRights)] = [
    (.read, true, .current), (.write, true, .current), (.fetch, true, .current), (.read, false, .current),
    (.write, false, .current), (.fetch, false, .current), (.read, false, .implicitSupervisor),
    (.write, false, .implicitSupervisor), (.read, true, .user), (.write, true, .user),
  ]

  static var wideModel: CPUModel {
    var model = CPUModel()
    model.features.insert(.la57)
    model.features.insert(.pku)
    return model
  }

  static func outcome(_ test: TestProcessor, _ kind: AccessKind, _ rights: AccessRights) -> UInt32? {
    do throws(GuestFault) {
      _ = try test.processor.translate(linear, for: kind, rights: rights)
      return nil
    } catch {
      guard case .pageFault(linear, let code) = error else { return ~0 }
      return code
    }
  }

  /// Accessed bits in all entries, dirty in the leaf for a write and only then.
  static func marks(_ test: TestProcessor, _ paging: Paging, _ entries: [UInt64], _ kind: AccessKind) -> [String] {
    var wrong: [String] = []
    for (number, location) in entries.enumerated() {
      let entry = UInt64(test.load(location, as: UInt32.self))
      let isLeaf = number == entries.count - 1
      if entry & 0x20 == 0 { wrong.append("level \(number) is not marked accessed") }
      if (entry & 0x40 != 0) != (isLeaf && kind == .write) { wrong.append("level \(number): wrong dirty bit") }
    }
    return wrong
  }

  @Test func reservedBits() {
    for paging in Paging.allCases where paging.hasWideEntries {
      let test = TestProcessor(.protected32, model: Self.wideModel)
      let shift = paging.shifts.last!
      for bit in UInt64(12)..<63 {
        _ = Self.prepare(test, paging, upper: [.present, .writable, .user], leaf: [.present], extra: 1 << bit)
        Self.apply(test, paging, Controls(), cpl: 0)
        // Address bits inside a large page (12 is PAT), beyond the physical width; 52 to 62 outside long mode.
        let isReserved = (bit > 12 && bit < shift) || (bit >= 40 && bit < 52) || (bit >= 52 && !paging.isLong)
        let want: UInt32? = isReserved ? 9 : nil
        #expect(Self.outcome(test, .read, .current) == want, "\(paging) bit \(bit)")
      }
    }
    let test = TestProcessor(.protected32)
    for bit in UInt64(13)..<22 {
      _ = Self.prepare(test, .legacyLarge, upper: [], leaf: [.present], extra: 1 << bit)
      Self.apply(test, .legacyLarge, Controls(), cpl: 0)
      // Bits 13 to 20 are address bits 32 to 39 (PSE-36), all valid with 40 bits.
      #expect(Self.outcome(test, .read, .current) == (bit == 21 ? 9 : nil), "bit \(bit)")
    }
  }

  @Test func protectionKeys() {
    let test = TestProcessor(.protected32, model: Self.wideModel)
    for key in UInt64(0)..<16 {
      for bits in UInt32(0)..<4 {
        for (kind, isUser, writeProtect) in [
          (AccessKind.read, true, true), (.write, true, true), (.fetch, true, true), (.read, false, true),
          (.write, false, true), (.write, false, false),
        ] {
          _ = Self.prepare(
            test, .fourLevel, upper: [.present, .writable, .user], leaf: [.present, .writable, .user], extra: key << 59)
          Self.apply(test, .fourLevel, Controls(writeProtect: writeProtect), cpl: isUser ? 3 : 0)
          test.cpu.pointee.cr4 |= CR4.pke
          test.cpu.pointee.pkru = bits << UInt32(2 * key)
          let isDenied: Bool =
            switch kind {
            case .fetch: false
            case .read: bits & 1 != 0
            case .write: bits & 1 != 0 || (bits & 2 != 0 && (isUser || writeProtect))
            }
          let code: UInt32 = 0x21 | (isUser ? 4 : 0) | (kind == .write ? 2 : 0)
          #expect(Self.outcome(test, kind, .current) == (isDenied ? code : nil), "key \(key) bits \(bits) \(kind)")
        }
      }
    }
  }

  /// The key's bit of the error code stands beside those of other violations.
  @Test func protectionKeysBesideOtherRights() {
    let test = TestProcessor(.protected32, model: Self.wideModel)
    for (leaf, kind, isUser, code) in [
      ([.present, .user], .write, true, 0x27), ([.present, .user], .write, false, 0x23),
      ([.present, .writable], .write, true, 7), ([.present, .user, .noExecute], .fetch, true, 0x15),
    ] as [(Bits, AccessKind, Bool, UInt32)] {
      _ = Self.prepare(test, .fourLevel, upper: [.present, .writable, .user], leaf: leaf, extra: 1 << 59)
      Self.apply(test, .fourLevel, Controls(), cpl: isUser ? 3 : 0)
      test.cpu.pointee.cr4 |= CR4.pke | CR4.pks
      test.cpu.pointee.pkru = 3 << 2
      test.cpu.pointee.pkrs = 3 << 2
      #expect(Self.outcome(test, kind, .current) == code, "\(kind)")
    }
  }

  /// Metadata in the upper bits of data addresses, where linear-address masking is on for them.
  @Test func addressMasking() {
    let u48 = CR3.lamU48
    let u57 = CR3.lamU57
    let supervisor = CR4.lamSupervisor
    let tagged: UInt64 = 0x2a55 << 48
    let cases: [(isWide: Bool, cr3: UInt64, cr4: UInt64, address: UInt64, masked: UInt64)] = [
      (false, 0, 0, 0x2a55_0000_1234_5000, 0x2a55_0000_1234_5000),
      (false, u48, 0, 0x2a55_0000_1234_5000, 0x1234_5000), (false, u57, 0, 0x2a00_0000_1234_5000, 0x1234_5000),
      (false, u57 | u48, 0, 0x2a00_0000_1234_5000, 0x1234_5000),
      // Bit 56 is no metadata to LAM57, nor is bit 47 to LAM48.
      (false, u57, 0, 0x0100_0000_1234_5000, 0x7f00_0000_1234_5000),
      (false, u48, 0, 0x2a55_8000_1234_5000, 0x7fff_8000_1234_5000),
      (false, u48 | u57, 0, tagged | 1 << 63, tagged | 1 << 63),
      (false, 0, supervisor, 0xaa55_8000_1234_5000, 0xffff_8000_1234_5000),
      (false, 0, supervisor, 0x2a55_0000_1234_5000, 0x2a55_0000_1234_5000),
      (true, 0, supervisor, 0xabff_8000_1234_5000, 0xffff_8000_1234_5000),
      (true, u48, 0, 0x2a55_0000_1234_5000, 0x1234_5000),
    ]
    for entry in cases {
      let test = TestProcessor(.long64, model: CPUModel(level: .max))
      test.cpu.pointee.cr3 |= entry.cr3
      test.cpu.pointee.cr4 |= entry.cr4 | (entry.isWide ? CR4.la57 : 0)
      #expect(test.processor.withoutMetadata(entry.address) == entry.masked, "\(String(entry.address, radix: 16))")
    }
    // No such bits without the feature, nor anything to be masked; code is never masked.
    let plain = TestProcessor(.long64)
    #expect(plain.processor.withoutMetadata(tagged) == tagged)
    #expect(ControlRegisterTests.set(plain, 3, Layout.pageTables | u48) == .generalProtection())
    let test = TestProcessor(.long64, model: CPUModel(level: .max))
    #expect(ControlRegisterTests.set(test, 3, Layout.pageTables | u48) == nil)
    #expect(ControlRegisterTests.set(test, 4, CR4.pae | supervisor) == nil)
    test.cpu.pointee.gpr.3 = tagged | Layout.data
    test.store(0x1122_3344 as UInt32, Layout.data)
    #expect(test.execute(0x8b, 0x03) == nil && test.cpu.pointee.gpr.0 == 0x1122_3344)
    #expect(test.execute(0x64, 0x8b, 0x03) == nil)
    #expect(test.execute(0xff, 0xe3) == .generalProtection(), "JMP RBX")
    test.cpu.pointee.gpr.3 |= 1 << 47
    #expect(test.execute(0x8b, 0x03) == .generalProtection())
  }

  @Test func physicalAddresses() throws {
    let test = TestProcessor(.protected32, model: Self.wideModel)
    for paging in Paging.allCases {
      _ = Self.prepare(test, paging, upper: [.present, .writable, .user], leaf: [.present])
      Self.apply(test, paging, Controls(), cpl: 0)
      let physical = try test.processor.translate(Self.linear, for: .read, rights: .current)
      let shift = paging.shifts.last!
      let frame: UInt64 = shift == 12 ? 0x5000 : 0
      #expect(physical.rawValue == frame | Self.linear & ((1 << shift) - 1), "\(paging)")
    }
  }

  /// While A20 is masked, bit 20 of every physical address is clear: of data, code and page tables.
  @Test func addressLine20() throws {
    let test = TestProcessor(.real)
    func mask(_ isMasked: Bool) {
      test.cpu.pointee.isA20Masked = isMasked ? 1 : 0
      test.processor.bringAddressLines()
    }
    test.store(0x11 as UInt8, 0x500)
    test.store(0x22 as UInt8, 0x10_0500)
    for isMasked in [false, true, false] {
      mask(isMasked)
      for _ in 0..<2 {
        #expect(try test.processor.load(0x10_0500, as: UInt8.self) == (isMasked ? 0x11 : 0x22))
        #expect(try test.processor.translateFetch(0x10_0500).rawValue == (isMasked ? 0x500 : 0x10_0500))
      }
    }
    // The page table at 12_0000H is read at 2_0000H, and what it maps to 10_0000H is at 0.
    let paged = TestProcessor(.long64)
    paged.cpu.pointee.cr3 |= 0x10_0000
    paged.cpu.pointee.isA20Masked = 1
    paged.store(0x33 as UInt8, 0x6_0000)
    paged.processor.stateChanged()
    #expect(try paged.processor.load(0x16_0000, as: UInt8.self) == 0x33)
  }

  @Test func canonicalAddresses() {
    for (paging, last) in [(Paging.fourLevel, UInt64(0x7fff_ffff_ffff)), (.fiveLevel, 0xff_ffff_ffff_ffff)] {
      let test = TestProcessor(.protected32, model: Self.wideModel)
      _ = Self.prepare(test, paging, upper: [.present], leaf: [.present])
      Self.apply(test, paging, Controls(), cpl: 0)
      for (address, isCanonical) in [(last, true), (last + 1, false), (~last, true), (~last - 1, false)] {
        #expect(test.processor.isCanonical(address) == isCanonical)
        // Registers take what any paging mode could use.
        #expect(test.processor.isCanonicalForModel(address) == (isCanonical || paging == .fourLevel))
        #expect(throws: isCanonical ? GuestFault.pageFault(address: address, errorCode: 0) : .generalProtection()) {
          try test.processor.translate(address, for: .read, rights: .current)
        }
      }
    }
  }

  /// Translations are remembered by rights: what the supervisor may do is not open to the user afterwards.
  @Test func cachedRights() {
    let test = TestProcessor(.long64)
    let cpu = test.cpu
    _ = Self.prepare(test, .fourLevel, upper: [.present, .writable, .user], leaf: [.present, .writable])
    Self.apply(test, .fourLevel, Controls(), cpl: 0)
    #expect(throws: Never.self) { try test.processor.store(1 as UInt8, at: Self.linear) }
    #expect(throws: Never.self) { try test.processor.loadSystem(Self.linear, as: UInt8.self) }
    cpu.pointee.cpl = 3
    test.processor.modeChanged()
    #expect(throws: GuestFault.pageFault(address: Self.linear, errorCode: 5)) {
      try test.processor.load(Self.linear, as: UInt8.self)
    }
    #expect(throws: Never.self) { try test.processor.loadSystem(Self.linear, as: UInt8.self) }
  }
}
