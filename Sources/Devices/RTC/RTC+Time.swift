/// How time passes in the clock chip: updates once a second, alarms at updates, periodic ticks of the divider chain.
extension RTC {
  /// Hz.
  private static let crystal: UInt64 = 32_768
  /// Register A's UIP is set this long (ns) before the end of an update: 244 us of warning and 1984 us of update.
  private static let updateWindow: UInt64 = 2_228_000

  /// The divider chain runs; other settings of register A stop or reset it.
  var isDividing: Bool { state.bytes[RTCRegister.a] & RTCRegister.divider == RTCRegister.running }

  /// Updates take place.
  private var isUpdating: Bool { isDividing && state.bytes[RTCRegister.b] & RTCRegister.set == 0 }

  var isUpdateInProgress: Bool {
    let phase = (platform.clock.now &- state.dividerStart) % nanosecondsPerSecond
    return isUpdating && phase >= nanosecondsPerSecond - Self.updateWindow
  }

  // MARK: Events

  /// Carries out what has happened since the last call: moves the time on and sets flags in register C.
  func settle() {
    let now = platform.clock.now
    defer { state.settledAt = now }
    guard isDividing else { return }
    let updates = (now &- state.dividerStart) / nanosecondsPerSecond
    let settledUpdates = (state.settledAt &- state.dividerStart) / nanosecondsPerSecond
    if updates > settledUpdates, isUpdating { update(updates - settledUpdates) }
    if let period = periodicTicks {
      let isDue = ticks(now) / period > ticks(state.settledAt) / period
      if isDue { state.bytes[RTCRegister.c] |= RTCRegister.periodic }
    }
  }

  private func update(_ count: UInt64) {
    var time = time
    if let wait = secondsUntilAlarm(after: time), wait <= count { state.bytes[RTCRegister.c] |= RTCRegister.alarm }
    time.advance(seconds: count)
    self.time = time
    state.bytes[RTCRegister.c] |= RTCRegister.updateEnded
  }

  /// When the first of the events `wanted` (bits of register B) comes whose flag is not set yet.
  func nextEvent(wanted: UInt8) -> UInt64? {
    let awaited = wanted & ~state.bytes[RTCRegister.c]
    guard awaited != 0, isDividing else { return nil }
    let now = platform.clock.now
    var next: UInt64?
    if awaited & RTCRegister.periodic != 0, let period = periodicTicks {
      let count = ticks(now) / period &+ 1
      next = state.dividerStart &+ scaleUp(count &* period, by: nanosecondsPerSecond, over: Self.crystal)
    }
    guard isUpdating else { return next }
    let lastUpdate = now &- (now &- state.dividerStart) % nanosecondsPerSecond
    var seconds: UInt64?
    if awaited & RTCRegister.updateEnded != 0 {
      seconds = 1
    } else if awaited & RTCRegister.alarm != 0 {
      seconds = secondsUntilAlarm(after: time)
    }
    guard let seconds else { return next }
    let update = lastUpdate &+ seconds &* nanosecondsPerSecond
    return min(next ?? update, update)
  }

  /// Ticks of the crystal between periodic interrupts (MC146818A data sheet, table 5); nil: none.
  private var periodicTicks: UInt64? {
    switch state.bytes[RTCRegister.a] & RTCRegister.rate {
    case 0: nil
    case 1: 128
    case 2: 256
    case let rate: 1 << UInt64(rate - 1)
    }
  }

  /// Ticks of the crystal since the divider chain began to count.
  private func ticks(_ moment: UInt64) -> UInt64 {
    scale(moment &- state.dividerStart, by: Self.crystal, over: nanosecondsPerSecond)
  }

