import CHost
import Foundation
import Machine
import Memory
import TestSupport
import Testing
import X86

@testable import Processor

/// Two machines that are alike in everything, of which one interprets its code and the other translates all of it. What
/// one does, the other must do.
///
/// In IA-32e mode eight linear pages at `window` lead to pages of RAM that are not neighbours, but for a page that is
/// missing, one that is read-only and one that belongs to the kernel; behind them is a page beyond RAM. Faults end in a
/// HLT at their vector's handler, on a stack of its own.
final class TwinMachines {
  typealias Layout = TestProcessor.Layout

  enum Window {
    static let linear: UInt64 = 0x40_0000
    static let table: UInt64 = 0x2_8000
    static let physical: UInt64 = 0x10_0000
    static let missing: UInt64 = 3
    static let readOnly: UInt64 = 5
    static let kernel: UInt64 = 6
    static let device: UInt64 = 8
    static let pages: UInt64 = 8

    /// The page of RAM that a page of the window leads to.
    static func page(_ number: UInt64) -> UInt64 { physical + (number * 5 + 3) % 16 * 0x1000 }
  }

  static let hlt: UInt8 = 0xf4
  /// Where handlers are.
  static func handler(_ vector: Int) -> UInt64 { 0x5_0000 + UInt64(vector) * 0x40 }

  let machines: [TestProcessor]
  let engines: [SoftwareEngine]

  init(_ mode: TestProcessor.Mode = .long64, ring: Int = 0, options: TranslationOptions = .eager) {
    machines = (0..<2).map { _ in TestProcessor(mode, ring: ring) }
    engines = zip(machines, [nil, options]).map {
      SoftwareEngine(memory: $0.memory, model: CPUModel(), translation: $1)
    }
    let isLong = mode == .long64 || mode == .compatibility
    placeHandlers()
    for machine in machines {
      machine.cpu.pointee.cr4 |= CR4.osfxsr | CR4.osxmmexcpt
      for vector in 0..<32 where mode != .real {
        machine.setGate(
          vector, TestProcessor.selector(isLong ? TestProcessor.Entry.code64 : TestProcessor.Entry.code32),
          Self.handler(vector), stack: isLong ? 1 : 0)
      }
      guard isLong else { continue }
      // Marked as accessed from the start: see `compare`.
      machine.store(Window.table | 0x27, Layout.pageTables + 0x2010)
      for page in 0..<Window.pages where page != Window.missing {
        let rights: UInt64 = page == Window.readOnly ? 5 : page == Window.kernel ? 3 : 7
        machine.store(Window.page(page) | rights, Window.table + 8 * page)
      }
      machine.store(0x30_0007 as UInt64, Window.table + 8 * Window.device)
    }
  }

  /// Handlers, and in real mode the table that leads to them: programs that write anywhere may have changed them.
  func placeHandlers() {
    for vector in 0..<32 {
      place([Self.hlt], at: Self.handler(vector))
      guard machines[0].cpu.pointee.cr0 & CR0.pe == 0 else { continue }
      each { $0.store(UInt32(Self.handler(vector) >> 4) << 16, UInt64(vector) * 4) }
    }
  }

  /// Does the same to both.
  func each(_ body: (TestProcessor) -> Void) {
    for machine in machines { body(machine) }
  }

  var cpu: CPUState { machines[1].cpu.pointee }

  /// Puts code in place and tells the engines.
  func place(_ code: [UInt8], at address: UInt64 = Layout.code) {
    each { $0.place(code, at: address) }
    for engine in engines { engine.invalidate(address..<address + UInt64(code.count)) }
  }

  /// Runs both and compares what came of it. Device reads are answered, and both go on.
  @discardableResult
  func run(budget: UInt64 = 10_000, undefined: UInt64 = 0, _ name: @autoclosure () -> String = "") throws -> VMExit {
    for _ in 0..<64 {
      let exits = try zip(machines, engines).map { try $1.run(&$0.cpu.pointee, budget: budget) }
      let difference = compare(undefined: undefined)
      if exits[0] != exits[1] || !difference.isEmpty {
        Issue.record("\(name()): \(exits[0]) and \(exits[1]): \(difference.joined(separator: ", "))")
        return exits[0]
      }
      switch exits[0] {
      case .memoryRead:
        each {
          $0.cpu.pointee.completion = ExitCompletion(
            data: 0x8877_6655_4433_2211, isValid: 1, isRefused: 0, reserved: (0, 0, 0, 0, 0, 0))
        }
      case .memoryWrite: break
      default: return exits[0]
      }
    }
    return .yield
  }

