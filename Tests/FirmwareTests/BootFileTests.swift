import Foundation
import Testing

@testable import Firmware

@Suite struct BootFileTests {
  /// A directory that is gone after `body`.
  private func withDirectory(_ body: (String) throws -> Void) throws {
    let path = NSTemporaryDirectory() + "ringside-\(UUID().uuidString)"
    try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(atPath: path) }
    try body(path)
  }

  private func problem(_ body: () throws(BootFailure) -> Void) -> BootFailure.Problem? {
    do throws(BootFailure) {
      try body()
      return nil
    } catch {
      return error.problem
    }
  }

  @Test func readsParts() throws {
    try withDirectory { directory in
      let path = directory + "/file"
      try Data((0..<100).map { UInt8($0) }).write(to: URL(fileURLWithPath: path))
      let file = try BootFile(path: path)
      #expect(file.size == 100 && file.name == path)
      #expect(try file.bytes(at: 90, count: 10) == Array(90..<100))
      #expect(try file.head(200).count == 100)
      #expect(try file.bytes(at: 100, count: 0) == [])
      #expect(
        problem { () throws(BootFailure) in _ = try file.bytes(at: 95, count: 6) } == .truncated(needs: 101, has: 100))
      #expect(
        problem { () throws(BootFailure) in _ = try file.bytes(at: .max, count: 6) }
          == .truncated(needs: .max, has: 100))
    }
  }

  @Test func noticesThatTheFileShrank() throws {
    try withDirectory { directory in
      let path = directory + "/file"
      try Data(count: 100).write(to: URL(fileURLWithPath: path))
      let file = try BootFile(path: path)
      #expect(truncate(path, 50) == 0)
      #expect(
        problem { () throws(BootFailure) in _ = try file.bytes(at: 0, count: 100) } == .truncated(needs: 100, has: 50))
    }
  }

  @Test func readsPipesToTheirEnd() throws {
    var ends: [Int32] = [0, 0]
    #expect(pipe(&ends) == 0)
    #expect(write(ends[1], "hello", 5) == 5)
    close(ends[1])
    let file = try BootFile(path: "/dev/fd/\(ends[0])")
    close(ends[0])
    #expect(try file.head(9) == Array("hello".utf8))
  }

  @Test func saysWhyItCannot() throws {
    try withDirectory { directory in
      #expect(
        problem { () throws(BootFailure) in _ = try BootFile(path: directory + "/none") } == .cannotOpen(errno: ENOENT))
      #expect(problem { () throws(BootFailure) in _ = try BootFile(path: directory) } == .isDirectory)
    }
    let null = try BootFile(path: "/dev/null")
    #expect(problem { () throws(BootFailure) in _ = try BootImage.identify(null) } == .empty)
  }
}
