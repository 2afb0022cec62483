// The native unit's C part: the host's MXCSR and x87 unit, and the way back from a floating-point exception.

#include "NativeUnit.h"
#include <cpuid.h>
#include <signal.h>
#include <string.h>
#include <ucontext.h>

_Static_assert(__builtin_offsetof(CPUState, engine.scratch) % 64 == 0, "vector operands in the scratch area are aligned");

/// Native code ends by jumping to the next operation's handler. Called through `nativeCall` it finds this one there.
__attribute__((naked, used)) static void nativeReturn(void) { __asm__("movq %r8, %rax\n\tretq"); }
/// Where a SIMD exception under `nativeCall` continues.
__attribute__((naked)) static void nativeRaised(void) { __asm__("movq $-1, %rax\n\tretq"); }

__attribute__((used)) static const Operation nativeFrame[2] = {
  {.handler = (OperationHandler)nativeReturn}, {.handler = (OperationHandler)nativeReturn}};

__attribute__((naked)) uint64_t nativeCall(CPUState *state, void *memory, const void *core) {
  __asm__("movq %rsi, %r11\n\tleaq nativeFrame(%rip), %rsi\n\txorl %r8d, %r8d\n\tjmpq *%rdx");
}

/// The running thread's native code, from `nativeEnter` to `nativeLeave`; and the guest's controls while the host
/// executes one instruction without them. Both signal handlers and the code around them belong to one thread, and neither
/// signal arises while these fields are written.
static _Thread_local struct {
  uintptr_t start;
  size_t size;
  OperationHandler fallback;
  int isStepping;
  uint32_t mxcsr;
  uint16_t control;
} running;

enum { TrapNumberX87 = 16, TrapNumberSIMD = 19, FlagTrap = 1 << 8, AllMasksSIMD = 0x1f80, AllMasksX87 = 0x3f };

/// What ended up in a handler that is not its business ends the process as it should.
static void endProcess(int signal) {
  struct sigaction action = {.sa_handler = SIG_DFL};
  sigaction(signal, &action, 0);
  raise(signal);
}

/// A floating-point exception that the guest has unmasked.
///
/// Native code raises it with the chain's registers and the stack as they were when it was entered, so its fallback can
/// simply be entered instead. The kernel restores the guest's MXCSR, with the flags that the exception set.
///
/// The host's own code between `nativeEnter` and `nativeLeave` runs under the guest's controls too. It hardly computes
/// with floating point (a growing dictionary does), but what the guest unmasked must not end the process: the one
/// instruction is executed with everything masked, and the single-step trap behind it brings the guest's controls and
/// flags back.
static void onFloatingPointException(int signal, siginfo_t *info, void *context) {
  mcontext_t *machine = &((ucontext_t *)context)->uc_mcontext;
  greg_t *registers = machine->gregs;
  if ((uintptr_t)registers[REG_RIP] - running.start < running.size) {
    int isCalled = (uintptr_t)registers[REG_RSI] == (uintptr_t)nativeFrame;
    registers[REG_RIP] = isCalled ? (greg_t)(uintptr_t)nativeRaised : (greg_t)(uintptr_t)running.fallback;
    return;
  }
  greg_t trap = registers[REG_TRAPNO];
  if (running.size == 0 || running.isStepping || (trap != TrapNumberSIMD && trap != TrapNumberX87)) {
    return endProcess(signal);
  }
  running.isStepping = 1;
  running.mxcsr = machine->fpregs->mxcsr;
  running.control = machine->fpregs->cwd;
  machine->fpregs->mxcsr |= AllMasksSIMD;
  machine->fpregs->cwd |= AllMasksX87;
  registers[REG_EFL] |= FlagTrap;
}

/// The host's instruction is done.
static void onTrap(int signal, siginfo_t *info, void *context) {
  if (!running.isStepping) return endProcess(signal);
  mcontext_t *machine = &((ucontext_t *)context)->uc_mcontext;
  machine->gregs[REG_EFL] &= ~(greg_t)FlagTrap;
  machine->fpregs->mxcsr = running.mxcsr;
  machine->fpregs->cwd = running.control;
  running.isStepping = 0;
}

