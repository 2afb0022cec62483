import Machine
import Memory
import X86

/// A disk in memory whose requests complete when the test says, in the order that it wants.
///
/// Data moves at the moment of completion. Requests are judged as the contract says; a test can have any of them fail.
public final class FakeBlockBackend: BlockBackend {
  private struct Pending {
    let request: BlockRequest
    let completion: (BlockResult) -> Void
  }

  public let size: UInt64
  public var isReadOnly: Bool
  public var contents: [UInt8]
  /// Asked at each completion: a result other than nil is the request's, and no data moves.
  public var failure: ((BlockRequest) -> BlockResult?)?
  /// All requests in the order of their submission.
  public private(set) var requests: [BlockRequest] = []
  private var pending: [Pending] = []
  private let memory: GuestMemory

  /// - Parameters:
  ///   - size: bytes. Each sector begins as its own number, little-endian, followed by zeros.
  ///   - memory: where `BlockMemory.guest` is.
  public init(size: UInt64, memory: GuestMemory, isReadOnly: Bool = false) {
    precondition(size.isMultiple(of: 512), "a disk has whole sectors")
    self.size = size
    self.memory = memory
    self.isReadOnly = isReadOnly
    contents = [UInt8](repeating: 0, count: Int(size))
    for sector in 0..<Int(size / 512) {
      for index in 0..<4 { contents[512 * sector + index] = UInt8(truncatingIfNeeded: sector >> (8 * index)) }
    }
  }

  public func submit(_ request: BlockRequest, completion: @escaping (BlockResult) -> Void) {
    requests.append(request)
    pending.append(Pending(request: request, completion: completion))
  }

  /// Requests that have not completed yet.
  public var pendingCount: Int { pending.count }

  /// The oldest request that has not completed yet.
  public var next: BlockRequest? { pending.first?.request }

  /// Completes the request at `index` among those that have not completed yet. False where there is none.
  @discardableResult
  public func complete(_ index: Int = 0) -> Bool {
    guard pending.indices.contains(index) else { return false }
    let done = pending.remove(at: index)
    done.completion(failure?(done.request) ?? perform(done.request))
    return true
  }

  /// Completes all requests, oldest first, those too that come meanwhile.
  public func completeAll() {
    while complete() {}
  }

  private func perform(_ request: BlockRequest) -> BlockResult {
    guard request.operation != .flush else { return .success }
    guard request.offset.isMultiple(of: 512), request.count.isMultiple(of: 512), request.offset <= size,
      request.count <= size - request.offset
    else { return .outOfRange }
    if isReadOnly, request.operation != .read { return .readOnly }
    let range = Int(request.offset)..<Int(request.offset + request.count)
    switch request.operation {
    case .flush, .discard: return .success
    case .writeZeroes:
      contents.replaceSubrange(range, with: repeatElement(0, count: range.count))
      return .success
    case .read, .write: return move(request, range)
    }
  }

  private func move(_ request: BlockRequest, _ range: Range<Int>) -> BlockResult {
    var total: UInt64 = 0
    for piece in request.memory {
      switch piece {
      case .guest(let address, let count):
        let isThere =
          request.operation == .read
          ? memory.contains(address, count: count) : memory.isReadable(address, count: count)
        guard isThere else { return .badMemory }
        total &+= count
      case .buffer(let buffer): total &+= UInt64(buffer.count)
      }
    }
    guard total == request.count else { return .badMemory }
    contents.withUnsafeMutableBytes { disk in
      var position = range.lowerBound
      for piece in request.memory {
        let count: Int
        switch piece {
        case .guest(_, let bytes): count = Int(bytes)
        case .buffer(let buffer): count = buffer.count
        }
        let part = UnsafeMutableRawBufferPointer(rebasing: disk[position..<position + count])
        switch (piece, request.operation == .read) {
        case (.guest(let address, _), true): _ = memory.write(address, from: UnsafeRawBufferPointer(part))
        case (.guest(let address, _), false): _ = memory.read(address, into: part)
        case (.buffer(let buffer), true): buffer.copyMemory(from: UnsafeRawBufferPointer(part))
        case (.buffer(let buffer), false): part.copyMemory(from: UnsafeRawBufferPointer(buffer))
        }
        position += count
      }
    }
    return .success
  }
}
