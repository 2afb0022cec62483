/// Changes of what an image is an overlay of. Other threads' requests wait meanwhile.
extension Qcow2Image {
  /// Writes down another backing file, or that there is none. This object still uses the old one.
  func setBacking(_ backing: (path: String, format: ImageFormat)?) throws(ImageFailure) {
    try exclusively { () throws(ImageFailure) in
      try Qcow2Creation.writeHeader(header, extensions: extensions, backing: backing, to: file)
      try file.flush()
    }
  }

  /// Drops all that the disk has of its own, so that it is what its backing file is.
  func makeEmpty() throws(ImageFailure) {
    try exclusively { () throws(ImageFailure) in
      let transaction = try Qcow2Transaction(file)
      try transaction.add(-1, toAllOf: l1)
      try transaction.activate([Qcow2Entry](repeating: .unallocated, count: l1.count))
      try transaction.commit()
    }
  }
}