  /// Seconds from `time`, 1 to 86400, until the alarm registers match; nil: never. Bytes from 0xc0 match anything.
  private func secondsUntilAlarm(after time: CalendarTime) -> UInt64? {
    var start = time
    start.clamp()
    let alarm = (RTCRegister.hourAlarm, RTCRegister.minuteAlarm, RTCRegister.secondAlarm)
    guard let hour = alarmValue(alarm.0, limit: 24), let minute = alarmValue(alarm.1, limit: 60),
      let second = alarmValue(alarm.2, limit: 60)
    else { return nil }
    var candidate = start
    candidate.secondOfDay = (start.secondOfDay + 1) % 86_400
    // At most all hours, then all minutes of one, then all seconds of one are tried.
    while true {
      let now = candidate.secondOfDay
      if let hour, candidate.hour != hour {
        candidate.secondOfDay = (candidate.hour + 1) * 3600 % 86_400
      } else if let minute, candidate.minute != minute {
        candidate.secondOfDay = (now / 60 + 1) * 60 % 86_400
      } else if let second, candidate.second != second {
        candidate.secondOfDay = (now + 1) % 86_400
      } else {
        let wait = (now - start.secondOfDay + 86_400) % 86_400
        return wait == 0 ? 86_400 : UInt64(wait)
      }
    }
  }

  /// Outer nil: cannot match. Inner nil: matches anything.
  private func alarmValue(_ register: Int, limit: Int) -> Int?? {
    let byte = state.bytes[register]
    if byte >= 0xc0 { return .some(nil) }
    let isHour = register == RTCRegister.hourAlarm
    let value = isHour ? decodeHour(byte) : decode(byte)
    guard value < limit, (isHour ? encodeHour(value) : encode(value)) == byte else { return nil }
    return .some(value)
  }

  // MARK: Formats

  /// The time in the registers, in the format of register B.
  var time: CalendarTime {
    get {
      var time = CalendarTime()
      time.second = decode(state.bytes[RTCRegister.second])
      time.minute = decode(state.bytes[RTCRegister.minute])
      time.hour = decodeHour(state.bytes[RTCRegister.hour])
      time.weekday = decode(state.bytes[RTCRegister.weekday])
      time.day = decode(state.bytes[RTCRegister.day])
      time.month = decode(state.bytes[RTCRegister.month])
      time.year = decode(state.bytes[RTCRegister.century]) * 100 + decode(state.bytes[RTCRegister.year])
      return time
    }
    set {
      state.bytes[RTCRegister.second] = encode(newValue.second)
      state.bytes[RTCRegister.minute] = encode(newValue.minute)
      state.bytes[RTCRegister.hour] = encodeHour(newValue.hour)
      state.bytes[RTCRegister.weekday] = encode(newValue.weekday)
      state.bytes[RTCRegister.day] = encode(newValue.day)
      state.bytes[RTCRegister.month] = encode(newValue.month)
      state.bytes[RTCRegister.year] = encode(newValue.year % 100)
      state.bytes[RTCRegister.century] = encode(newValue.year / 100)
    }
  }

  private func decode(_ byte: UInt8) -> Int {
    state.bytes[RTCRegister.b] & RTCRegister.binary != 0 ? Int(byte) : Int(byte >> 4) * 10 + Int(byte & 15)
  }

  private func encode(_ value: Int) -> UInt8 {
    let isBinary = state.bytes[RTCRegister.b] & RTCRegister.binary != 0
    return UInt8(truncatingIfNeeded: isBinary ? value : (value / 10) << 4 | value % 10)
  }

  private func decodeHour(_ byte: UInt8) -> Int {
    guard state.bytes[RTCRegister.b] & RTCRegister.twentyFourHours == 0 else { return decode(byte) }
    return decode(byte & ~RTCRegister.afternoon) % 12 + (byte & RTCRegister.afternoon != 0 ? 12 : 0)
  }

  private func encodeHour(_ hour: Int) -> UInt8 {
    guard state.bytes[RTCRegister.b] & RTCRegister.twentyFourHours == 0 else { return encode(hour) }
    return encode((hour + 11) % 12 + 1) | (hour >= 12 ? RTCRegister.afternoon : 0)
  }
}
