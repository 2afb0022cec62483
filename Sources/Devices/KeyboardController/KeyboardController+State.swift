extension KeyboardController {
  public struct State: Codable, Equatable, Sendable {
    struct Output: Codable, Equatable, Sendable {
      var byte: UInt8
      /// Tells port 0x60's reader, and the choice of interrupt, that it is the mouse's.
      var isAuxiliary: Bool
    }

    /// The controller's 32 bytes of memory; byte 0 is the command byte.
    var memory = [UInt8](repeating: 0, count: 32)
    var outputPort = OutputPort.reset | OutputPort.a20
    /// A command of port 0x64 that waits for its argument at port 0x60.
    var command: UInt8?
    /// The last write went to port 0x64 (status bit 3).
    var lastWriteWasCommand = false
    var output: Output?
    /// What port 0x60 gives while the output buffer is empty: the last byte once more.
    var lastOutput: UInt8 = 0
    /// Answers of the controller itself that wait for the output buffer.
    var answers: [Output] = []
    var translation = ScanCodeTranslation()
    var keyboard = PS2Keyboard()
    var mouse = PS2Mouse()

    /// As a BIOS leaves it: the keyboard's interrupt and translation on, no interrupt for a mouse.
    public init() { memory[0] = CommandByte.translate | CommandByte.keyboardInterrupt }

    var commandByte: UInt8 {
      get { memory[0] }
      set { memory[0] = newValue }
    }
  }

  enum CommandByte {
    static let keyboardInterrupt: UInt8 = 1 << 0
    static let auxiliaryInterrupt: UInt8 = 1 << 1
    /// Software's note that the self-test passed; shows as status bit 2.
    static let system: UInt8 = 1 << 2
    static let keyboardDisabled: UInt8 = 1 << 4
    static let auxiliaryDisabled: UInt8 = 1 << 5
    static let translate: UInt8 = 1 << 6
  }

  enum Status {
    static let outputFull: UInt8 = 1 << 0
    static let system: UInt8 = 1 << 2
    static let lastWriteWasCommand: UInt8 = 1 << 3
    /// The key lock is open.
    static let notInhibited: UInt8 = 1 << 4
    static let auxiliaryOutputFull: UInt8 = 1 << 5
  }

  enum OutputPort {
    /// Zero holds the processor in reset.
    static let reset: UInt8 = 1 << 0
    static let a20: UInt8 = 1 << 1
    static let keyboardInterrupt: UInt8 = 1 << 4
    static let auxiliaryInterrupt: UInt8 = 1 << 5
  }
}
