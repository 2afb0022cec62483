/// What an access does to memory.
enum AccessKind: UInt8 {
  case read, write, fetch
}

/// Whose rights an access has.
enum AccessRights: UInt8 {
  /// The instruction's own: by CPL, and by EFLAGS.AC under SMAP.
  case current
  /// The processor's, for descriptor tables, TSS and interrupt frames: supervisor at any CPL, and AC does not help.
  case implicitSupervisor
  /// A user access made at a lower CPL (a frame for an outer ring, shadow of a stack switch).
  case user
}
