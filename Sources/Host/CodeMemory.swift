import CHost
import Glibc

/// Memory for generated code: one piece of memory mapped twice, so that no address is ever both writable and executable.
///
/// Code is written through `writable` and runs through `executable`, at the same offsets. x86 keeps instruction fetch
/// coherent with stores to the same physical memory; code that another thread may be running is to be changed with
/// single aligned stores only (SDM vol. 3A, 9.1.3).
public final class CodeMemory: @unchecked Sendable {
  /// Bytes, a multiple of the page size.
  public let size: Int
  /// The alias for writing: never executable.
  public let writable: UnsafeMutableRawPointer
  /// The alias for running: never writable.
  public let executable: UnsafeRawPointer
  /// Data next to the code, which can address it relative to RIP: never executable. Zeros at first.
  public let data: UnsafeMutableRawPointer
  /// Both pieces of address space, as they were reserved.
  private let reservations: [UnsafeMutableRawBufferPointer]

  /// Bytes of the host's large pages.
  public static let largePageSize = 2 << 20

  /// Sizes are rounded up to whole pages. Pages are taken from the host when they are first touched.
  public init(size: Int, dataSize: Int = 0) throws(HostFailure) {
    precondition(
      size > 0 && dataSize >= 0 && size + dataSize < 1 << 31, "code memory is reached with 32-bit displacements")
    let dataLength = (dataSize + hostPageSize - 1) & ~(hostPageSize - 1)
    let length = (size + hostPageSize - 1) & ~(hostPageSize - 1)
    // Large pages need both aliases to begin at one.
    let alignment = length < Self.largePageSize ? hostPageSize : Self.largePageSize
    let action = "map \(length >> 10) KiB of memory for generated code"
    let aliasSpace = try Self.reserve(length + alignment, action)
    let codeSpace: UnsafeMutableRawBufferPointer
    do throws(HostFailure) {
      // Data and code are one piece of address space.
      codeSpace = try Self.reserve(dataLength + length + alignment, action)
    } catch {
      munmap(aliasSpace.baseAddress, aliasSpace.count)
      throw error
    }
    let alias = Self.align(aliasSpace.baseAddress.unsafelyUnwrapped, to: alignment)
    let code = Self.align(codeSpace.baseAddress.unsafelyUnwrapped + dataLength, to: alignment)
    // Memory without a name: perf looks for the names of code in `PerfMap`'s file only there.
    let kind = MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED
    guard mmap(alias, length, PROT_READ | PROT_WRITE, kind, -1, 0) != MAP_FAILED,
      hostMapAgain(alias, length, code) == 0, mprotect(code, length, PROT_READ | PROT_EXEC) == 0
    else {
      let failure = HostFailure(action)
      for space in [aliasSpace, codeSpace] { munmap(space.baseAddress, space.count) }
      throw failure
    }
    self.size = length
    reservations = [aliasSpace, codeSpace]
    writable = alias
    executable = UnsafeRawPointer(code)
    self.data = code - dataLength
  }

  deinit {
    for space in reservations { munmap(space.baseAddress, space.count) }
  }

  private static func reserve(_ length: Int, _ action: String) throws(HostFailure) -> UnsafeMutableRawBufferPointer {
    let space = mmap(nil, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)
    guard let space, space != MAP_FAILED else { throw HostFailure(action) }
    return UnsafeMutableRawBufferPointer(start: space, count: length)
  }

  private static func align(_ address: UnsafeMutableRawPointer, to alignment: Int) -> UnsafeMutableRawPointer {
    let mask = UInt(alignment - 1)
    return UnsafeMutableRawPointer(bitPattern: (UInt(bitPattern: address) + mask) & ~mask).unsafelyUnwrapped
  }

  /// Puts the large page that holds `offset` in place of its small ones, if the host can do that (Linux 6.1 and later;
  /// madvise(2), MADV_COLLAPSE): code that is spread over many pages spends much of its time looking for them. What is in
  /// memory stays, and so do its addresses.
  public func useLargePage(at offset: Int) {
    let start = offset & ~(Self.largePageSize - 1)
    guard start >= 0, start + Self.largePageSize <= size else { return }
    // By either alias: the page is there for both, but each has to look for itself.
    _ = madvise(writable + start, Self.largePageSize, Self.collapse)
    _ = madvise(UnsafeMutableRawPointer(mutating: executable + start), Self.largePageSize, Self.collapse)
  }

  /// MADV_COLLAPSE of Linux's mman-common.h, which older C libraries lack.
  private static let collapse: Int32 = 25

  /// Where the code at `address` of the writable alias runs.
  @inlinable public func executableAddress(of address: UnsafeMutableRawPointer) -> UnsafeRawPointer {
    executable + (address - writable)
  }

  /// Where the code at `address` of the executable alias can be changed.
  @inlinable public func writableAddress(of address: UnsafeRawPointer) -> UnsafeMutableRawPointer {
    writable + (address - executable)
  }
}
