import Machine
import Memory
import X86

/// A balloon (VIRTIO 1.2, 5.5): the guest gives pages back, because it is asked to (`target`) or because they are free
/// anyway (free page reporting), and the host has the memory again. The guest may take any of them back at any moment, and
/// finds zeroes.
///
/// The standard numbers the reporting queue 4; drivers of Linux before 6.11 count only the queues of negotiated features
/// and use queue 2. Nothing else is offered that has a queue, so all from 2 on report.
public final class VirtioBalloon: VirtioModel {
  public struct State: Codable, Equatable, Sendable {
    /// Pages that the guest is asked to give.
    var target: UInt32
    /// Pages that it says it has given.
    var actual: UInt32 = 0
  }

  private enum Queue {
    static let inflate = 0
    static let deflate = 1
  }

  private static let deflatesWhenShort: UInt64 = 1 << 2
  private static let pageReporting: UInt64 = 1 << 5
  /// Page numbers that one chain names at most.
  private static let listLimit = 1 << 14
  private static let pageSize: UInt64 = 4096

  public let kind = VirtioKind.balloon
  public let features = deflatesWhenShort | pageReporting
  public let queueSizes: [UInt16] = [128, 128, 128, 128, 128]
  private var core: VirtioCore?
  private var state: State

  /// Pages of 4 KiB that the guest is asked to give; a reset does not change it. Under the machine lock.
  public var target: UInt32 {
    get { state.target }
    set {
      guard newValue != state.target else { return }
      state.target = newValue
      core?.configurationHasChanged()
    }
  }

  /// Pages of 4 KiB that it has given.
  public var actual: UInt32 { state.actual }

  public init(target: UInt32 = 0) { state = State(target: target) }

  public var configuration: [UInt8] {
    var bytes = [UInt8](repeating: 0, count: 16)
    bytes.put(state.target, at: 0)
    bytes.put(state.actual, at: 4)
    return bytes
  }

  public func attach(to core: VirtioCore, platform: DevicePlatform) { self.core = core }

  public func reset() { state.actual = 0 }

  public func writeConfiguration(_ offset: Int, _ value: UInt8) {
    guard (4..<8).contains(offset) else { return }
    let shift = UInt32(offset - 4) * 8
    state.actual = state.actual & ~(0xff << shift) | UInt32(value) << shift
  }

  public func notify(_ queue: Int) {
    guard let core else { return }
    core.forEachChain(queue) { chain in
      switch queue {
      case Queue.inflate: takePages(chain, core.memory)
      case Queue.deflate: break
      default:
        for piece in chain.writable(from: 0, count: chain.writableBytes) {
          core.memory.discard(piece.address, count: piece.count)
        }
      }
      core.giveBack(chain, written: 0)
    }
    core.signal(queue)
  }

  /// The chain is a list of page numbers; neighbours go together.
  private func takePages(_ chain: VirtioChain, _ memory: GuestMemory) {
    let list = chain.read(from: 0, count: 4 * Self.listLimit, in: memory)
    let pages = stride(from: 0, to: list.count & ~3, by: 4).map { list.littleEndian(at: $0, size: 4) }.sorted()
    var start = 0
    while start < pages.count {
      var end = start + 1
      while end < pages.count, pages[end] <= pages[end - 1] + 1 { end += 1 }
      memory.discard(
        GuestPhysicalAddress(pages[start] * Self.pageSize), count: (pages[end - 1] - pages[start] + 1) * Self.pageSize)
      start = end
    }
  }

  public func save() -> State { state }

  public func restore(_ state: State) { self.state = state }
}
