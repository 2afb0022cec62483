import Firmware
import Machine
import Processor
import Storage

/// What machine is to be built, in terms of nobody's command line.
struct MachineConfiguration {
  var kind = MachineKind.pc
  var engine: EngineChoice
  /// For engines that translate.
  var translation = TranslationOptions()
  var memory: MemorySize
  var processor = ProcessorSelection.standard
  var processorCount: Int
  var guest: GuestSource
  /// In the order in which a guest is to find them.
  var disks: [DiskConfiguration] = []
  /// In drives A and B, of sizes that floppy disks have.
  var floppies: [any DiskImage] = []
  /// There is a virtio entropy source.
  var hasEntropySource = false
  /// There is a virtio console.
  var hasConsole = false
  /// There is a virtio balloon, and the guest is asked to give it so much memory; nil: there is none.
  var balloon: MemorySize?
  /// There is a VGA display.
  var hasDisplay = false
  /// The display's option ROM.
  var displayROM: [UInt8]?
  /// Where UEFI firmware keeps its variables; nil: there is no such memory.
  var variables: FlashContents?
  /// 1 or 2.
  var serialPortCount = 1
  /// SeaBIOS is to use the first serial port as its console.
  var hasSerialConsole = false
  /// In which order firmware tries devices, by kind.
  var bootOrder = BootDevice.standardOrder
  /// There is a port by which the guest tells that it has crashed, and what is done then.
  var panicResponse: FailureResponse?
  /// There is a watchdog, and what is done when it has run out.
  var watchdogResponse: FailureResponse?
  /// There is what kvm-unit-tests expects of a machine.
  var hasTestDevice = false
  /// First of four ports of a debug-exit device; nil: there is none.
  var debugExitPort: UInt16?
  /// A reset, or a crash, ends the run.
  var endsOnReset: Bool
}