  /// What differs, interpreted first. `undefined` are flags that need not be the same.
  func compare(undefined: UInt64 = 0) -> [String] {
    let (one, other) = (machines[0].cpu, machines[1].cpu)
    var differences: [String] = []
    func check(_ name: String, _ value: UInt64, _ otherValue: UInt64) {
      guard value != otherValue else { return }
      differences.append("\(name) \(String(value, radix: 16)) \(String(otherValue, radix: 16))")
    }
    for number in 0..<16 { check("r\(number)", Self.register(one, number), Self.register(other, number)) }
    check("rip", one.pointee.rip, other.pointee.rip)
    check("rflags", one.pointee.rflags & ~undefined, other.pointee.rflags & ~undefined)
    check("cr2", one.pointee.cr2, other.pointee.cr2)
    check("cpl", UInt64(one.pointee.cpl), UInt64(other.pointee.cpl))
    check("cs", UInt64(one.pointee.segments.1.selector), UInt64(other.pointee.segments.1.selector))
    check("ss", UInt64(one.pointee.segments.2.selector), UInt64(other.pointee.segments.2.selector))
    check("ds base", one.pointee.segments.3.base, other.pointee.segments.3.base)
    check("fs base", one.pointee.segments.4.base, other.pointee.segments.4.base)
    check("gs base", one.pointee.segments.5.base, other.pointee.segments.5.base)
    check("es base", one.pointee.segments.0.base, other.pointee.segments.0.base)
    check("count", one.pointee.instructionCount, other.pointee.instructionCount)
    check("shadow", UInt64(one.pointee.interruptShadow.rawValue), UInt64(other.pointee.interruptShadow.rawValue))
    check("activity", UInt64(one.pointee.activity.rawValue), UInt64(other.pointee.activity.rawValue))
    for offset in stride(from: StateOffset.xmm(0), to: StateOffset.xmm(16), by: 8) {
      let number = (offset - StateOffset.xmm(0)) / 16
      check("xmm\(number)", Self.quad(one, offset), Self.quad(other, offset))
    }
    // The page tables with their accessed and dirty bits among it.
    for page in 0..<machines[0].memory.size >> 12 {
      guard let host = machines[0].memory.hostPage(of: GuestPhysicalAddress(page << 12)),
        let otherHost = machines[1].memory.hostPage(of: GuestPhysicalAddress(page << 12))
      else { continue }
      guard memcmp(host, otherHost, 4096) != 0 else { continue }
      let offset = (0..<4096).first {
        host.load(fromByteOffset: $0, as: UInt8.self) != otherHost.load(fromByteOffset: $0, as: UInt8.self)
      }
      let address = page << 12 + UInt64(offset ?? 0)
      check("byte at \(String(address, radix: 16))", machines[0].load(address & ~7), machines[1].load(address & ~7))
    }
    return differences
  }

  static func register(_ cpu: UnsafeMutablePointer<CPUState>, _ number: Int) -> UInt64 { quad(cpu, number * 8) }

  private static func quad(_ cpu: UnsafeMutablePointer<CPUState>, _ offset: Int) -> UInt64 {
    UnsafeRawPointer(cpu).load(fromByteOffset: offset, as: UInt64.self)
  }

  func set(_ number: Int, _ value: UInt64) {
    each { UnsafeMutableRawPointer($0.cpu).storeBytes(of: value, toByteOffset: number * 8, as: UInt64.self) }
  }

  /// Makes both run from `address` on.
  func restart(at address: UInt64 = Layout.code) {
    each {
      $0.cpu.pointee.rip = address
      $0.cpu.pointee.activity = .running
      $0.cpu.pointee.interruptShadow = []
    }
  }
}
