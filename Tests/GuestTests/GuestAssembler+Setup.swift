/// What the test guests have in common.
extension GuestAssembler {
  /// Where the debug-exit port is, for guests that use it.
  static let exitPort: UInt32 = 0xf4
  /// The first serial port's data register.
  static let serialPort: UInt32 = 0x3f8

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

  /// Eight data bits, FIFOs on (PC16550D data sheet, 8.0): until then bytes have five bits.
  mutating func setUpSerialPort() {
    out(port: Self.serialPort + 3, 0x03)
    out(port: Self.serialPort + 2, 0x07)
  }

  /// Says `text` on the serial port, which is set up. Waits for room before each byte; changes EAX and EDX.
  mutating func print(_ text: String) {
    for byte in text.utf8 {
      waitForLineStatus(0x20)
      out(port: Self.serialPort, byte)
    }
  }

  /// Waits for a byte from the serial port, into EAX. Changes EDX.
  mutating func receive() {
    waitForLineStatus(0x01)
    mov(.edx, Self.serialPort)
    self.in(size: 1)
    and(.eax, 0xff)
  }

  private mutating func waitForLineStatus(_ bit: UInt32) {
    let again = here()
    mov(.edx, Self.serialPort + 5)
    self.in(size: 1)
    and(.eax, bit)
    jmp(.equal, again)
  }

  /// Ends the process with status `(value << 1) | 1`.
  mutating func exit(_ value: UInt8) {
    out(port: Self.exitPort, value)
    waitForever()
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
