import Glibc
import Host
import Logging
import Memory
import Storage
import Synchronization
import TestSupport
import Testing
import X86

@testable import Machine

/// A disk in memory that holds up its calls while it is told to.
private final class SlowImage: DiskImage, @unchecked Sendable {
  let name = "slow"
  let size: UInt64 = 64 << 10
  let isReadOnly: Bool
  let gate = Monitor()
  var isHeld = false
  var calls = 0
  var isClosed = false
  var failure: ImageFailure?
  var bytes = [UInt8](repeating: 0, count: 64 << 10)

  init(isReadOnly: Bool = false) { self.isReadOnly = isReadOnly }

  private func pass() throws(ImageFailure) {
    let failure = gate.withLock {
      calls += 1
      gate.broadcast()
      while isHeld { gate.wait() }
      return self.failure
    }
    if let failure { throw failure }
  }

  func read(_ buffers: [UnsafeMutableRawBufferPointer], at offset: UInt64) throws(ImageFailure) {
    try pass()
    var next = Int(offset)
    for buffer in buffers {
      gate.withLock { buffer.copyBytes(from: bytes[next..<(next + buffer.count)]) }
      next += buffer.count
    }
  }

  func write(_ buffers: [UnsafeRawBufferPointer], at offset: UInt64) throws(ImageFailure) {
    try pass()
    var next = Int(offset)
    for buffer in buffers {
      gate.withLock { bytes.replaceSubrange(next..<(next + buffer.count), with: buffer) }
      next += buffer.count
    }
  }

  func flush() throws(ImageFailure) { try pass() }
  func writeZeroes(_ range: Range<UInt64>, mayUnmap: Bool) throws(ImageFailure) { try pass() }
  func discard(_ range: Range<UInt64>) throws(ImageFailure) { try pass() }
  func extent(at offset: UInt64) throws(ImageFailure) -> ImageExtent { fatalError("not asked here") }
  func close() throws(ImageFailure) { isClosed = true }
}

@Suite struct DiskQueueTests {
  private let memory: GuestMemory
  private let lock = Monitor()

  init() throws { memory = try GuestMemory(size: 1 << 20) }

