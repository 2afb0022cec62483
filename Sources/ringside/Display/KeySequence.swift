import ArgumentParser

/// What `--keys` types: text, and in angle brackets keys that are no characters, and waits.
struct KeySequence: Equatable {
  enum Step: Equatable {
    /// Scan codes of set 2, as a keyboard sends them.
    case press([UInt8])
    /// Until the screen shows this.
    case wait(String)
    /// Nanoseconds.
    case pause(UInt64)
  }

  private(set) var steps: [Step] = []

  /// Whether the screen is looked at.
  var waits: Bool { steps.contains { if case .wait = $0 { true } else { false } } }

  /// Throws with a message that says what is wrong and what would be right.
  init(parsing text: String) throws {
    var rest = text[...]
    while let character = rest.popFirst() {
      guard character == "<" else {
        try add(keyFor: character)
        continue
      }
      if rest.first == "<" {
        rest.removeFirst()
        try add(keyFor: "<")
        continue
      }
      guard let end = rest.firstIndex(of: ">") else {
        throw ValidationError("--keys: '<\(rest)' has no end: write <enter>, or << for an angle bracket")
      }
      try add(named: String(rest[..<end]))
      rest = rest[rest.index(after: end)...]
    }
  }

  private mutating func add(keyFor character: Character) throws {
    guard let key = KeyCodes.key(for: character) else {
      throw ValidationError("--keys: there is no key for '\(character)' on a US keyboard")
    }
    steps.append(.press(KeyCodes.press(key.code, with: key.isShifted ? [KeyCodes.shift] : [])))
  }

  private mutating func add(named name: String) throws {
    if name.hasPrefix("wait ") { return steps.append(.wait(String(name.dropFirst(5)))) }
    if name.hasPrefix("pause ") {
      guard let seconds = Double(name.dropFirst(6)), seconds >= 0, seconds <= 3600 else {
        throw ValidationError("--keys: <\(name)>: give seconds, 0 to 3600")
      }
      return steps.append(.pause(UInt64(seconds * 1e9)))
    }
    var parts = name.split(separator: "-", omittingEmptySubsequences: false).map(String.init)
    let last = parts.popLast() ?? ""
    var modifiers: [UInt8] = []
    for part in parts {
      guard let code = KeyCodes.modifiers[part] else {
        throw ValidationError("--keys: <\(name)>: give ctrl-, alt- or shift- before a key")
      }
      modifiers.append(code)
    }
    if let code = KeyCodes.named[last] {
      steps.append(.press(KeyCodes.press(code, with: modifiers)))
    } else if last.count == 1, let character = last.first, let key = KeyCodes.key(for: character) {
      steps.append(.press(KeyCodes.press(key.code, with: modifiers + (key.isShifted ? [KeyCodes.shift] : []))))
    } else {
      let all = KeyCodes.named.keys.sorted().joined(separator: ", ")
      throw ValidationError("--keys: there is no key <\(name)>: give a character, or one of \(all)")
    }
  }
}
