/// Architectural bit names (SDM vol. 3A, 2.3 and 2.5).
public enum RFLAGS {
  public static let cf: UInt64 = 1 << 0
  /// Bit 1, always set.
  public static let fixed: UInt64 = 1 << 1
  public static let pf: UInt64 = 1 << 2
  public static let af: UInt64 = 1 << 4
  public static let zf: UInt64 = 1 << 6
  public static let sf: UInt64 = 1 << 7
  public static let tf: UInt64 = 1 << 8
  public static let `if`: UInt64 = 1 << 9
  public static let df: UInt64 = 1 << 10
  public static let of: UInt64 = 1 << 11
  public static let iopl: UInt64 = 3 << 12
  public static let nt: UInt64 = 1 << 14
  public static let rf: UInt64 = 1 << 16
  public static let vm: UInt64 = 1 << 17
  public static let ac: UInt64 = 1 << 18
  public static let vif: UInt64 = 1 << 19
  public static let vip: UInt64 = 1 << 20
  public static let id: UInt64 = 1 << 21
  /// OF SF ZF AF PF CF.
  public static let arithmetic: UInt64 = of | sf | zf | af | pf | cf

  /// Flags of one bit that people look at, as debuggers list them.
  private static let names: [(flag: UInt64, name: String)] = [
    (of, "OF"), (df, "DF"), (`if`, "IF"), (tf, "TF"), (sf, "SF"), (zf, "ZF"), (af, "AF"), (pf, "PF"), (cf, "CF"),
    (vm, "VM"), (ac, "AC"),
  ]

  /// The flags of `value` that have a name here, each with it.
  public static func named(_ value: UInt64) -> [(flag: UInt64, name: String)] { names.filter { value & $0.flag != 0 } }

  /// The names of the flags of `value`: "ZF PF".
  public static func text(_ value: UInt64) -> String { named(value).map(\.name).joined(separator: " ") }
}

public enum CR0 {
  public static let pe: UInt64 = 1 << 0
  public static let mp: UInt64 = 1 << 1
  public static let em: UInt64 = 1 << 2
  public static let ts: UInt64 = 1 << 3
  public static let et: UInt64 = 1 << 4
  public static let ne: UInt64 = 1 << 5
  public static let wp: UInt64 = 1 << 16
  public static let am: UInt64 = 1 << 18
  public static let nw: UInt64 = 1 << 29
  public static let cd: UInt64 = 1 << 30
  public static let pg: UInt64 = 1 << 31
}

public enum CR3 {
  public static let lamU57: UInt64 = 1 << 61
  public static let lamU48: UInt64 = 1 << 62
}

public enum CR4 {
  public static let vme: UInt64 = 1 << 0
  public static let pvi: UInt64 = 1 << 1
  public static let tsd: UInt64 = 1 << 2
  public static let de: UInt64 = 1 << 3
  public static let pse: UInt64 = 1 << 4
  public static let pae: UInt64 = 1 << 5
  public static let mce: UInt64 = 1 << 6
  public static let pge: UInt64 = 1 << 7
  public static let pce: UInt64 = 1 << 8
  public static let osfxsr: UInt64 = 1 << 9
  public static let osxmmexcpt: UInt64 = 1 << 10
  public static let umip: UInt64 = 1 << 11
  public static let la57: UInt64 = 1 << 12
  public static let vmxe: UInt64 = 1 << 13
  public static let smxe: UInt64 = 1 << 14
  public static let fsgsbase: UInt64 = 1 << 16
  public static let pcide: UInt64 = 1 << 17
  public static let osxsave: UInt64 = 1 << 18
  public static let smep: UInt64 = 1 << 20
  public static let smap: UInt64 = 1 << 21
  public static let pke: UInt64 = 1 << 22
  public static let cet: UInt64 = 1 << 23
  public static let pks: UInt64 = 1 << 24
  public static let lamSupervisor: UInt64 = 1 << 28
}

public enum EFER {
  public static let sce: UInt64 = 1 << 0
  public static let lme: UInt64 = 1 << 8
  public static let lma: UInt64 = 1 << 10
  public static let nxe: UInt64 = 1 << 11
  public static let svme: UInt64 = 1 << 12
  public static let ffxsr: UInt64 = 1 << 14
}
