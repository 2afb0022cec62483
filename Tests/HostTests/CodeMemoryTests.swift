import Glibc
import Host
import Testing

@Suite struct CodeMemoryTests {
  @Test func writtenCodeRuns() throws {
    let memory = try CodeMemory(size: 1)
    #expect(memory.size == 4096)
    // mov eax, 42; ret
    memory.writable.copyMemory(from: [0xb8, 42, 0, 0, 0, 0xc3] as [UInt8], byteCount: 6)
    typealias Function = @convention(c) () -> Int32
    let function = unsafeBitCast(memory.executableAddress(of: memory.writable), to: Function.self)
    #expect(function() == 42)
    // Changed in place: a single store.
    (memory.writableAddress(of: memory.executable) + 1).storeBytes(of: 43, as: UInt8.self)
    #expect(function() == 43)
  }

  @Test func noMappingIsBothWritableAndExecutable() throws {
    let memory = try CodeMemory(size: 1 << 20)
    let file = open("/proc/self/maps", O_RDONLY)
    defer { close(file) }
    var text: [UInt8] = []
    while true {
      let piece = [UInt8](unsafeUninitializedCapacity: 1 << 16) { $1 = max(0, read(file, $0.baseAddress, $0.count)) }
      if piece.isEmpty { break }
      text += piece
    }
    let places = [UnsafeRawPointer(memory.writable), memory.executable].map {
      String(UInt(bitPattern: $0), radix: 16) + "-"
    }
    let lines = String(decoding: text, as: UTF8.self).split(separator: "\n").filter { line in
      places.contains { line.hasPrefix($0) }
    }
    #expect(lines.count == 2)
    #expect(lines.contains { $0.contains(" rw-s ") })
    #expect(lines.contains { $0.contains(" r-xs ") })
    #expect(!lines.contains { $0.contains("wx") })
    withExtendedLifetime(memory) {}
  }

  /// Large pages change nothing but speed.
  @Test func codeStaysWhereItIsOnLargePages() throws {
    let memory = try CodeMemory(size: 6 << 20, dataSize: 100)
    let place = CodeMemory.largePageSize + 4090
    // mov eax, 42; ret
    (memory.writable + place).copyMemory(from: [0xb8, 42, 0, 0, 0, 0xc3] as [UInt8], byteCount: 6)
    memory.data.storeBytes(of: 7, as: UInt8.self)
    typealias Function = @convention(c) () -> Int32
    let function = unsafeBitCast(memory.executable + place, to: Function.self)
    for offset in [0, place, 5 << 20, memory.size, -1] {
      memory.useLargePage(at: offset)
      #expect(function() == 42)
    }
    (memory.writable + place + 1).storeBytes(of: 43, as: UInt8.self)
    #expect(function() == 43)
    #expect(memory.data.load(as: UInt8.self) == 7)
    #expect(UInt(bitPattern: memory.executable) % UInt(CodeMemory.largePageSize) == 0)
  }
}
