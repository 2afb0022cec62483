// The architectural state of one virtual processor, in one fixed layout.
//
// Every engine runs on this structure and nothing else moves between engines. The first 256 bytes hold what an
// instruction addresses with one byte: general registers, a constant zero (it stands for an absent base or index
// register), RIP and the six segment registers. `engine` at the end belongs to the engine that is running and is never
// saved.

#pragma once
#include <stdint.h>

struct CPUState;
struct Operation;

/// A segment register with its hidden part.
typedef struct SegmentState {
  uint64_t base;
  /// Highest valid offset in bytes (granularity already applied).
  uint32_t limit;
  uint16_t selector;
  /// Bits 40 to 55 of the descriptor without its limit bits: type 3:0, S 4, DPL 6:5, P 7, AVL 12, L 13, D/B 14, G 15.
  /// Zero: unusable (a null selector was loaded).
  uint16_t attributes;
} SegmentState;

/// GDTR or IDTR.
typedef struct DescriptorTableState {
  uint64_t base;
  uint32_t limit;
  uint32_t reserved;
} DescriptorTableState;

/// What a virtual processor does when it is asked to run.
typedef enum __attribute__((enum_extensibility(closed))) CPUActivity : uint8_t {
  CPUActivityRunning = 0,
  CPUActivityHalted = 1,
  /// After a triple fault.
  CPUActivityShutdown = 2,
  /// An application processor between INIT and SIPI.
  CPUActivityWaitForSIPI = 3,
} CPUActivity;

/// Instruction-boundary interrupt state (SDM vol. 3C, 25.4.2 "Guest Non-Register State").
typedef enum __attribute__((flag_enum, enum_extensibility(open))) InterruptShadow : uint8_t {
  InterruptShadowNone = 0,
  /// The instruction after STI.
  InterruptShadowSTI = 1,
  /// The instruction after MOV SS or POP SS.
  InterruptShadowMovSS = 2,
} InterruptShadow;

/// Which architectural reads must become exits (record and replay; deterministic time).
typedef enum __attribute__((flag_enum, enum_extensibility(open))) CPUIntercepts : uint32_t {
  CPUInterceptsTimeStampCounter = 1,
  CPUInterceptsRandomNumber = 2,
} CPUIntercepts;

/// The answer to the last VMExit that asked for a value (port, memory or MSR read): the engine executes the
/// instruction again and takes it from here.
typedef struct ExitCompletion {
  uint64_t data;
  /// Set by whoever answers; cleared by the engine when it takes `data`.
  uint8_t isValid;
  /// The access is refused: #GP for an MSR.
  uint8_t isRefused;
  uint8_t reserved[6];
} ExitCompletion;

/// Engine-private part: addresses of the running engine's own structures and its cached derived state.
typedef struct EngineArea {
  /// Software TLB of the current address space and privilege; indexed by linear page number.
  struct TLBEntry *_Nullable tlb;
  /// Cache from linear instruction address to translated block.
  struct BlockCacheEntry *_Nullable blockCache;
  /// The block that is executing.
  struct CodeBlock *_Nullable block;
  /// Other threads set bits here (see `requestAttention`); polled once per block.
  const uint32_t *_Nullable attention;
  /// The engine object, unretained.
  void *_Nullable context;
  /// Guest instructions that may still run; a whole block is charged when it is entered.
  int64_t budget;
  /// Distinguishes blocks decoded under different code modes (see the block cache).
  uint64_t blockKey;
  /// Arithmetic flags in lazy form while no chain is running (a, b, result, kind).
  uint64_t flagA, flagB, flagResult, flagKind;
  /// The operation at which a chain stopped.
  const struct Operation *_Nullable stoppedAt;
  /// Why a chain stopped (0: it did not).
  uint64_t stopReason;
  /// A result of a slow path that came back through memory.
  uint64_t slowResult;
  /// The operation handler that native code leaves to when its fast path does not apply.
  void *_Nullable nativeFallback;
  /// The host's own MXCSR while the guest's is loaded.
  uint32_t hostMXCSR;
  /// Where the guest's x87 registers are: an `X87Residence`.
  uint32_t x87Residence;
  /// Memory operand buffer of native code; aligned to 64 bytes.
  uint8_t scratch[128];
  /// Changes when entries of the TLB are taken away: whoever has copies of some must forget them.
  uint64_t translationEpoch;
  /// `budget`, without what was charged and has not run, when `CPUState.interruptShadow` was cast. The shadow is over as soon
  /// as that is another: code runs on without looking, and the engine looks when a chain has stopped.
  int64_t shadowBudget;
  /// Guest-physical address at which the processor reads its number, of 32 bits, and what it reads (see
  /// `InterruptController.numberRegister`); ~0: nowhere. Set by whoever runs the engine.
  uint64_t numberAddress;
  uint32_t number;
  /// How the host leaves undefined flags, for chain handlers: AF after shifts (bit 4), and what `FlagRules.ProductFlags` says.
  uint64_t shiftAdjust, productFlags;
} EngineArea;

