import Machine
import Memory

/// A disk (VIRTIO 1.2, 5.2).
///
/// A chain is one request: a header, data one way or the other, and room for a status byte at its end. The data's pieces
/// go to the disk as they are, so nothing is copied here. Requests complete in any order; each is handed back to the
/// driver as it completes, and one interrupt serves all that did before the driver looked.
///
/// The driver may take the disk for one without a write cache: by not accepting flushes, or by the configuration
/// structure's write-back byte. Each write is then followed by a flush.
public final class VirtioBlock: VirtioModel {
  public struct State: Codable, Equatable, Sendable {
    /// Nil: the driver has not said.
    var isWriteBack: Bool?
  }

  public let kind = VirtioKind.block
  public let queueSizes: [UInt16]
  private let disk: any BlockBackend
  private let serial: [UInt8]
  private let limits = VirtioBlockLimits()
  private var state = State()
  private var core: VirtioCore?

  /// `serial` is what the guest reads as the disk's name, 20 bytes at most. `queueCount`: one for each processor is best.
  public init(_ disk: any BlockBackend, serial: String, queueCount: Int) {
    precondition((1...64).contains(queueCount), "a disk has 1 to 64 queues")
    self.disk = disk
    self.serial = Array(serial.utf8.prefix(Self.serialSize))
    queueSizes = [UInt16](repeating: Self.queueSize, count: queueCount)
  }

  private static let queueSize: UInt16 = 256
  private static let serialSize = 20
  static let sectorSize: UInt64 = 512

  public var features: UInt64 {
    let always =
      VirtioBlockFeature.segmentLimit | VirtioBlockFeature.blockSize | VirtioBlockFeature.flush
      | VirtioBlockFeature.topology | VirtioBlockFeature.writeCache | VirtioBlockFeature.severalQueues
    let writing = VirtioBlockFeature.discard | VirtioBlockFeature.writeZeroes
    return always | (disk.isReadOnly ? VirtioBlockFeature.readOnly : writing)
  }

  public var configuration: [UInt8] {
    limits.configuration(sectors: disk.size / Self.sectorSize, queueCount: queueSizes.count, isWriteBack: isWriteBack)
  }

  private var isWriteBack: Bool { state.isWriteBack ?? (core?.has(VirtioBlockFeature.flush) ?? true) }

  public func attach(to core: VirtioCore, platform: DevicePlatform) { self.core = core }

  public func reset() { state = State() }

  public func writeConfiguration(_ offset: Int, _ value: UInt8) {
    guard offset == VirtioBlockLimits.writeBackOffset, core?.has(VirtioBlockFeature.writeCache) == true else { return }
    state.isWriteBack = value & 1 != 0
  }

  public func save() -> State { state }

  public func restore(_ state: State) { self.state = state }

  // MARK: Requests

  public func notify(_ queue: Int) {
    guard let core else { return }
    core.forEachChain(queue) { begin($0, core) }
    core.signal(queue)
  }

  private func begin(_ chain: VirtioChain, _ core: VirtioCore) {
    let header = chain.read(from: 0, count: VirtioBlockRequest.headerSize, in: core.memory)
    guard header.count == VirtioBlockRequest.headerSize, chain.writableBytes > 0 else {
      return core.fail(VirtqueueFault("a request without a header, or without room for its status"))
    }
    let request = VirtioBlockRequest(header)
    switch request.operation {
    case .read:
      transfer(
        .read, request, chain, pieces: chain.writable(from: 0, count: chain.writableBytes - 1),
        count: chain.writableBytes - 1, core)
    case .write:
      let count = chain.readableBytes - UInt64(VirtioBlockRequest.headerSize)
      let pieces = chain.readable(from: UInt64(VirtioBlockRequest.headerSize), count: count)
      transfer(.write, request, chain, pieces: pieces, count: count, core)
    case .flush: submit([BlockRequest(.flush)], chain, written: 0, core)
    case .identify:
      let room = chain.writableBytes - 1
      let name = serial + [UInt8](repeating: 0, count: Self.serialSize - serial.count)
      let written = chain.write(Array(name.prefix(Int(min(room, 20)))), in: core.memory)
      finish(chain, .success, written: written, core)
    case .discard, .writeZeroes: changeRanges(request.operation, chain, core)
    case .unknown: finish(chain, .unsupported, written: 0, core)
    }
  }

