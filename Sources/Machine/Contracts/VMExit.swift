import X86

/// Why an engine stopped running guest code. One closed list for all engines.
///
/// Reads (`portRead`, `memoryRead`, `msrRead`) are answered by storing the value in `CPUState.completion` and running
/// again: the engine then executes the same instruction once more and takes the answer, so an instruction with several
/// such reads comes back once for each. Writes have already happened from the guest's point of view. An engine that has an
/// `ExitResponder` asks that instead.
public enum VMExit: Equatable, Sendable {
  /// IN, INS. `size` is 1, 2 or 4 bytes.
  case portRead(port: UInt16, size: Int)
  /// OUT, OUTS.
  case portWrite(port: UInt16, size: Int, value: UInt32)
  /// A load from an address that is not RAM. `size` is 1, 2, 4 or 8 bytes and the access does not cross a page.
  case memoryRead(address: GuestPhysicalAddress, size: Int)
  /// A store to an address that is not RAM.
  case memoryWrite(address: GuestPhysicalAddress, size: Int, value: UInt64)
  /// RDMSR of a register that belongs to a device (local APIC, x2APIC, TSC deadline) or that the processor does not
  /// know. Refuse with `completion.isRefused`.
  case msrRead(index: UInt32)
  /// WRMSR of such a register. Answer: `completion.isValid`, and `isRefused` for #GP; the instruction runs again.
  case msrWrite(index: UInt32, value: UInt64)
  /// RDTSC, RDTSCP or a random number under `CPUIntercepts`: answer as for a read.
  case timeStampRead
  case randomRead(size: Int)
  /// The guest has moved the time-stamp counter: `CPUState.tscOffset` is another.
  case timeStampMoved
  /// CR8 was lowered: the local APIC may now have something to deliver.
  case taskPriorityChanged
  /// HLT with nothing to deliver; `CPUState.activity` says so too.
  case halt
  /// PAUSE that spun for long, or MWAIT: give other threads a chance.
  case yield
  /// FERR#: a waiting x87 instruction found an exception pending while CR0.NE was clear. The processor is halted at that
  /// instruction, which runs again after the next interrupt.
  case numericError
  /// Triple fault; `CPUState.activity` is `shutdown`.
  case shutdown
  /// VMCALL or VMMCALL, already retired; number and arguments are in the general registers.
  case hypercall
  /// An external interrupt can be taken now and `CPUState.wantsInterruptWindow` asked to be told.
  case interruptWindow
  /// A breakpoint or a single step of a debugger outside the guest.
  case debug(address: GuestLinearAddress)
  /// `budget` instructions have run.
  case budgetSpent
  /// The attention word was raised; its bits have been taken.
  case attention(UInt32)
}

extension VMExit {
  /// Whether it tells of a write to a device, which has happened.
  public var isWrite: Bool {
    switch self {
    case .portWrite, .memoryWrite: true
    default: false
    }
  }

  /// The exit's cause without its operands, for accounting.
  public enum Cause: String, CaseIterable, Sendable {
    case portRead = "port read"
    case portWrite = "port write"
    case memoryRead = "memory-mapped read"
    case memoryWrite = "memory-mapped write"
    case msrRead = "msr read"
    case msrWrite = "msr write"
    case timeStampRead = "time-stamp read"
    case timeStampMoved = "time-stamp write"
    case randomRead = "random read"
    case taskPriorityChanged = "task priority"
    case halt, yield, shutdown, hypercall
    case numericError = "numeric error"
    case interruptWindow = "interrupt window"
    case debug
    case budgetSpent = "budget spent"
    case attention
  }

  public var cause: Cause {
    switch self {
    case .portRead: .portRead
    case .portWrite: .portWrite
    case .memoryRead: .memoryRead
    case .memoryWrite: .memoryWrite
    case .msrRead: .msrRead
    case .msrWrite: .msrWrite
    case .timeStampRead: .timeStampRead
    case .timeStampMoved: .timeStampMoved
    case .randomRead: .randomRead
    case .taskPriorityChanged: .taskPriorityChanged
    case .halt: .halt
    case .yield: .yield
    case .numericError: .numericError
    case .shutdown: .shutdown
    case .hypercall: .hypercall
    case .interruptWindow: .interruptWindow
    case .debug: .debug
    case .budgetSpent: .budgetSpent
    case .attention: .attention
    }
  }
}
