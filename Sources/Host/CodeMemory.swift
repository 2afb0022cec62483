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
  private let dataSize: Int

  /// Sizes are rounded up to whole pages. Pages are taken from the host when they are first touched.
  public init(size: Int, dataSize: Int = 0) throws(HostFailure) {
    precondition(
      size > 0 && dataSize >= 0 && size + dataSize < 1 << 31, "code memory is reached with 32-bit displacements")
    let dataLength = (dataSize + hostPageSize - 1) & ~(hostPageSize - 1)
    let length = (size + hostPageSize - 1) & ~(hostPageSize - 1)
    let action = "map \(length >> 10) KiB of memory for generated code"
    // Memory without a name: perf looks for the names of code in `PerfMap`'s file only there.
    let alias = mmap(nil, length, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)
    guard let alias, alias != MAP_FAILED else { throw HostFailure(action) }
    // Data and code are one piece of address space.
    let whole = mmap(
      nil, dataLength + length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)
    guard let whole, whole != MAP_FAILED else {
      let failure = HostFailure(action)
      munmap(alias, length)
      throw failure
    }
    let code = whole + dataLength
    guard hostMapAgain(alias, length, code) == 0, mprotect(code, length, PROT_READ | PROT_EXEC) == 0 else {
      let failure = HostFailure(action)
      munmap(alias, length)
      munmap(whole, dataLength + length)
      throw failure
    }
    self.size = length
    self.dataSize = dataLength
    writable = alias
    executable = UnsafeRawPointer(code)
    self.data = whole
  }

  deinit {
    munmap(writable, size)
    munmap(data, dataSize + size)
  }

  /// Where the code at `address` of the writable alias runs.
  @inlinable public func executableAddress(of address: UnsafeMutableRawPointer) -> UnsafeRawPointer {
    executable + (address - writable)
  }

  /// Where the code at `address` of the executable alias can be changed.
  @inlinable public func writableAddress(of address: UnsafeRawPointer) -> UnsafeMutableRawPointer {
    writable + (address - executable)
  }
}
