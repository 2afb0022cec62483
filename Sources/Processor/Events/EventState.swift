/// What a processor remembers between instructions beyond the architecture's own state, for events.
struct EventState {
  /// The delivery of a pending event waits for an answer from outside.
  var awaitsAnswer = false
  /// The instruction that runs ends with a single-step trap. Taken from RFLAGS.TF before it; cleared when an event is
  /// delivered (SDM vol. 3B, 17.3.1.4).
  var isSingleStep = false
  /// DR6 bits of the data and port breakpoints that the running instruction has touched.
  var breakpointHits: UInt32 = 0
  /// Where the instruction that runs began.
  var stepStart: UInt64 = 0
  /// PAUSEs since the last yield.
  var pauseCount: UInt32 = 0
}
