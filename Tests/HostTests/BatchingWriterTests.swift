import Glibc
import Host
import TestSupport
import Testing

@Suite(.timeLimit(.minutes(1))) struct BatchingWriterTests {
  private func writer(
    _ descriptor: Int32, limit: Int = 1 << 16, rooms: Shared<Int> = Shared(0), failures: Shared<[Int32]> = Shared([])
  ) throws -> BatchingWriter {
    // A test may end before its writer.
    SignalWatch.ignoreBrokenPipes()
    return try BatchingWriter(
      descriptor: descriptor, name: "the test's output", limit: limit, onRoom: { rooms.change { $0 += 1 } },
      onFailure: { failure in failures.change { $0.append(failure.code) } })
  }

  @Test func bytesArriveInOrderWithoutAFlush() throws {
    let pipe = Pipe()
    let writer = try writer(pipe.writeEnd)
    for byte in 0..<200 { #expect(writer.offer([UInt8(byte)]) == 1) }
    #expect(pipe.receive(200) == (0..<200).map { UInt8($0) })
    #expect(try writer.finish(patience: nil))
  }

  @Test func flushIsPrompt() throws {
    let pipe = Pipe()
    let writer = try writer(pipe.writeEnd)
    var fastest = UInt64.max
    for _ in 0..<20 {
      let start = MonotonicTime.now
      _ = writer.offer([1])
      writer.flush()
      _ = pipe.receive(1)
      fastest = min(fastest, MonotonicTime.now - start)
    }
    #expect(fastest < 500_000)
    try writer.finish(patience: nil)
  }

  @Test func fullQueueRefusesAndTellsWhenThereIsRoom() throws {
    let pipe = Pipe()
    let rooms = Shared(0)
    let writer = try writer(pipe.writeEnd, limit: 1000, rooms: rooms)
    // The kernel's pipe holds 64 KiB; beyond that the queue fills.
    var taken = 0
    let piece = [UInt8](repeating: 9, count: 500)
    while taken < 1 << 20 {
      let count = writer.offer(piece)
      taken += count
      if count < piece.count { break }
      usleep(200)
    }
    #expect(taken < 1 << 18)
    #expect(rooms.current == 0)
    #expect(pipe.receive(taken).count == taken)
    #expect(rooms.wait { $0 == 1 })
    #expect(writer.offer(piece) == 500)
    #expect(try writer.finish(patience: nil))
  }

  @Test func finishGivesUpOnASleepingReader() throws {
    let pipe = Pipe()
    let writer = try writer(pipe.writeEnd, limit: 1 << 20)
    _ = writer.offer([UInt8](repeating: 1, count: 200_000))
    #expect(try !writer.finish(patience: 50_000_000))
  }

  @Test func goneReaderIsAFailureOnce() throws {
    var ends: [Int32] = [0, 0]
    #expect(pipe(&ends) == 0)
    close(ends[0])
    defer { close(ends[1]) }
    let failures = Shared<[Int32]>([])
    let writer = try writer(ends[1], failures: failures)
    _ = writer.offer([1])
    #expect(failures.wait { $0 == [EPIPE] })
    #expect(writer.offer([2, 3]) == 2)
    let expected = HostFailure("write to the test's output", code: EPIPE)
    #expect(throws: expected) { try writer.finish(patience: nil) }
    #expect(failures.current == [EPIPE])
  }

  @Test func fullDeviceIsAFailure() throws {
    let descriptor = open("/dev/full", O_WRONLY)
    defer { close(descriptor) }
    let writer = try writer(descriptor)
    _ = writer.offer([1])
    #expect(throws: HostFailure.self) { try writer.finish(patience: nil) }
  }
}
