/// What test guests do with the first serial port, and their orderly end.
extension GuestAssembler {
  private static let lineStatusPort: UInt32 = 0x3fd
  private static let powerPort: UInt32 = 0x604

  /// Sends back all that comes in, up to but without the character `end`. Looks for it again and again, without
  /// interrupts.
  mutating func echo(until end: Character) {
    let done = makeLabel()
    let again = here()
    mov(.edx, Self.lineStatusPort)
    `in`(size: 1)
    and(.eax, 1)
    cmp(.eax, 0)
    jmp(.equal, again)
    mov(.edx, Self.serialPort)
    `in`(size: 1)
    and(.eax, 0xff)
    cmp(.eax, UInt32(end.asciiValue ?? 0))
    jmp(.equal, done)
    out(size: 1)
    jmp(again)
    place(done)
  }

  /// Switches the machine off through ACPI's sleep register: sleep type S5 and the enable bit.
  mutating func powerOff() {
    mov(.edx, Self.powerPort)
    mov(.eax, 1 << 13)
    out(size: 2)
    waitForever()
  }
}
