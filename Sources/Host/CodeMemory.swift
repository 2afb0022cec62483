import CHost
import Glibc

/// Memory for generated code: one memory file mapped twice, so that no address is ever both writable and executable.
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

  /// `size` is rounded up to whole pages. Pages are taken from the host when they are first touched.
  public init(size: Int) throws(HostFailure) {
    precondition(size > 0 && size <= 1 << 31, "code memory is reached with 32-bit displacements")
    let length = (size + hostPageSize - 1) & ~(hostPageSize - 1)
    let action = "map \(length >> 10) KiB of memory for generated code"
    let file = hostMemoryFile("ringside-code")
    guard file >= 0 else { throw HostFailure(action) }
    defer { close(file) }
    guard ftruncate(file, length) == 0 else { throw HostFailure(action) }
    guard let data = mmap(nil, length, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0), data != MAP_FAILED else {
      throw HostFailure(action)
    }
    guard let code = mmap(nil, length, PROT_READ | PROT_EXEC, MAP_SHARED, file, 0), code != MAP_FAILED else {
      let failure = HostFailure(action)
      munmap(data, length)
      throw failure
    }
    self.size = length
    writable = data
    executable = UnsafeRawPointer(code)
  }

  deinit {
    munmap(writable, size)
    munmap(UnsafeMutableRawPointer(mutating: executable), size)
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
