/// What test guests do with the first serial port, and their orderly end. EAX and EDX change.
extension GuestAssembler {
  private static let serialPort: UInt32 = 0x3f8
  private static let powerPort: UInt32 = 0x604

  /// Eight data bits, FIFOs on (PC16550D data sheet, 8.0): at power-up a character has five bits.
  mutating func setUpSerialPort() {
    out(port: Self.serialPort + 3, 0x03)
    out(port: Self.serialPort + 2, 0x07)
  }

  /// Says `text` on the serial port, which is set up. Waits for room before each byte.
  mutating func print(_ text: String) {
    for byte in text.utf8 {
      waitForLineStatus(0x20)
      out(port: Self.serialPort, byte)
    }
  }

  /// Waits for a byte from the serial port, into EAX.
  mutating func receive() {
    waitForLineStatus(0x01)
    mov(.edx, Self.serialPort)
    self.in(size: 1)
    and(.eax, 0xff)
  }

  /// Sends back all that comes in, up to but without the character `end`.
  mutating func echo(until end: Character) {
    let done = makeLabel()
    let again = here()
    receive()
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

  /// Looks again and again, without interrupts.
  private mutating func waitForLineStatus(_ bit: UInt32) {
    let again = here()
    mov(.edx, Self.serialPort + 5)
    self.in(size: 1)
    and(.eax, bit)
    jmp(.equal, again)
  }
}
