import CZstd
import Glibc
import Memory

// A snapshot's file; Docs/Snapshot-format.md describes it for readers in other languages.
//
//   header      64 bytes: magic, version, where the two tables are
//   chunks      256 KiB of RAM each, as a zstd frame with a checksum; chunks that are all zeros are left out
//   index       for each chunk of RAM, 16 bytes: offset and length of its frame; zeros: left out
//   description a zstd frame of CBOR: what the machine is, clock, processors, devices
//
// The file is written under another name and renamed when it is whole and durable, so a snapshot is there or not. When it
// is read, only header, index and description are: chunks are brought when the guest first wants them.

/// A snapshot on disk, open for reading.
public final class SnapshotFile: @unchecked Sendable {
  public static let version: UInt32 = 2
  static let magic = Array("RINGSNAP".utf8)
  static let headerSize = 64
  /// More than a description, or an index of 1 TiB of RAM, has.
  private static let tableLimit: UInt64 = 1 << 30

  /// The path as the user gave it.
  public let name: String
  /// When it was taken, in seconds since 1970.
  public let created: UInt64
  /// The arguments that `ringside run` had been given.
  public let arguments: [String]
  /// Bytes of RAM.
  public let memorySize: UInt64
  /// Hz.
  public let timeStampFrequency: UInt64
  /// For each disk the name of its internal snapshot; empty: the machine only reads it.
  public let disks: [String]
  private let content: CBORValue
  private let chunks: [Chunk]
  private let descriptor: Int32
  private let decompression: OpaquePointer

  struct Chunk {
    var offset: UInt64
    var length: UInt64
  }

  /// Opens and checks all but the memory's contents.
  public init(path: String) throws(SnapshotFailure) {
    name = path
    descriptor = open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { throw SnapshotFailure(path, failedTo: "open") }
    guard let context = ZSTD_createDCtx() else {
      Glibc.close(descriptor)
      throw SnapshotFailure(path, .host(action: "decompress", code: ENOMEM))
    }
    decompression = context
    do throws(SnapshotFailure) {
      let tables = try Self.readTables(descriptor, path, context)
      (content, chunks) = tables
      struct Description: Decodable {
        var created: UInt64
        var arguments: [String]
        var memorySize: UInt64
        var timeStampFrequency: UInt64
        var disks: [String]
      }
      guard let description = try? CBORDecoder.decode(Description.self, from: content),
        UInt64(chunks.count) == (description.memorySize + UInt64(DeferredContents.chunkSize) - 1)
          >> DeferredContents.chunkShift
      else { throw SnapshotFailure(path, .damaged("its description makes no sense")) }
      created = description.created
      arguments = description.arguments
      memorySize = description.memorySize
      timeStampFrequency = description.timeStampFrequency
      disks = description.disks
    } catch {
      Glibc.close(descriptor)
      ZSTD_freeDCtx(context)
      throw error
    }
  }

  deinit {
    Glibc.close(descriptor)
    ZSTD_freeDCtx(decompression)
  }

  /// Bytes of RAM that the file holds, before compression.
  public var storedMemory: UInt64 {
    UInt64(chunks.count { $0.length > 0 }) << DeferredContents.chunkShift
  }

  /// Bytes of the file.
  public var fileSize: UInt64 {
    var status = stat()
    return fstat(descriptor, &status) == 0 ? UInt64(clamping: status.st_size) : 0
  }

  // MARK: Reading

  private static func readTables(
    _ descriptor: Int32, _ path: String, _ context: OpaquePointer
  ) throws(SnapshotFailure) -> (CBORValue, [Chunk]) {
    let header = try read(descriptor, path, at: 0, count: UInt64(headerSize), else: .notASnapshot)
    guard header.starts(with: magic) else { throw SnapshotFailure(path, .notASnapshot) }
    let version = UInt32(truncatingIfNeeded: number(header, at: 8))
    guard version == Self.version else { throw SnapshotFailure(path, .version(version)) }
    let indexBytes = try read(
      descriptor, path, at: number(header, at: 16), count: number(header, at: 24), else: .truncated)
    let chunks = stride(from: 0, to: indexBytes.count & ~15, by: 16).map {
      Chunk(offset: number(indexBytes, at: $0), length: number(indexBytes, at: $0 + 8))
    }
    let frame = try read(
      descriptor, path, at: number(header, at: 32), count: number(header, at: 40), else: .truncated)
    let size = number(header, at: 48)
    guard size <= tableLimit else { throw SnapshotFailure(path, .damaged("its description has no sensible size")) }
    var bytes = [UInt8](repeating: 0, count: Int(size))
    let count = bytes.withUnsafeMutableBytes { target in
      frame.withUnsafeBytes { ZSTD_decompressDCtx(context, target.baseAddress, target.count, $0.baseAddress, $0.count) }
    }
    guard ZSTD_isError(count) == 0, count == bytes.count, let content = try? CBORParser.parse(bytes) else {
      throw SnapshotFailure(path, .damaged("its description cannot be read"))
    }
    return (content, chunks)
  }

