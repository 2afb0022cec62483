import CHost
import Glibc
import Host
import Logging
import Memory
import Storage
import Synchronization

// A disk image's calls wait for the host's disk; a virtual processor must not. So requests go into a queue here, and worker
// threads carry them out, several at once. What a request reads goes straight into guest memory.
//
// Waking a thread takes longer than a request whose data the host has in its memory, so as long as requests are quick (see
// `DiskPace`), one worker does them one after the other, and looks for more for a moment before it sleeps. When they take
// longer, the host's disk has work to do, and should see several at once: then each request wakes a worker of its own. A
// flush never counts as quick.
//
// Completions come under the machine lock. One worker at a time delivers them, all that have gathered: a controller hears
// of many completions in a row.
//
// Lock order: machine lock, then `monitor`, which is a leaf.

/// An image behind a disk controller.
public final class DiskQueue: BlockBackend, @unchecked Sendable {
  public let image: any DiskImage
  public var size: UInt64 { image.size }
  public var isReadOnly: Bool { image.isReadOnly }

  private let memory: GuestMemory
  private let machineLock: Monitor
  private let log: Logger

  /// Guards everything below.
  private let monitor = Monitor()
  private var waiting: [DiskJob] = []
  /// The first of `waiting` that nobody has taken.
  private var next = 0
  private var finished: [(job: DiskJob, result: BlockResult)] = []
  private var isDelivering = false
  /// Requests that have not been completed.
  private var outstanding = 0
  private var drainers = 0
  /// Workers that have been woken and have not noticed.
  private var wakes = 0
  private var workers: [HostThread] = []
  /// Workers that sleep, and that nobody has woken.
  private var idleWorkers = 0
  /// Workers that do something slow by its kind.
  private var slowWorkers = 0
  private var pace = DiskPace()
  private var isEnding = false
  private var failures = RateLimiter(perSecond: 5)

  /// Enough for the host's disk to see several requests; more only fight for the processors.
  private static let workerLimit = 4
  /// So many quick requests are completed at once.
  private static let batch = 4
  /// How long a worker looks for more work before it sleeps, in nanoseconds: a busy guest's next request comes sooner.
  private static let vigil: UInt64 = 50_000

  /// Requests that nobody has taken; changed under `monitor`.
  private let backlog = Atomic(0)

  /// `machineLock` is what completions are called under.
  public init(_ image: any DiskImage, memory: GuestMemory, machineLock: Monitor, log: Logger) {
    self.image = image
    self.memory = memory
    self.machineLock = machineLock
    self.log = log
  }

  public func submit(_ request: BlockRequest, completion: @escaping (BlockResult) -> Void) {
    monitor.lock()
    defer { monitor.unlock() }
    precondition(!isEnding, "a request to a disk that was closed")
    waiting.append(DiskJob(request, completion))
    backlog.store(waiting.count - next, ordering: .releasing)
    outstanding += 1
    callWorker()
  }

  /// Sees to it that somebody does what waits. Under `monitor`.
  private func callWorker() {
    let busy = workers.count - idleWorkers
    guard busy == slowWorkers || !pace.isQuick else { return }
    if idleWorkers > 0 {
      // It counts as busy from now on, so that the next request does not wake another.
      idleWorkers -= 1
      wakes += 1
      // Whoever drains waits for something else, and must not take a worker's signal.
      if drainers > 0 { monitor.broadcast() } else { monitor.signal() }
    } else if workers.count < Self.workerLimit {
      startWorker()
    }
  }

  /// Waits until every request has been completed. Not under the machine lock; nobody submits meanwhile, or it may take
  /// for ever.
  public func drain() {
    monitor.withLock {
      drainers += 1
      while outstanding > 0 { monitor.wait() }
      drainers -= 1
    }
  }

  /// Completes what is under way, ends the threads and closes the image. Not under the machine lock.
  public func close() throws(ImageFailure) {
    drain()
    let threads = monitor.withLock {
      isEnding = true
      monitor.broadcast()
      return workers
    }
    for thread in threads { thread.join() }
    try image.close()
  }

  /// Under `monitor`. Where the host has no thread to give, those that there are do the work; the first is waited for.
  private func startWorker() {
    do throws(HostFailure) {
      workers.append(try HostThread.start("disk") { [self] in work() })
    } catch {
      if workers.isEmpty { preconditionFailure("the host has no thread for a disk: \(error)") }
    }
  }

  private func work() {
    hostShortenThreadSlice()
    monitor.lock()
    while true {
      if mayDeliver {
        isDelivering = true
        monitor.unlock()
        deliver()
        monitor.lock()
      } else if next < waiting.count {
        doNext()
      } else if isEnding {
        break
      } else {
        rest()
      }
    }
    monitor.unlock()
  }

  /// Whether the guest should hear now of what has finished.
  private var mayDeliver: Bool {
    guard !finished.isEmpty, !isDelivering else { return false }
    return next == waiting.count || finished.count >= Self.batch || !pace.isQuick || waiting[next].isSlow
  }

  /// Takes the next request and carries it out. Under `monitor`, but for the work itself.
  private func doNext() {
    let job = waiting[next]
    next += 1
    if next == waiting.count {
      waiting.removeAll(keepingCapacity: true)
      next = 0
    }
    backlog.store(waiting.count - next, ordering: .relaxed)
    if job.isSlow {
      slowWorkers += 1
      if next < waiting.count { callWorker() }
    }
    monitor.unlock()
    let start = MonotonicTime.now
    let result = perform(job.request)
    let duration = MonotonicTime.now &- start
    monitor.lock()
    if job.isSlow { slowWorkers -= 1 } else { pace.note(duration) }
    finished.append((job, result))
  }

