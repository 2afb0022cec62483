import CHost
import Logging
import Memory

/// What an engine is made with. Everything in it lives as long as the virtual processor does.
public struct EngineContext {
  /// Number of the processor, from 0.
  public var cpu: Int
  /// Its state, 64-byte aligned; `engine.attention` is set.
  public var state: UnsafeMutablePointer<CPUState>
  public var memory: GuestMemory
  /// Frequency of the time-stamp counter in Hz, for CPUID.
  public var timeStampFrequency: UInt64
  public var log: Logger
}

/// Makes an engine for one virtual processor.
public typealias EngineFactory = (EngineContext) throws -> any ExecutionEngine