  private static func number(_ bytes: [UInt8], at offset: Int) -> UInt64 {
    (0..<8).reduce(0) { $0 | UInt64(bytes[offset + $1]) << UInt64(8 * $1) }
  }

  /// `problem` is what it means when the file is too short.
  private static func read(
    _ descriptor: Int32, _ path: String, at offset: UInt64, count: UInt64, else problem: SnapshotFailure.Reason
  ) throws(SnapshotFailure) -> [UInt8] {
    guard count <= tableLimit, let start = Int(exactly: offset) else {
      throw SnapshotFailure(path, .damaged("a table lies nowhere"))
    }
    var bytes = [UInt8](repeating: 0, count: Int(count))
    let done = bytes.withUnsafeMutableBytes { readAll(descriptor, $0, at: start) }
    guard done == bytes.count else {
      throw done < 0 ? SnapshotFailure(path, failedTo: "read") : SnapshotFailure(path, problem)
    }
    return bytes
  }

  /// Bytes that were read, fewer only at the file's end; negative with `errno`.
  private static func readAll(_ descriptor: Int32, _ buffer: UnsafeMutableRawBufferPointer, at offset: Int) -> Int {
    var done = 0
    while done < buffer.count, let base = buffer.baseAddress {
      let count = pread(descriptor, base + done, buffer.count - done, offset + done)
      if count < 0, errno == EINTR { continue }
      guard count >= 0 else { return -1 }
      if count == 0 { break }
      done += count
    }
    return done
  }

  /// The state of processors and devices, for a machine that is put together as the saved one was.
  public func state(for machine: VirtualMachine) throws(SnapshotFailure) -> MachineSnapshot {
    do {
      let stored = try CBORDecoder.decode(StoredState.self, from: content)
      let names = stored.devices.map(\.name)
      guard names == machine.devices.map(\.name) else {
        let other = zip(names, machine.devices.map(\.name)).first { $0 != $1 }
        throw SnapshotFailure(
          name,
          .mismatch(
            "it has \(names.count) devices and this machine \(machine.devices.count)"
              + (other.map { ", the first difference being \($0) and \($1)" } ?? "")))
      }
      var devices: [MachineSnapshot.DeviceState] = []
      for (device, saved) in zip(machine.devices, stored.devices) {
        devices.append(.init(name: saved.name, state: try decodeState(of: device, saved.state)))
      }
      return MachineSnapshot(
        time: stored.time, timeStamp: stored.timeStamp, processors: stored.processors, devices: devices)
    } catch let failure as SnapshotFailure {
      throw failure
    } catch {
      throw SnapshotFailure(name, .damaged("the state of a processor or device cannot be read (\(error))"))
    }
  }

  private func decodeState<D: Device>(of device: D, _ value: CBORValue) throws -> any Codable {
    try CBORDecoder.decode(D.State.self, from: value)
  }

  /// Makes the saved RAM the contents of `memory`, which has as much and is all zeros; each piece comes when it is first
  /// wanted. `onDamage` is called, on the thread that wanted it, for each that cannot be read.
  public func provideContents(to memory: GuestMemory, onDamage: @escaping @Sendable (SnapshotFailure) -> Void) {
    precondition(memory.size == memorySize, "a snapshot's memory has the size of the machine's")
    let (base, dirty) = (memory.base, memory.dirty)
    memory.deferContents(
      DeferredContents(isAbsent: chunks.map { $0.length > 0 }) { [self] index in
        let start = UInt64(index) << DeferredContents.chunkShift
        let count = min(UInt64(DeferredContents.chunkSize), memorySize - start)
        let target = UnsafeMutableRawBufferPointer(start: base + Int(start), count: Int(count))
        if let failure = fill(target, from: chunks[index]) {
          memset(target.baseAddress!, 0, target.count)
          onDamage(failure)
        }
        memset(dirty + Int(start >> 12), 1, target.count >> 12)
      })
  }

  /// Called by one thread at a time.
  private func fill(_ target: UnsafeMutableRawBufferPointer, from chunk: Chunk) -> SnapshotFailure? {
    do throws(SnapshotFailure) {
      guard chunk.length <= ZSTD_compressBound(target.count) else {
        throw SnapshotFailure(name, .damaged("a piece of its memory has no sensible size"))
      }
      let frame = try Self.read(descriptor, name, at: chunk.offset, count: chunk.length, else: .truncated)
      let count = frame.withUnsafeBytes {
        ZSTD_decompressDCtx(decompression, target.baseAddress, target.count, $0.baseAddress, $0.count)
      }
      guard ZSTD_isError(count) == 0, count == target.count else {
        throw SnapshotFailure(name, .damaged("a piece of its memory cannot be decompressed"))
      }
      return nil
    } catch { return error }
  }
}

/// What the description holds beside what the machine is.
struct StoredState: Decodable {
  struct StoredDevice: Decodable {
    var name: String
    var state: CBORValue
  }

  var time: UInt64
  var timeStamp: UInt64
  var processors: [ProcessorSnapshot]
  var devices: [StoredDevice]
}
