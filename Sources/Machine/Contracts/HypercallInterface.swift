import CHost

/// What answers VMCALL and VMMCALL. Under the machine lock.
public protocol HypercallInterface: AnyObject {
  /// Number and arguments are in `state`'s registers, and results go there. The instruction has retired.
  func hypercall(_ state: inout CPUState, cpu: Int)
}
