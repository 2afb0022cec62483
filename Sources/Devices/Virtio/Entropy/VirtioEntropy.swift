import Machine

/// A source of random bytes (VIRTIO 1.2, 5.4): whatever room the driver gives is filled from the host's entropy.
public final class VirtioEntropy: VirtioModel {
  /// There is nothing to remember.
  public struct State: Codable, Equatable, Sendable {}

  public let kind = VirtioKind.entropy
  public let features: UInt64 = 0
  public let queueSizes: [UInt16] = [64]
  public let configuration: [UInt8] = []
  private var core: VirtioCore?
  /// Bytes that one chain gets at most: the driver comes again.
  private static let limit: UInt64 = 4096

  public init() {}

  public func attach(to core: VirtioCore, platform: DevicePlatform) { self.core = core }

  public func reset() {}

  public func writeConfiguration(_ offset: Int, _ value: UInt8) {}

  public func notify(_ queue: Int) {
    guard let core else { return }
    core.forEachChain(queue) { chain in
      var bytes = [UInt8](repeating: 0, count: Int(min(chain.writableBytes, Self.limit)))
      bytes.withUnsafeMutableBytes { core.platform.inputs.entropy($0) }
      core.giveBack(chain, written: chain.write(bytes, in: core.memory))
    }
    core.signal(queue)
  }

  public func save() -> State { State() }

  public func restore(_ state: State) {}
}