__attribute__((constructor)) static void installHandlers(void) {
  struct sigaction action = {.sa_sigaction = onFloatingPointException, .sa_flags = SA_SIGINFO | SA_ONSTACK};
  sigemptyset(&action.sa_mask);
  sigaction(SIGFPE, &action, 0);
  action.sa_sigaction = onTrap;
  sigaction(SIGTRAP, &action, 0);
}

static uint32_t load32(const uint8_t *bytes) {
  uint32_t value;
  memcpy(&value, bytes, 4);
  return value;
}

void nativeEnter(CPUState *state, const void *code, size_t size, OperationHandler fallback) {
  running.start = (uintptr_t)code;
  running.size = size;
  running.fallback = fallback;
  state->engine.nativeFallback = (void *)fallback;
  state->engine.x87Residence = X87ResidenceMemory;
  uint32_t host = nativeMXCSR(), guest = load32(state->xsave + 24) & NativeMXCSRMask;
  state->engine.hostMXCSR = host;
  if (guest != host) nativeSetMXCSR(guest);
}

void nativeLeave(CPUState *state) {
  uint32_t mxcsr = nativeMXCSR();
  // LDMXCSR is slow. Exception flags, which nobody here reads, may stay: then the next entry need not load them either.
  const uint32_t controls = ~0x3fu;
  if ((mxcsr ^ state->engine.hostMXCSR) & controls) nativeSetMXCSR(state->engine.hostMXCSR);
  running.size = 0;
  uint8_t *area = state->xsave;
  memcpy(area + 24, &mxcsr, 4);
  uint32_t mask = NativeMXCSRMask;
  memcpy(area + 28, &mask, 4);
  if (state->engine.x87Residence != X87ResidenceMemory) {
    nativeX87Store(state);
    nativeX87Abandon(state);
  }
  memcpy(area + 6, &state->fpuOpcode, 2);
  memcpy(area + 8, &state->fpuInstructionPointer, 8);
  memcpy(area + 16, &state->fpuDataPointer, 8);
  // All of x87, SSE and AVX state is there, in the standard format.
  uint64_t header[2] = {7, 0};
  memcpy(area + 512, header, 16);
}

void nativeX87Load(CPUState *state) {
  uint32_t mxcsr = nativeMXCSR();
  memcpy(state->xsave + 24, &mxcsr, 4);
  __asm__ volatile("fxrstor64 (%0)"
                   :
                   : "r"(state->xsave)
                   : "memory", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10",
                     "xmm11", "xmm12", "xmm13", "xmm14", "xmm15");
  nativeX87Classify(state);
}

void nativeX87Store(CPUState *state) {
  _Alignas(16) uint8_t image[512];
  __asm__ volatile("fxsave64 (%0)" : : "r"(image) : "memory");
  memcpy(state->xsave, image, 5);
  memcpy(state->xsave + 32, image + 32, 128);
}

void nativeX87Abandon(CPUState *state) {
  nativeX87Initialize();
  state->engine.x87Residence = X87ResidenceMemory;
}

void nativeX87Classify(CPUState *state) {
  int isQuiet = (nativeX87Control() & 0x3f) == 0x3f && (nativeX87Status() & 0x80) == 0;
  state->engine.x87Residence = isQuiet ? X87ResidenceHost : X87ResidenceHostUnmasked;
}

HostCPUID hostCPUID(uint32_t leaf, uint32_t subleaf) {
  HostCPUID result = {0, 0, 0, 0};
  __get_cpuid_count(leaf, subleaf, &result.eax, &result.ebx, &result.ecx, &result.edx);
  return result;
}

uint64_t hostXCR0(void) {
  if (!(hostCPUID(1, 0).ecx & 1u << 27)) return 0;
  uint32_t low, high;
  __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (uint64_t)high << 32 | low;
}
