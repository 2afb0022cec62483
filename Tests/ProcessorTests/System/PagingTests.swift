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

  @Test func canonicalAddresses() {
    for (paging, last) in [(Paging.fourLevel, UInt64(0x7fff_ffff_ffff)), (.fiveLevel, 0xff_ffff_ffff_ffff)] {
      let test = TestProcessor(.protected32, model: Self.wideModel)
      _ = Self.prepare(test, paging, upper: [.present], leaf: [.present])
      Self.apply(test, paging, Controls(), cpl: 0)
      for (address, isCanonical) in [(last, true), (last + 1, false), (~last, true), (~last - 1, false)] {
        #expect(test.processor.isCanonical(address) == isCanonical)
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
