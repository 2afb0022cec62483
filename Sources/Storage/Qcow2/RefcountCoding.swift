/// Reads and writes refcounts of 1 to 64 bits in a refcount block, as it stands in the file (docs/interop/qcow2.txt,
/// "Refcount block entry").
struct RefcountCoding {
  /// Log2 of the bits.
  let order: UInt64

  func value(_ block: UnsafeRawBufferPointer, _ index: Int) -> UInt64 {
    switch order {
    case 0...2:
      let bits = 1 << Int(order)
      let position = index * bits
      return UInt64(block[position >> 3] >> UInt8(position & 7)) & (1 << UInt64(bits) - 1)
    case 3: return UInt64(block[index])
    case 4: return UInt64(block.bigEndian(at: index * 2, as: UInt16.self))
    case 5: return UInt64(block.bigEndian(at: index * 4, as: UInt32.self))
    default: return block.bigEndian(at: index * 8)
    }
  }

  /// `value` fits the width.
  func store(_ value: UInt64, _ block: UnsafeMutableRawBufferPointer, _ index: Int) {
    switch order {
    case 0...2:
      let bits = 1 << Int(order)
      let position = index * bits
      let mask = UInt8(1 << bits - 1) << UInt8(position & 7)
      block[position >> 3] =
        block[position >> 3] & ~mask | UInt8(truncatingIfNeeded: value) << UInt8(position & 7) & mask
    case 3: block[index] = UInt8(truncatingIfNeeded: value)
    case 4: block.storeBigEndian(UInt16(truncatingIfNeeded: value), at: index * 2)
    case 5: block.storeBigEndian(UInt32(truncatingIfNeeded: value), at: index * 4)
    default: block.storeBigEndian(value, at: index * 8)
    }
  }

  /// The bytes of a block that hold the refcount at `index`.
  func bytes(_ index: Int) -> Range<Int> {
    let first = (index << Int(order)) >> 3
    return first..<first + max(1, (1 << Int(order)) >> 3)
  }
}
