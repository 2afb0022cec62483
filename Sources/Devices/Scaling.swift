/// `value * numerator / denominator`, rounded down, in 128 bits; the largest UInt64 where the result does not fit.
func scale(_ value: UInt64, by numerator: UInt64, over denominator: UInt64) -> UInt64 {
  let product = value.multipliedFullWidth(by: numerator)
  guard product.high < denominator else { return .max }
  return denominator.dividingFullWidth(product).quotient
}

/// `value * numerator / denominator`, rounded up, in 128 bits; the largest UInt64 where the result does not fit.
func scaleUp(_ value: UInt64, by numerator: UInt64, over denominator: UInt64) -> UInt64 {
  let product = value.multipliedFullWidth(by: numerator)
  guard product.high < denominator else { return .max }
  let (quotient, remainder) = denominator.dividingFullWidth(product)
  return remainder == 0 || quotient == .max ? quotient : quotient + 1
}

/// Nanoseconds in a second: the unit of `Clock.now`.
let nanosecondsPerSecond: UInt64 = 1_000_000_000
