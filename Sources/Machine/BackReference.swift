/// A reference from a part back to the whole that owns it.
///
/// A weak reference would do, but an object that has ever had one keeps its reference count in a side table, which makes
/// each retain and release of it several times slower; and these objects are at the heart of every exit. So the whole
/// clears the reference itself when it goes, under the lock under which the parts use it.
final class BackReference<Whole: AnyObject>: @unchecked Sendable {
  unowned(unsafe) var whole: Whole?
}
