import CZstd
import Glibc
import Memory

extension VirtualMachine {
  /// What a snapshot tells of the machine beside its state.
  public struct SnapshotDescription {
    /// Seconds since 1970.
    public var created: UInt64
    /// The arguments that `ringside run` was given.
    public var arguments: [String]

    public init(created: UInt64, arguments: [String]) {
      self.created = created
      self.arguments = arguments
    }
  }

  /// Writes the whole machine into a file, which takes the place of an older one only when it is whole. Only while the
  /// machine is paused.
  public func writeSnapshot(to path: String, _ description: SnapshotDescription) throws(SnapshotFailure) {
    let writer = try SnapshotWriter(path: path)
    var disks: [String] = []
    do throws(SnapshotFailure) {
      disks = try saveDisks(name: Self.diskSnapshotName(description), file: path)
      let index = try writer.write(memory.contents)
      try writer.finish(content(description, disks: disks), index: index)
    } catch {
      dropDisks(disks)
      writer.abandon()
      throw error
    }
  }

  /// Unlike any other, in an image that several machines have had.
  private static func diskSnapshotName(_ description: SnapshotDescription) -> String {
    "ringside-\(description.created)-\(String(UInt32.random(in: 0...UInt32.max), radix: 16))"
  }

  private func content(_ description: SnapshotDescription, disks: [String]) -> CBORValue {
    let saved = save()
    return .map([
      ("created", .unsigned(description.created)),
      ("arguments", .array(description.arguments.map { .text($0) })),
      ("memorySize", .unsigned(memory.size)),
      ("timeStampFrequency", .unsigned(clock.timeStampFrequency)),
      ("disks", .array(disks.map { .text($0) })),
      ("time", .unsigned(saved.time)),
      ("timeStamp", .unsigned(saved.timeStamp)),
      ("processors", encode(saved.processors)),
      (
        "devices",
        .array(saved.devices.map { .map([("name", .text($0.name)), ("state", encode($0.state))]) })
      ),
    ])
  }

  private func encode(_ state: some Encodable) -> CBORValue {
    do { return try CBOREncoder.encode(state) } catch {
      preconditionFailure("a device's state cannot be written: \(error)")
    }
  }
}

/// Writes one snapshot's file, under another name until it is whole.
private final class SnapshotWriter {
  private let path: String
  private let temporary: String
  private let descriptor: Int32
  private let compression: OpaquePointer
  private var buffer: [UInt8]
  private var offset = UInt64(SnapshotFile.headerSize)

  /// Fast: what is written is memory that somebody waits for.
  private static let level: Int32 = 1

  init(path: String) throws(SnapshotFailure) {
    self.path = path
    temporary = path + ".new"
    descriptor = open(temporary, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
    guard descriptor >= 0 else { throw SnapshotFailure(temporary, failedTo: "create") }
    guard let context = ZSTD_createCCtx() else {
      close(descriptor)
      throw SnapshotFailure(path, .host(action: "compress", code: ENOMEM))
    }
    compression = context
    ZSTD_CCtx_setParameter(context, ZSTD_c_compressionLevel, Self.level)
    ZSTD_CCtx_setParameter(context, ZSTD_c_checksumFlag, 1)
    buffer = [UInt8](repeating: 0, count: ZSTD_compressBound(DeferredContents.chunkSize))
  }

  deinit {
    close(descriptor)
    ZSTD_freeCCtx(compression)
  }

  func abandon() { unlink(temporary) }

  /// Writes all chunks that have anything in them; returns the index.
  func write(_ memory: UnsafeRawBufferPointer) throws(SnapshotFailure) -> [UInt8] {
    var index: [UInt8] = []
    for start in stride(from: 0, to: memory.count, by: DeferredContents.chunkSize) {
      let chunk = UnsafeRawBufferPointer(
        rebasing: memory[start..<min(start + DeferredContents.chunkSize, memory.count)])
      let length = Self.isZero(chunk) ? 0 : try append(chunk)
      index += Self.bytes(length == 0 ? 0 : offset - length) + Self.bytes(length)
    }
    return index
  }

  private static func isZero(_ bytes: UnsafeRawBufferPointer) -> Bool {
    // A row of bytes that equals itself moved on by one is all like its first.
    guard let base = bytes.baseAddress, bytes[0] == 0 else { return bytes.isEmpty }
    return memcmp(base, base + 1, bytes.count - 1) == 0
  }

  /// Appends `bytes` as a frame; returns its length.
  private func append(_ bytes: UnsafeRawBufferPointer) throws(SnapshotFailure) -> UInt64 {
    let bound = ZSTD_compressBound(bytes.count)
    if buffer.count < bound { buffer = [UInt8](repeating: 0, count: bound) }
    let length = buffer.withUnsafeMutableBytes {
      ZSTD_compress2(compression, $0.baseAddress, $0.count, bytes.baseAddress, bytes.count)
    }
    guard ZSTD_isError(length) == 0 else {
      throw SnapshotFailure(path, .damaged("zstd: \(String(cString: ZSTD_getErrorName(length)))"))
    }
    try put(buffer[..<length], at: offset)
    offset += UInt64(length)
    return UInt64(length)
  }

  private func put(_ bytes: ArraySlice<UInt8>, at offset: UInt64) throws(SnapshotFailure) {
    var done = 0
    while done < bytes.count {
      let count = bytes.withUnsafeBytes {
        pwrite(descriptor, $0.baseAddress! + done, $0.count - done, Int(offset) + done)
      }
      if count < 0, errno == EINTR { continue }
      guard count > 0 else { throw SnapshotFailure(path, failedTo: "write") }
      done += count
    }
  }

  private static func bytes(_ number: UInt64) -> [UInt8] { withUnsafeBytes(of: number.littleEndian) { Array($0) } }

  /// Writes index, description and header, and gives the file its name.
  func finish(_ content: CBORValue, index: [UInt8]) throws(SnapshotFailure) {
    let indexOffset = offset
    try put(index[...], at: indexOffset)
    offset += UInt64(index.count)
    let description = content.encoded
    let descriptionOffset = offset
    let length = try description.withUnsafeBytes { bytes in
      Result { () throws(SnapshotFailure) in try append(bytes) }
    }.get()
    var header = SnapshotFile.magic + Self.bytes(UInt64(SnapshotFile.version))
    for number in [indexOffset, UInt64(index.count), descriptionOffset, length, UInt64(description.count)] {
      header += Self.bytes(number)
    }
    header += [UInt8](repeating: 0, count: SnapshotFile.headerSize - header.count)
    try put(header[...], at: 0)
    guard fsync(descriptor) == 0 else { throw SnapshotFailure(path, failedTo: "write") }
    guard rename(temporary, path) == 0 else { throw SnapshotFailure(path, failedTo: "create") }
  }
}