  private func queue(_ image: SlowImage) -> DiskQueue {
    DiskQueue(image, memory: memory, machineLock: lock, log: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
  }

  /// Carries requests out and returns their results in their own order.
  private func results(_ queue: DiskQueue, _ requests: [BlockRequest]) -> [BlockResult?] {
    let results = Mutex([BlockResult?](repeating: nil, count: requests.count))
    lock.withLock {
      for (index, request) in requests.enumerated() {
        queue.submit(request) { result in results.withLock { $0[index] = result } }
      }
    }
    queue.drain()
    return results.withLock { $0 }
  }

  @Test func dataGoesStraightToGuestMemory() throws {
    let image = SlowImage()
    let queue = queue(image)
    let written = Mutex<[Range<UInt64>]>([])
    memory.onOutsideWrite = { range in written.withLock { $0.append(range) } }
    #expect(memory.store(0x0102_0304_0506_0708 as UInt64, at: GuestPhysicalAddress(0x2000)))
    #expect(
      results(
        queue,
        [
          BlockRequest(
            .write, offset: 512, count: 1024,
            memory: [
              .guest(GuestPhysicalAddress(0x2000), count: 512), .guest(GuestPhysicalAddress(0x3000), count: 512),
            ])
        ])
        == [.success])
    written.withLock { $0 = [] }
    #expect(
      results(
        queue,
        [BlockRequest(.read, offset: 512, count: 512, memory: [.guest(GuestPhysicalAddress(0x8000), count: 512)])]) == [
          .success
        ]
    )
    #expect(memory.load(GuestPhysicalAddress(0x8000), as: UInt64.self) == 0x0102_0304_0506_0708)
    #expect(written.withLock { $0 } == [0x8000..<0x8200])
    try queue.close()
    #expect(image.isClosed)
  }

  @Test func whatIsWrongWithARequestIsItsResult() throws {
    let queue = queue(SlowImage())
    let good = BlockMemory.guest(GuestPhysicalAddress(0x1000), count: 512)
    #expect(
      results(
        queue,
        [
          BlockRequest(.read, offset: 64 << 10, count: 512, memory: [good]),
          BlockRequest(.read, offset: .max - 511, count: 512, memory: [good]),
          BlockRequest(.read, offset: 1, count: 512, memory: [good]),
          BlockRequest(.read, offset: 0, count: 1024, memory: [good]),
          BlockRequest(
            .write, offset: 0, count: 512, memory: [.guest(GuestPhysicalAddress(0xffff_ffff_ffff_f000), count: 512)]),
          BlockRequest(.read, offset: 0, count: 512, memory: [.guest(GuestPhysicalAddress(0xf_ff00), count: 512)]),
          BlockRequest(.read, offset: 0, count: 512, memory: [.guest(GuestPhysicalAddress(0), count: .max), good]),
          BlockRequest(.flush),
        ]) == [.outOfRange, .outOfRange, .outOfRange, .badMemory, .badMemory, .badMemory, .badMemory, .success])
    try queue.close()
    let readOnly = self.queue(SlowImage(isReadOnly: true))
    #expect(
      results(
        readOnly, [BlockRequest(.write, offset: 0, count: 512, memory: [good]), BlockRequest(.discard, count: 512)])
        == [.readOnly, .readOnly])
    try readOnly.close()
  }

  @Test func failuresOfTheHostAreToldApart() throws {
    let image = SlowImage()
    let queue = queue(image)
    image.failure = ImageFailure("slow", .host(action: "write to", code: ENOSPC))
    #expect(results(queue, [BlockRequest(.flush)]) == [.noSpace])
    image.failure = ImageFailure("slow", .host(action: "write to", code: EIO))
    #expect(results(queue, [BlockRequest(.flush)]) == [.failed])
    try queue.close()
  }

  /// Requests are under way together, nobody waits in `submit`, and completions come under the machine lock.
  @Test func severalAreUnderWayAtOnce() throws {
    let image = SlowImage()
    let queue = queue(image)
    image.isHeld = true
    let done = Mutex(0)
    lock.lock()
    for _ in 0..<8 { queue.submit(BlockRequest(.flush)) { _ in done.withLock { $0 += 1 } } }
    image.gate.withLock {
      while image.calls < 2 { image.gate.wait() }
      image.isHeld = false
      image.gate.broadcast()
      while image.calls < 8 { image.gate.wait() }
    }
    // The machine lock is held here.
    #expect(done.withLock { $0 } == 0)
    lock.unlock()
    queue.drain()
    #expect(done.withLock { $0 } == 8)
    try queue.close()
  }

  /// While requests are quick, one worker does them; a flush keeps nobody from going on.
  @Test func quickRequestsDoNotWaitForAFlush() throws {
    let image = SlowImage()
    let queue = queue(image)
    let read = BlockRequest(
      .read, offset: 0, count: 512, memory: [.guest(GuestPhysicalAddress(0x1000), count: 512)])
    for _ in 0..<20 {
      #expect(results(queue, [BlockRequest](repeating: read, count: 10)).allSatisfy { $0 == .success })
    }
    let before = image.gate.withLock { image.calls }
    image.isHeld = true
    let done = Mutex(0)
    lock.withLock {
      for request in [BlockRequest(.flush), read] { queue.submit(request) { _ in done.withLock { $0 += 1 } } }
    }
    // Both have reached the image, though neither may return.
    image.gate.withLock {
      while image.calls < before + 2 { image.gate.wait() }
      image.isHeld = false
      image.gate.broadcast()
    }
    queue.drain()
    #expect(done.withLock { $0 } == 2)
    try queue.close()
  }

  @Test func thePaceFollowsManyNotOne() {
    var pace = DiskPace()
    #expect(!pace.isQuick)
    var count = 0
    while !pace.isQuick {
      pace.note(5_000)
      count += 1
    }
    #expect(5...40 ~= count)
    for _ in 0..<20 { pace.note(5_000) }
    pace.note(3_000_000)
    #expect(pace.isQuick)
    for _ in 0..<3 { pace.note(3_000_000) }
    #expect(!pace.isQuick)
  }

  /// Where others want the core, workers sleep when they have nothing to do, and try again after a while.
  @Test func vigilsEndWhereCoresAreWanted() {
    var pace = DiskPace()
    func answers(_ count: Int) -> [Bool] { (0..<count).map { _ in pace.allowsVigil() } }
    #expect(answers(3) == [false, false, false])
    for _ in 0..<60 { pace.note(5_000) }
    #expect(answers(3) == [true, true, true])
    pace.noteLostCore()
    let after = answers(1000)
    #expect(50..<900 ~= after.count { !$0 } && !after[0] && after[999])
  }
}
