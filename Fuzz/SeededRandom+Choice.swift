import TestSupport

extension SeededRandom {
  mutating func below(_ limit: Int) -> Int { Int(next() % UInt64(limit)) }
  mutating func oneIn(_ number: Int) -> Bool { below(number) == 0 }
  mutating func pick<T>(_ choices: [T]) -> T { choices[below(choices.count)] }
  mutating func byte() -> UInt8 { UInt8(truncatingIfNeeded: next()) }

  /// A value of a kind that guests have in registers: counts, addresses of this guest, limits of types, anything.
  mutating func operand() -> UInt64 {
    switch below(10) {
    case 0: next() & 0xf
    case 1: next() & 0xff
    case 2, 3, 4: UInt64(Layout.data) + next() % UInt64(Layout.dataSize)
    case 5: UInt64(Layout.code) + next() % UInt64(Layout.codeSize)
    case 6: UInt64(Layout.data) | 0xff0 + next() & 0xf
    case 7: pick([0x7fff_ffff, 0x8000_0000, 0xffff_ffff, 1 << 47, ~0, 1 << 63, ~0 >> 1, 0xffff, 0x7ff8, 0])
    case 8: UInt64(bitPattern: -Int64(next() & 0xffff))
    default: next()
    }
  }
}