  private func transfer(
    _ operation: BlockRequest.Operation, _ request: VirtioBlockRequest, _ chain: VirtioChain,
    pieces: [VirtioChain.Segment], count: UInt64, _ core: VirtioCore
  ) {
    let (offset, overflow) = request.sector.multipliedReportingOverflow(by: Self.sectorSize)
    guard !overflow, count % Self.sectorSize == 0 else { return finish(chain, .failure, written: 0, core) }
    // An empty transfer is none.
    guard count > 0 else { return finish(chain, .success, written: 0, core) }
    submit(
      [
        BlockRequest(
          operation, offset: offset, count: count, memory: pieces.map { .guest($0.address, count: $0.count) })
      ], chain, written: operation == .read ? count : 0, core)
  }

  /// Discards, and writes of zeroes: the data is a list of ranges (5.2.6).
  private func changeRanges(_ operation: VirtioBlockRequest.Operation, _ chain: VirtioChain, _ core: VirtioCore) {
    let list = chain.readableBytes - UInt64(VirtioBlockRequest.headerSize)
    guard !disk.isReadOnly else { return finish(chain, .failure, written: 0, core) }
    guard list % VirtioBlockRange.size == 0, list > 0,
      list <= VirtioBlockRange.size * UInt64(limits.rangeLimit)
    else { return finish(chain, .unsupported, written: 0, core) }
    let bytes = chain.read(from: UInt64(VirtioBlockRequest.headerSize), count: Int(list), in: core.memory)
    var requests: [BlockRequest] = []
    for start in stride(from: 0, to: bytes.count, by: Int(VirtioBlockRange.size)) {
      let range = VirtioBlockRange(bytes, at: start)
      guard range.isAllowed(for: operation) else { return finish(chain, .unsupported, written: 0, core) }
      guard let offset = range.offset, range.sectorCount <= limits.rangeSectors else {
        return finish(chain, .failure, written: 0, core)
      }
      requests.append(
        BlockRequest(
          operation == .discard ? .discard : .writeZeroes(mayUnmap: range.mayUnmap), offset: offset,
          count: UInt64(range.sectorCount) * Self.sectorSize))
    }
    submit(requests, chain, written: 0, core)
  }

  /// Gives the disk its part of the work, one after the other, and the driver its answer.
  private func submit(_ requests: [BlockRequest], _ chain: VirtioChain, written: UInt64, _ core: VirtioCore) {
    core.beginOperation()
    next(requests[...], chain, written: written, core)
  }

  private func next(_ requests: ArraySlice<BlockRequest>, _ chain: VirtioChain, written: UInt64, _ core: VirtioCore) {
    guard let request = requests.first else {
      core.endOperation()
      return finish(chain, .success, written: written, core)
    }
    disk.submit(request) { [self] result in
      guard result == .success else {
        core.endOperation()
        return finish(chain, .failure, written: 0, core)
      }
      var rest = requests.dropFirst()
      if rest.isEmpty, request.operation.changesDisk, !isWriteBack { rest = [BlockRequest(.flush)] }
      next(rest, chain, written: written, core)
    }
  }

  /// The status is the last byte of the room. `written` counts what comes before it.
  private func finish(_ chain: VirtioChain, _ status: VirtioBlockStatus, written: UInt64, _ core: VirtioCore) {
    guard core.isCurrent(chain) else { return }
    chain.write([status.rawValue], at: chain.writableBytes - 1, in: core.memory)
    core.giveBack(chain, written: written + 1)
    core.signal(chain.queue)
  }
}

extension BlockRequest.Operation {
  fileprivate var changesDisk: Bool {
    switch self {
    case .write, .discard, .writeZeroes: true
    case .read, .flush: false
    }
  }
}