typedef struct CPUState {
  /// RAX RCX RDX RBX RSP RBP RSI RDI R8 to R15.
  uint64_t gpr[16];
  /// Always zero.
  uint64_t zero;
  /// Of the next instruction. While a block runs it is the block's start.
  uint64_t rip;
  /// ES CS SS DS FS GS.
  SegmentState segments[6];
  uint64_t temporary[2];

  uint64_t rflags;
  uint64_t cr0, cr2, cr3, cr4, cr8;
  uint64_t efer, xcr0;
  uint64_t dr[4], dr6, dr7;
  SegmentState ldtr, tr;
  DescriptorTableState gdtr, idtr;

  // Model-specific registers that the processor itself owns. The local APIC's and the TSC deadline are the local APIC's.
  uint64_t star, lstar, cstar, fmask, kernelGSBase;
  uint64_t sysenterCS, sysenterESP, sysenterEIP;
  uint64_t tscAux, tscAdjust;
  /// Guest TSC = host TSC scaled, plus this.
  uint64_t tscOffset;
  uint64_t apicBase, pat, miscEnable, debugControl, featureControl, microcodeRevision, specControl;
  uint64_t xss, pkrs, supervisorCET, userCET, mtrrDefaultType;
  uint64_t mtrrFixed[11];
  uint64_t mtrrVariable[16];
  uint64_t machineCheckControl, machineCheckStatus;
  uint64_t performanceControl[8];
  uint32_t pkru;

  /// CPL; equals SS.DPL except in the middle of a transfer.
  uint8_t cpl;
  CPUActivity activity;
  InterruptShadow interruptShadow;
  /// NMIs are blocked until IRET.
  uint8_t nmiBlocked;
  uint8_t nmiPending;
  /// An external interrupt that was acknowledged and is delivered before the next instruction.
  uint8_t interruptPending;
  uint8_t interruptVector;
  /// The next moment at which an external interrupt can be taken is to be an exit.
  uint8_t wantsInterruptWindow;
  /// A debug trap (DR6 bits) that is due before the next instruction.
  uint32_t pendingDebug;
  CPUIntercepts intercepts;
  /// The A20M# pin: address line 20 is held low.
  uint8_t isA20Masked;
  /// The IGNNE# pin: pending x87 exceptions are ignored while CR0.NE is clear. The processor releases it when it finds
  /// none pending.
  uint8_t ignoresNumericErrors;
  ExitCompletion completion;
  /// Instructions retired since reset.
  uint64_t instructionCount;

  // x87 pointers as the guest sees them (the host's own never leak into it).
  uint64_t fpuInstructionPointer, fpuDataPointer;
  uint16_t fpuOpcode, fpuCodeSegment, fpuDataSegment, fpuReserved;
  /// PDPTE registers: loaded with CR3 under PAE paging (SDM vol. 3A, 4.4.1).
  uint64_t pdpte[4];
  /// Bit n: IA32_MCn_CTL is all ones (machine-check banks report nothing).
  uint64_t machineCheckBanks;

  /// x87, SSE and AVX state, in XSAVE's standard (non-compacted) format: legacy region 0, header 512, YMM_Hi128 576.
  /// Offset 1024; whoever allocates a CPUState aligns it to 64 bytes (Swift imports no stricter alignment than 16).
  uint8_t xsave[1088];

  /// IA32_MCn_ADDR and IA32_MCn_MISC, in turn, of up to twelve banks.
  uint64_t machineCheckRegisters[24];

  EngineArea engine;
} CPUState;

/// Bits of the attention word.
typedef enum __attribute__((flag_enum, enum_extensibility(open))) CPUAttention : uint32_t {
  /// An interrupt controller has something for this processor.
  CPUAttentionInterrupt = 1,
  /// Stop running: pause, reset, end, snapshot, exchange of the engine.
  CPUAttentionStop = 2,
  /// Translated code or translations must be dropped.
  CPUAttentionInvalidate = 4,
} CPUAttention;

static inline uint32_t attentionLoad(const uint32_t *_Nonnull word) { return __atomic_load_n(word, __ATOMIC_RELAXED); }
static inline uint32_t attentionTake(uint32_t *_Nonnull word) { return __atomic_exchange_n(word, 0, __ATOMIC_ACQ_REL); }
static inline void attentionRaise(uint32_t *_Nonnull word, CPUAttention bits) {
  __atomic_fetch_or(word, (uint32_t)bits, __ATOMIC_ACQ_REL);
}

/// The host's time-stamp counter.
static inline uint64_t hostTimeStamp(void) { return __builtin_ia32_rdtsc(); }
