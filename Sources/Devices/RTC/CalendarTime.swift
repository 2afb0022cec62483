/// A date and time of day as the clock chip counts them.
struct CalendarTime: Equatable {
  var second = 0
  var minute = 0
  var hour = 0
  /// 1 to 7; Sunday is 1.
  var weekday = 1
  var day = 1
  var month = 1
  /// With its century.
  var year = 1970

  /// Seconds since the day began.
  var secondOfDay: Int {
    get { hour * 3600 + minute * 60 + second }
    set {
      hour = newValue / 3600
      minute = newValue / 60 % 60
      second = newValue % 60
    }
  }

  init() {}

  /// From seconds since 1970 UTC.
  init(secondsSince1970 seconds: UInt64) {
    let days = Int(seconds / 86_400)
    setDate(daysSince1970: days)
    secondOfDay = Int(seconds % 86_400)
    weekday = (days + 4) % 7 + 1
  }

  /// Brings every part that a guest may have written into its range.
  mutating func clamp() {
    second = min(max(second, 0), 59)
    minute = min(max(minute, 0), 59)
    hour = min(max(hour, 0), 23)
    weekday = min(max(weekday, 1), 7)
    month = min(max(month, 1), 12)
    year = min(max(year, 0), 9999)
    day = min(max(day, 1), Self.days(inMonth: month, of: year))
  }

  /// Goes forward; the weekday is counted, not derived: the chip does not know which day the guest calls Sunday.
  mutating func advance(seconds: UInt64) {
    clamp()
    let total = UInt64(secondOfDay) + seconds % 86_400
    let days = seconds / 86_400 + total / 86_400
    secondOfDay = Int(total % 86_400)
    guard days > 0 else { return }
    weekday = Int((UInt64(weekday - 1) + days) % 7) + 1
    setDate(daysSince1970: daysSince1970 + Int(days))
    year %= 10_000
  }

  // MARK: The Gregorian calendar

  private static func isLeap(_ year: Int) -> Bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
  }

  private static func days(inMonth month: Int, of year: Int) -> Int {
    switch month {
    case 2: isLeap(year) ? 29 : 28
    case 4, 6, 9, 11: 30
    default: 31
    }
  }

  /// Days from the first of March of year 0 to the first of January 1970.
  private static let epoch = 719_468

  /// Years are counted from March, so that a leap day is the last of its year.
  private var daysSince1970: Int {
    let marchYear = month > 2 ? year : year - 1
    let era = marchYear >= 0 ? marchYear / 400 : (marchYear - 399) / 400
    let yearOfEra = marchYear - era * 400
    let dayOfYear = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1
    return era * 146_097 + yearOfEra * 365 + yearOfEra / 4 - yearOfEra / 100 + dayOfYear - Self.epoch
  }

  private mutating func setDate(daysSince1970 days: Int) {
    let shifted = days + Self.epoch
    let era = shifted >= 0 ? shifted / 146_097 : (shifted - 146_096) / 146_097
    let dayOfEra = shifted - era * 146_097
    let yearOfEra = (dayOfEra - dayOfEra / 1460 + dayOfEra / 36_524 - dayOfEra / 146_096) / 365
    let dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
    let marchMonth = (5 * dayOfYear + 2) / 153
    day = dayOfYear - (153 * marchMonth + 2) / 5 + 1
    month = marchMonth < 10 ? marchMonth + 3 : marchMonth - 9
    year = yearOfEra + era * 400 + (month <= 2 ? 1 : 0)
  }
}
