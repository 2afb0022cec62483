import CHost
import Foundation
import Memory
import Synchronization
import TestSupport
import Testing
import X86

@testable import Machine

@Suite struct SnapshotFileTests {
  private let folder = FileManager.default.temporaryDirectory.appending(path: "ringside-snapshot-\(UUID())")
  private var path: String { folder.appending(path: "test.snapshot").path }

  init() throws { try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true) }

  private func cleanUp() { try? FileManager.default.removeItem(at: folder) }

  /// A machine that halts at once, has run to there and is paused.
  private func pausedMachine() throws -> TestMachine {
    let test = try TestMachine([halt])
    let idle = Shared(0)
    test.machine.onIdle = { idle.change { $0 += 1 } }
    try test.machine.start()
    #expect(idle.wait { $0 >= 1 })
    test.machine.pause()
    return test
  }

  private func save(_ test: TestMachine) throws {
    try test.machine.writeSnapshot(to: path, .init(created: 1_700_000_000, arguments: ["--memory", "1M"]))
  }

  @Test func aMachineGoesOnInAnother() throws {
    defer { cleanUp() }
    let test = try pausedMachine()
    let pattern = (0..<5000).map { UInt8(truncatingIfNeeded: $0 * 7) }
    _ = pattern.withUnsafeBytes { test.machine.memory.write(GuestPhysicalAddress(0x7_fff0), from: $0) }
    test.device.state.value = 5
    test.state.pointee.gpr.3 = 77
    test.machine.lock.withLock { test.machine.interruptRouter.nonMaskableInterrupt(cpu: 0) }
    try save(test)
    let time = test.machine.save().time
    test.machine.end()
    #expect(test.wait() == .stopped)

    let file = try SnapshotFile(path: path)
    #expect(file.arguments == ["--memory", "1M"] && file.memorySize == 1 << 20 && file.created == 1_700_000_000)
    #expect(file.storedMemory == 2 << 18)
    let seen = Mutex<(UInt64, UInt64, UInt8)?>(nil)
    let other = try TestMachine([
      { state in
        seen.withLock { $0 = (state.gpr.3, state.tscOffset, state.nmiPending) }
        return .shutdown
      }
    ])
    other.machine.endsOnReset = true
    file.provideContents(to: other.machine.memory) { Issue.record("\($0)") }
    try other.machine.start(from: file.state(for: other.machine))
    _ = other.wait()
    #expect(seen.withLock { $0?.0 } == 77)
    #expect(seen.withLock { $0?.2 } == 1)
    #expect(other.device.state.value == 5)
    #expect(other.machine.save().time >= time)
    var copy = [UInt8](repeating: 0, count: pattern.count)
    #expect(copy.withUnsafeMutableBytes { other.machine.memory.read(GuestPhysicalAddress(0x7_fff0), into: $0) })
    #expect(copy == pattern)
  }

  @Test func otherFilesAreRefused() throws {
    defer { cleanUp() }
    let test = try pausedMachine()
    try save(test)
    test.machine.end()
    _ = test.wait()
    let good = try Data(contentsOf: URL(filePath: path))
    func failure(_ data: Data) throws -> SnapshotFailure.Reason? {
      try data.write(to: URL(filePath: path))
      do throws(SnapshotFailure) {
        let file = try SnapshotFile(path: path)
        let machine = try! TestMachine([halt])
        _ = try file.state(for: machine.machine)
        machine.loop.stop()
        return nil
      } catch { return error.reason }
    }
    #expect(try failure(good) == nil)
    #expect(try failure(Data()) == .notASnapshot)
    #expect(try failure(Data(repeating: 0x20, count: 4096)) == .notASnapshot)
    var newer = good
    newer[8] = 3
    #expect(try failure(newer) == .version(3))
    #expect(try failure(good.dropLast()) == .truncated)
    // Whatever bit of the header or the tables is wrong: an error, or nothing that matters.
    for index in [16, 17, 23, 24, 31, 32, 39, 40, 47, 48, 55, good.count - 1, good.count - 20, good.count - 40] {
      var changed = good
      changed[index] ^= 0x41
      _ = try failure(changed)
    }
    let missing = folder.appending(path: "missing").path
    #expect(throws: SnapshotFailure(missing, .host(action: "open", code: ENOENT))) { try SnapshotFile(path: missing) }
  }

  @Test func memoryThatIsDamagedIsReportedWhenItIsWanted() throws {
    defer { cleanUp() }
    let test = try pausedMachine()
    _ = [1 as UInt8, 2, 3].withUnsafeBytes { test.machine.memory.write(GuestPhysicalAddress(0), from: $0) }
    try save(test)
    test.machine.end()
    _ = test.wait()
    var data = try Data(contentsOf: URL(filePath: path))
    // The first frame lies behind the header.
    for index in 64..<80 { data[index] ^= 0xff }
    try data.write(to: URL(filePath: path))
    let memory = try GuestMemory(size: 1 << 20)
    let failures = Mutex<[SnapshotFailure]>([])
    try SnapshotFile(path: path).provideContents(to: memory) { failure in failures.withLock { $0.append(failure) } }
    #expect(failures.withLock { $0.isEmpty })
    #expect(memory.load(GuestPhysicalAddress(0), as: UInt8.self) == 0)
    #expect(memory.load(GuestPhysicalAddress(1), as: UInt8.self) == 0)
    #expect(failures.withLock { $0.count } == 1)
  }

  @Test func aFolderThatIsNotThereIsAnError() throws {
    defer { cleanUp() }
    let test = try pausedMachine()
    #expect(throws: SnapshotFailure.self) {
      try test.machine.writeSnapshot(to: folder.path + "/no/x", .init(created: 0, arguments: []))
    }
    test.machine.end()
    _ = test.wait()
  }
}
