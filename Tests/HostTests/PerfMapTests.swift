import Glibc
import Host
import Testing

@Suite struct PerfMapTests {
  @Test func namesAreInTheFile() throws {
    let map = try PerfMap()
    defer { unlink(map.path) }
    #expect(map.path == "/tmp/perf-\(getpid()).map")
    let start = try #require(UnsafeRawPointer(bitPattern: 0x1000))
    map.add(start, size: 0x20, name: "first")
    map.add(start + 0x20, size: 1, name: "second one")
    let file = try #require(fopen(map.path, "r"))
    defer { fclose(file) }
    var bytes = [UInt8](repeating: 0, count: 256)
    let count = fread(&bytes, 1, bytes.count, file)
    #expect(String(decoding: bytes[..<count], as: UTF8.self) == "1000 20 first\n1020 1 second one\n")
  }
}
