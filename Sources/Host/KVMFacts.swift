import CHost
import Glibc

/// What the host's KVM is worth, found by trying.
public struct KVMFacts: Sendable {
  public enum Verdict: Sendable, Equatable {
    /// There is no `/dev/kvm`.
    case absent
    /// It is there, but this user may not open it, or the kernel refused something.
    case refused(HostFailure)
    /// It has another version of the interface than the one everybody has used since 2007.
    case wrongVersion(Int32)
    /// A small guest ran, at so many instructions a second.
    case works(instructionsPerSecond: UInt64)
  }

  public var verdict: Verdict

  /// The interface version that everybody speaks.
  public static let version: Int32 = 12

  /// Hardware runs the probe at hundreds of millions a second; below this KVM emulates each instruction.
  public static let slow: UInt64 = 50_000_000

  /// Opens KVM and runs a few thousand instructions in it.
  public static func probe() -> KVMFacts {
    let device = open("/dev/kvm", O_RDWR | O_CLOEXEC)
    guard device >= 0 else {
      return KVMFacts(verdict: errno == ENOENT ? .absent : .refused(HostFailure("open /dev/kvm")))
    }
    defer { close(device) }
    let found = hostControl(device, KVMGetAPIVersion, 0)
    guard found == version else { return KVMFacts(verdict: .wrongVersion(found)) }
    do throws(HostFailure) {
      return KVMFacts(verdict: .works(instructionsPerSecond: try KVMProbe.run(device)))
    } catch {
      return KVMFacts(verdict: .refused(error))
    }
  }
}
