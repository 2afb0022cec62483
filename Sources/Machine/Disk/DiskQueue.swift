import Host
import Logging
import Memory
import Storage

// A disk image's calls wait for the host's disk; a virtual processor must not. So requests go into a queue here, and worker
// threads carry them out, several at once. What a request reads goes straight into guest memory.
//
// Completions come under the machine lock. One worker at a time delivers them, all that have gathered: while it waits for
// the lock, the others go on with their work, and a controller hears of many completions in a row.
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
  private var workers: [HostThread] = []
  private var idleWorkers = 0
  private var isEnding = false
  private var failures = RateLimiter(perSecond: 5)

  /// Enough for the host's disk to see several requests; more only fight for the processors.
  private static let workerLimit = 4

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
    outstanding += 1
    if idleWorkers < waiting.count - next, workers.count < Self.workerLimit { startWorker() }
    // Whoever drains waits for something else, and must not take a worker's signal.
    if drainers > 0 { monitor.broadcast() } else { monitor.signal() }
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
    while let job = take() {
      let result = perform(job.request)
      monitor.lock()
      finished.append((job, result))
      let delivers = !isDelivering
      isDelivering = true
      monitor.unlock()
      if delivers { deliver() }
    }
  }

  /// The next request; nil when there are to be none any more.
  private func take() -> DiskJob? {
    monitor.lock()
    defer { monitor.unlock() }
    while next == waiting.count {
      if isEnding { return nil }
      idleWorkers += 1
      monitor.wait()
      idleWorkers -= 1
    }
    let job = waiting[next]
    next += 1
    if next == waiting.count {
      waiting.removeAll(keepingCapacity: true)
      next = 0
    }
    return job
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

/// A request on its way. Written before it enters the queue and only read after.
private final class DiskJob: @unchecked Sendable {
  let request: BlockRequest
  let completion: (BlockResult) -> Void

  init(_ request: BlockRequest, _ completion: @escaping (BlockResult) -> Void) {
    self.request = request
    self.completion = completion
  }
}
