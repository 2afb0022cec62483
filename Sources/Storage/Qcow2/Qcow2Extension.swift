/// A header extension: something optional between the header and the backing file's name (docs/interop/qcow2.txt,
/// "Header extensions").
struct Qcow2Extension: Equatable {
  static let backingFormat: UInt32 = 0xe279_2aca
  static let featureNames: UInt32 = 0x6803_f857
  static let bitmaps: UInt32 = 0x2385_2875

  var type: UInt32
  var data: [UInt8]

  /// All extensions of an image. A broken one is an error.
  static func read(from file: any ImageFile, header: Qcow2Header) throws(ImageFailure) -> [Qcow2Extension] {
    let clusterSize = 1 << header.clusterBits
    let end = header.backingOffset == 0 ? clusterSize : min(clusterSize, Int(clamping: header.backingOffset))
    var extensions: [Qcow2Extension] = []
    guard end > header.length else { return [] }
    // A file may end within its first cluster; beyond it there are zeroes, which end the list.
    var area = [UInt8](repeating: 0, count: end - header.length)
    let result = area.withUnsafeMutableBytes { area in
      Result { () throws(ImageFailure) in try file.read([area], at: UInt64(header.length)) }
    }
    _ = try result.get()
    var offset = 0
    while area.count - offset >= 8 {
      let type: UInt32 = area.bigEndian(at: offset)
      let length = Int(area.bigEndian(at: offset + 4, as: UInt32.self))
      if type == 0 { break }
      offset += 8
      guard length <= area.count - offset else {
        throw ImageFailure(file.name, .corrupt("a header extension of \(length) bytes is larger than the header"))
      }
      extensions.append(Qcow2Extension(type: type, data: Array(area[offset..<offset + length])))
      offset += (length + 7) & ~7
    }
    return extensions
  }

  /// As it stands in the file.
  var encoded: [UInt8] {
    var bytes = [UInt8](repeating: 0, count: 8 + (data.count + 7) & ~7)
    bytes.storeBigEndian(type, at: 0)
    bytes.storeBigEndian(UInt32(data.count), at: 4)
    bytes.replaceSubrange(8..<8 + data.count, with: data)
    return bytes
  }

  /// In a feature name table: the name of an incompatible feature.
  func featureName(bit: Int) -> String? {
    for start in stride(from: 0, to: data.count - 47, by: 48) where data[start] == 0 && data[start + 1] == UInt8(bit) {
      return "'" + String(decoding: data[start + 2..<start + 48].prefix { $0 != 0 }, as: UTF8.self) + "'"
    }
    return nil
  }

  /// The name table of the features that this program knows, for programs that do not know them.
  static var knownFeatures: Qcow2Extension {
    let names: [(kind: UInt8, bit: UInt8, name: String)] = [
      (0, 0, "dirty bit"), (0, 1, "corrupt bit"), (0, 3, "compression type"), (1, 0, "lazy refcounts"),
    ]
    var data: [UInt8] = []
    for (kind, bit, name) in names {
      data += [kind, bit] + name.utf8 + [UInt8](repeating: 0, count: 46 - name.utf8.count)
    }
    return Qcow2Extension(type: featureNames, data: data)
  }
}
