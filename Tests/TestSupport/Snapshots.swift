import Foundation
import Machine

/// Saves `original`, sends the state through its coded form as a snapshot file does, and restores it into `copy`.
public func transfer<D: Device>(from original: D, to copy: D) throws {
  let data = try JSONEncoder().encode(original.save())
  copy.restore(try JSONDecoder().decode(D.State.self, from: data))
}