  /// Waits for work, awake for a moment and then asleep. Under `monitor`, but for the waiting itself.
  private func rest() {
    if pace.allowsVigil() {
      monitor.unlock()
      let hasLostCore = keepVigil()
      monitor.lock()
      if hasLostCore { pace.noteLostCore() }
      if next < waiting.count || isEnding || mayDeliver { return }
    }
    idleWorkers += 1
    while wakes == 0, !isEnding { monitor.wait() }
    if wakes > 0 { wakes -= 1 } else { idleWorkers -= 1 }
  }

  /// Looks for more work for a moment. Returns whether another thread has had the core meanwhile.
  private func keepVigil() -> Bool {
    let end = MonotonicTime.now &+ Self.vigil
    var last = end &- Self.vigil
    while backlog.load(ordering: .acquiring) == 0, last < end {
      sched_yield()
      let now = MonotonicTime.now
      if now &- last > Self.vigil { return true }
      last = now
    }
    return false
  }

  /// Completes what has finished until nothing is left.
  private func deliver() {
    while true {
      machineLock.lock()
      let batch = monitor.withLock {
        defer { finished.removeAll(keepingCapacity: true) }
        return finished
      }
      for (job, result) in batch {
        if result == .success, job.request.operation == .read { noteWritten(job.request.memory) }
        job.completion(result)
      }
      machineLock.unlock()
      let isDone = monitor.withLock {
        outstanding -= batch.count
        if outstanding == 0 { monitor.broadcast() }
        if finished.isEmpty { isDelivering = false }
        return !isDelivering
      }
      if isDone { return }
    }
  }

  private func noteWritten(_ pieces: [BlockMemory]) {
    for case .guest(let address, let count) in pieces { memory.noteWrite(address, count: count) }
  }

  // MARK: One request

  private func perform(_ request: BlockRequest) -> BlockResult {
    guard (request.offset | request.count) % 512 == 0, request.offset <= size, request.count <= size - request.offset
    else { return .outOfRange }
    if isReadOnly, request.operation != .read, request.operation != .flush { return .readOnly }
    do throws(ImageFailure) {
      let range = request.offset..<(request.offset + request.count)
      switch request.operation {
      case .read:
        guard let buffers = buffers(request, writes: true) else { return .badMemory }
        try image.read(buffers, at: request.offset)
      case .write:
        guard let buffers = buffers(request, writes: false) else { return .badMemory }
        try image.write(buffers.map { UnsafeRawBufferPointer($0) }, at: request.offset)
      case .flush: try image.flush()
      case .discard: try image.discard(range)
      case .writeZeroes(let mayUnmap): try image.writeZeroes(range, mayUnmap: mayUnmap)
      }
      return .success
    } catch {
      if let held = monitor.withLock({ failures.pass() }) {
        log.error("\(error.description)\(held > 0 ? " (and \(held) more failures of this disk)" : "")")
      }
      return error.isOutOfSpace ? .noSpace : .failed
    }
  }

  /// Host addresses of a request's memory; nil where it is not memory, or not as much as the range has. RAM stays where
  /// it is for as long as the machine lives.
  private func buffers(_ request: BlockRequest, writes: Bool) -> [UnsafeMutableRawBufferPointer]? {
    var buffers: [UnsafeMutableRawBufferPointer] = []
    buffers.reserveCapacity(request.memory.count)
    var total: UInt64 = 0
    for piece in request.memory {
      switch piece {
      case .buffer(let buffer): buffers.append(buffer)
      case .guest(let address, let count):
        guard let bytes = memory.hostBytes(address, count: count, forWriting: writes) else { return nil }
        buffers.append(bytes)
      }
      total &+= UInt64(buffers[buffers.count - 1].count)
    }
    return total == request.count ? buffers : nil
  }
}

/// How long requests take just now. A single long one says little, as the host may have let others run meanwhile; a few
/// say that the host's disk is at work.
struct DiskPace {
  /// In nanoseconds: more than copying some hundred KiB takes, less than any disk.
  private static let limit: UInt64 = 80_000
  /// What a request counts as at most.
  private static let most: UInt64 = 4 * limit
  /// The mean of the last ones, more or less.
  private var recent = most

  var isQuick: Bool { recent < Self.limit }

  /// Rests until the next vigil is tried.
  private var restsToSleep = 0

  /// Whether a worker that has nothing to do should look for more work before it sleeps. Not for a while after another
  /// thread wanted the core: who yields it then gets it back after milliseconds, who sleeps is woken at once.
  mutating func allowsVigil() -> Bool {
    guard isQuick else { return false }
    guard restsToSleep > 0 else { return true }
    restsToSleep -= 1
    return false
  }

  /// A vigil ended because another thread had the core.
  mutating func noteLostCore() { restsToSleep = 100 }

  /// A request took so many nanoseconds.
  mutating func note(_ duration: UInt64) { recent = recent - recent / 8 + min(duration, Self.most) / 8 }
}

/// A request on its way. Written before it enters the queue and only read after.
private final class DiskJob: @unchecked Sendable {
  let request: BlockRequest
  let completion: (BlockResult) -> Void
  /// It waits for the host's disk whatever is in memory.
  let isSlow: Bool

  init(_ request: BlockRequest, _ completion: @escaping (BlockResult) -> Void) {
    self.request = request
    self.completion = completion
    isSlow = request.operation != .read && request.operation != .write
  }
}
