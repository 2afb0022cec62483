import CHost
import Machine
import Memory
import X86

/// The state of one virtual processor as every handler and semantic function holds it.
typealias CPU = UnsafeMutablePointer<CPUState>
/// A decoded instruction inside its block.
typealias Op = UnsafePointer<Operation>

/// One software-run virtual processor: state, address translation, and what instructions do with them.
///
/// `CPUState` is the architecture; this object is the machinery around it. The instruction's meaning is written once, as
/// a *semantic function* (`Semantics/`), in terms of the accessors of `Access/`: operands, memory, stack, segments.
/// Interpreter and translator both call it. What is hot has a *chain handler* instead (`Interpreter/`), which does the
/// common case without leaving the chain of tail calls.
///
/// **Restartability.** Until its last memory access has succeeded, an instruction changes nothing that the guest can see:
/// a fault, or an exit that must be answered from outside, executes it again from the start. Port reads, loads from
/// devices and device-owned MSRs rely on this (see `VMExit`).
///
/// **Flags.** Semantic functions see RFLAGS whole in `cpu.pointee.rflags`; the lazy form exists only inside chains.
///
/// One thread, the virtual CPU's, uses an object of this class.
final class SoftwareProcessor {
  let cpu: CPU
  let memory: GuestMemory
  let model: CPUModel
  let translations: TranslationCache
  let devicePages = DevicePages()
  let blocks: BlockStore
  /// The exit that the running instruction asks for (`GuestFault.exit`, or a write that already happened).
  var pendingExits = ExitQueue()
  /// Answers accesses to devices without leaving the engine; the machine's virtual processor, while that runs the engine.
  unowned(unsafe) var responder: (any ExitResponder)?
  /// Answers that the running instruction has got from outside.
  var replay = ReplayedAnswers()
  /// What events need to remember between instructions.
  var events = EventState()
  /// The fault at which a chain stopped (`StopReason.fault`).
  var fault = GuestFault.exit
  /// Physical address lines that reach the bus: all ones, or without bit 20 while A20 is masked. What `bringAddressLines`
  /// made of `CPUState.isA20Masked`.
  var addressLines: UInt64 = ~0

  let decoder: InstructionDecoder
  let native: NativeUnit
  /// How instructions leave the flags that the manuals call undefined.
  let flagRules: FlagRules
  /// Makes host code of blocks that run often; nil: all of them are interpreted.
  let translator: Translator?
  /// Bytes of an instruction that lies on two pages.
  let crossing: UnsafeMutablePointer<UInt8>
  /// What code fetches from where nothing answers: a page of ones.
  let floatingBus: UnsafeMutableRawPointer

  /// The x87 control word while an instruction runs that ignores pending exceptions (IGNNE#).
  var maskedControl: UInt16?

  /// This processor's part in keeping blocks true to memory.
  let codeWatch: CodeWatch.Member

  init(
    cpu: CPU, memory: GuestMemory, model: CPUModel, codeWatch: CodeWatch.Member, translator: Translator? = nil,
    flagRules: FlagRules = .host
  ) {
    self.flagRules = flagRules
    cpu.pointee.engine.shiftAdjust = flagRules.shiftAdjust
    cpu.pointee.engine.productFlags = (flagRules.productFlags ?? .kept).rawValue
    self.codeWatch = codeWatch
    self.translator = translator
    self.cpu = cpu
    self.memory = memory
    self.model = model
    decoder = InstructionDecoder(model)
    translations = TranslationCache()
    blocks = BlockStore(memory: memory)
    native = NativeUnit()
    crossing = .allocate(capacity: 16)
    floatingBus = .allocate(byteCount: 4096, alignment: 4096)
    floatingBus.initializeMemory(as: UInt8.self, repeating: 0xff, count: 4096)
    blocks.onProtect = { [unowned self] page in
      codeWatch.protect(page: page) { self.serveCodeWatch() }
      protectTranslations(of: page)
    }
    blocks.onRelease = { [codeWatch] page in codeWatch.release(page: page) }
    blocks.onEmpty = { [translations, native, translator] in
      translations.forgetAllBlocks()
      native.removeAll()
      translator?.removeAll()
    }
    guard let translator else { return }
    translator.frame.pointee.cpu = cpu
    translator.frame.pointee.attention = cpu.pointee.engine.attention
    translations.onLoss = { [unowned translations, translator] loss in
      if case .all = loss { cpu.pointee.engine.translationEpoch &+= 1 }
      translator.slotStore.forget(loss, of: translations, translator.frame)
    }
    translations.onLinkStamps = { [unowned translations, translator] in
      translator.frame.pointee.linkStamp = translations.linkStamp
      translator.frame.pointee.globalLinkStamp = translations.globalLinkStamp
    }
    blocks.untranslatedEntry = translator.untranslatedEntry
    blocks.onKill = { [translator] block in translator.unlink(block) }
  }

  deinit {
    codeWatch.resign()
    devicePages.deallocate()
    crossing.deallocate()
    floatingBus.deallocate()
  }

  /// Sends this processor's writes to a RAM page through the slow path.
  private func protectTranslations(of page: Int) {
    translations.protect(hostPage: UInt64(UInt(bitPattern: memory.base)) &+ UInt64(page) << 12)
  }

  /// Does what other processors and devices have asked for because of code.
  func serveCodeWatch() {
    codeWatch.serve { request in
      switch request {
      case .protect(let page): protectTranslations(of: page)
      case .written(let range): noteOutsideWrite(range)
      case .remapped(let change):
        translations.flushAll()
        if change.pages.contains(where: blocks.holdsCode) { blocks.removeAll() }
      }
    }
  }
}
