import CHost
import Glibc
import Memory
import Synchronization

/// Which processors hold code of which pages of guest RAM, and the rules that keep their blocks true to memory.
///
/// **Before** a processor decodes from a page that nobody held code of, no other may be able to write to it unseen: the
/// page's `holdsCode` attribute is set, so that no TLB gets a write tag for it any more, and every other processor that is
/// running drops the tags that it has and says so; the first waits for that. **After**, a write to the page takes the slow
/// path of whoever writes, which tells all holders before the next guest instruction's store can be seen; they drop what
/// was written at their next block boundary. The same way they learn that the map of guest memory has changed, which
/// takes all their translations away, and their blocks if any are of pages that have come or gone.
///
/// Requests come by a member's queue and its attention word. A processor that waits for others serves its own queue
/// meanwhile, so two that wait for each other both go on; one that is not running guest code is not waited for, because
/// it serves its queue before it runs any. Lock order: `holders`, then a member's queue.
public final class CodeWatch: Sendable {
  /// One bit for each member that holds code of a page, by RAM page.
  private struct Holders: @unchecked Sendable {
    let masks: UnsafeMutablePointer<UInt64>
    var members: [Member] = []
    var joined = 0
  }

  private let memory: GuestMemory
  private let holders: Mutex<Holders>
  private let pageCount: Int

  /// Most members: bits of a mask.
  public static let memberLimit = 64

  public init(memory: GuestMemory) {
    self.memory = memory
    pageCount = memory.pageCount
    // Fresh anonymous memory reads as zero and costs nothing until it is used.
    holders = Mutex(
      Holders(masks: calloc(pageCount, 8).unsafelyUnwrapped.bindMemory(to: UInt64.self, capacity: pageCount)))
    memory.observeRemapping { [weak self] change in
      self?.holders.withLock { holders in
        for member in holders.members { member.post(.remapped(change)) }
      }
    }
  }

  deinit { holders.withLock { free($0.masks) } }

  /// What a member is asked to do.
  enum Request {
    /// Send writes to this RAM page through the slow path.
    case protect(page: Int)
    /// Guest-physical memory was written: drop what was decoded from it.
    case written(Range<UInt64>)
    /// What answers at some guest-physical pages has changed.
    case remapped(GuestMemory.Remapping)
  }

  /// One processor.
  final class Member: Sendable {
    fileprivate let bit: UInt64
    private let watch: CodeWatch
    private struct Queue {
      var requests: [Request] = []
      var posted: UInt64 = 0
    }
    private let queue = Mutex(Queue())
    private let served = Atomic<UInt64>(0)
    private let isRunning = Atomic<Bool>(false)
    /// Address of the processor's attention word; 0 before it has one.
    private let attention = Atomic<UInt>(0)

    fileprivate init(_ watch: CodeWatch, number: Int) {
      self.watch = watch
      bit = 1 << UInt64(number)
    }

    func setAttention(_ word: UnsafePointer<UInt32>?) {
      attention.store(UInt(bitPattern: word), ordering: .releasing)
    }

    /// Asks for something; returns the ticket that `served` reaches when it is done.
    @discardableResult
    func post(_ request: Request) -> UInt64 {
      let ticket = queue.withLock { queue in
        queue.requests.append(request)
        queue.posted += 1
        return queue.posted
      }
      if let word = UnsafeMutablePointer<UInt32>(bitPattern: attention.load(ordering: .acquiring)) {
        attentionRaise(word, .invalidate)
      }
      return ticket
    }

    /// Before and after guest code runs. After entering, `serve` before anything else.
    func enter() { isRunning.store(true, ordering: .sequentiallyConsistent) }
    func leave() { isRunning.store(false, ordering: .sequentiallyConsistent) }

    /// Does what was asked for. The processor's thread, between instructions.
    func serve(_ body: (Request) -> Void) {
      let (requests, ticket) = queue.withLock { queue in
        defer { queue.requests.removeAll(keepingCapacity: true) }
        return (queue.requests, queue.posted)
      }
      for request in requests { body(request) }
      served.store(ticket, ordering: .releasing)
    }

    fileprivate func hasServed(_ ticket: UInt64) -> Bool {
      served.load(ordering: .acquiring) >= ticket || !isRunning.load(ordering: .sequentiallyConsistent)
    }

    /// Becomes a holder of the page; returns when no processor can write to it unseen. `serveOwn` is called while it
    /// waits. The caller sees to its own TLB.
    func protect(page: Int, serveOwn: () -> Void) {
      for (member, ticket) in watch.addHolder(self, page: page) {
        while !member.hasServed(ticket) {
          serveOwn()
          sched_yield()
        }
      }
    }

    /// Holds no code of the page any more.
    func release(page: Int) { watch.removeHolder(self, page: page) }

    /// Takes no part any more; its processor is gone.
    func resign() {
      setAttention(nil)
      watch.remove(self)
    }

    /// This processor wrote to a page that holds code: the other holders are told.
    func noteWrite(page: Int, range: Range<UInt64>) { watch.tellHolders(page: page, range: range, except: bit) }
  }

  func join() -> Member {
    holders.withLock { holders in
      precondition(holders.joined < Self.memberLimit, "a machine has at most 64 processors")
      let member = Member(self, number: holders.joined)
      holders.joined += 1
      holders.members.append(member)
      return member
    }
  }

  private func remove(_ member: Member) {
    holders.withLock { holders in holders.members.removeAll { $0 === member } }
  }

  private func addHolder(_ member: Member, page: Int) -> [(Member, UInt64)] {
    holders.withLock { holders in
      let before = holders.masks[page]
      holders.masks[page] = before | member.bit
      guard before == 0 else { return [] }
      memory.attributes[page] |= PageAttributes.holdsCode.rawValue
      guard holders.members.count > 1 else { return [] }
      return holders.members.filter { $0 !== member }.map { ($0, $0.post(.protect(page: page))) }
    }
  }

  private func removeHolder(_ member: Member, page: Int) {
    holders.withLock { holders in
      holders.masks[page] &= ~member.bit
      if holders.masks[page] == 0 { memory.attributes[page] &= ~PageAttributes.holdsCode.rawValue }
    }
  }

  private func tellHolders(page: Int, range: Range<UInt64>, except bit: UInt64) {
    holders.withLock { holders in
      guard holders.masks[page] & ~bit != 0 else { return }
      for member in holders.members where holders.masks[page] & member.bit & ~bit != 0 { member.post(.written(range)) }
    }
  }
}
