/// What the test guests have in common.
extension GuestAssembler {
  /// Where the debug-exit port is, for guests that use it.
  static let exitPort: UInt32 = 0xf4

  private static let stackTop: UInt32 = base + 0x8_0000

  /// A guest that sets up a stack, its own segments and, for every vector, a handler that only returns, and then runs
  /// `body`. Interrupts are off.
  init(body: (inout GuestAssembler) -> Void) {
    self.init()
    let start = makeLabel()
    jmp(start)
    // The handler's address is known here: right behind the jump.
    let handler = Self.base + UInt32(bytesSoFar)
    iret()

    align(8)
    let segments = here()
    for half in [0, 0, 0, 0, 0xffff, 0, 0x9b00, 0x00cf, 0xffff, 0, 0x9300, 0x00cf] as [UInt16] { emit16(half) }
    let interrupts = here()
    for _ in 0..<256 {
      emit16(UInt16(truncatingIfNeeded: handler))
      emit16(8)
      emit16(0x8e00)
      emit16(UInt16(handler >> 16))
    }
    let segmentTable = here()
    emit16(3 * 8 - 1)
    emitAddress(of: segments)
    let interruptTable = here()
    emit16(256 * 8 - 1)
    emitAddress(of: interrupts)

    place(start)
    cli()
    mov(.esp, Self.stackTop)
    lgdt(segmentTable)
    let reloaded = makeLabel()
    jmpFar(selector: 8, reloaded)
    place(reloaded)
    mov(.eax, 0x10)
    // MOV DS, ES, SS, FS, GS from AX.
    for modRM in [0xd8, 0xc0, 0xd0, 0xe0, 0xe8] as [UInt8] { emit(0x8e, modRM) }
    lidt(interruptTable)
    body(&self)
  }

  /// Writes a byte to a port.
  mutating func out(port: UInt32, _ value: UInt8) {
    mov(.edx, port)
    mov(.eax, UInt32(value))
    out(size: 1)
  }

  /// Ends the process with status `(value << 1) | 1`.
  mutating func exit(_ value: UInt8) {
    out(port: Self.exitPort, value)
    waitForever()
  }

  /// Ends the process unless a register holds a value.
  mutating func expect(_ register: Register, _ value: UInt32, orExit status: UInt8) {
    let isRight = makeLabel()
    cmp(register, value)
    jmp(.equal, isRight)
    exit(status)
    place(isRight)
  }

  /// Halts with interrupts off.
  mutating func waitForever() {
    let again = here()
    cli()
    hlt()
    jmp(again)
  }

  /// Takes the handlers away and causes an exception: a triple fault.
  mutating func tripleFault() {
    let (nothing, past) = (makeLabel(), makeLabel())
    jmp(past)
    place(nothing)
    emit16(0)
    emit32(0)
    place(past)
    lidt(nothing)
    ud2()
  }

  /// Runs `body` with `counter` from `first` to `last`. The body must leave `counter` as it is.
  mutating func loop(_ counter: Register, from first: UInt32, through last: UInt32, _ body: (inout Self) -> Void) {
    mov(counter, first)
    let again = here()
    body(&self)
    add(counter, 1)
    cmp(counter, last)
    jmp(.belowOrEqual, again)
  }

  /// Puts a new pseudo-random number into EAX. The generator's state is EBX.
  mutating func random() {
    imul(.ebx, 1_664_525)
    add(.ebx, 1_013_904_223)
    mov(.eax, .ebx)
    // Its low bits repeat soon.
    bswap(.eax)
  }
}
