// What the native unit (Processor/Native) needs of the host's floating-point units beyond Swift.

#pragma once
#include <stddef.h>
#include <stdint.h>
#include "CPUState.h"
#include "Operation.h"

/// Where the guest's x87 registers are while an engine runs.
typedef enum __attribute__((enum_extensibility(closed))) X87Residence : uint32_t {
  /// In `CPUState.xsave`; the host's own x87 state is the initial one.
  X87ResidenceMemory = 0,
  /// In the host's x87 unit, with every exception masked: no instruction can be refused.
  X87ResidenceHost = 1,
  /// In the host's x87 unit, with an exception unmasked or pending: waiting instructions must look before they run.
  X87ResidenceHostUnmasked = 2,
} X87Residence;

/// MXCSR bits that a guest may set.
enum { NativeMXCSRMask = 0xffff };

/// Loads the guest's MXCSR into the host. Until `nativeLeave`, a SIMD exception that native code raises inside
/// [`code`, `code` + `size`) continues at `fallback`, an `OperationHandler`; one that the host's own code raises is masked.
/// Per thread.
void nativeEnter(CPUState *_Nonnull state, const void *_Nonnull code, size_t size, OperationHandler _Nonnull fallback);

/// Puts all that is in the host's units back into `state` and gives the host its own MXCSR and x87 state.
void nativeLeave(CPUState *_Nonnull state);

/// Runs the core of a piece of native code on a memory operand at `memory`. Returns the arithmetic flags, or 0 if the
/// instruction writes none, or ~0 if it raised an unmasked SIMD exception (and did nothing else).
uint64_t nativeCall(CPUState *_Nonnull state, void *_Nonnull memory, const void *_Nonnull core);

/// The guest's MXCSR, between `nativeEnter` and `nativeLeave`.
static inline uint32_t nativeMXCSR(void) { return __builtin_ia32_stmxcsr(); }
/// `value` has no bits outside `NativeMXCSRMask`.
static inline void nativeSetMXCSR(uint32_t value) { __builtin_ia32_ldmxcsr(value); }

/// Brings the guest's x87 registers into the host's unit.
void nativeX87Load(CPUState *_Nonnull state);
/// Copies control, status, tags and registers from the host's unit to `state`'s XSAVE area; they stay in the unit.
void nativeX87Store(CPUState *_Nonnull state);
/// Forgets what the host's unit holds: `state`'s XSAVE area has the truth from now on.
void nativeX87Abandon(CPUState *_Nonnull state);
/// After any change of the control or status word: looks again whether something is unmasked or pending.
void nativeX87Classify(CPUState *_Nonnull state);

static inline uint16_t nativeX87Control(void) {
  uint16_t value;
  __asm__ volatile("fnstcw %0" : "=m"(value));
  return value;
}
static inline uint16_t nativeX87Status(void) {
  uint16_t value;
  __asm__ volatile("fnstsw %0" : "=am"(value));
  return value;
}
/// FLDCW. No exception may be pending.
static inline void nativeX87LoadControl(uint16_t value) { __asm__ volatile("fldcw %0" : : "m"(value)); }
/// FNSTENV masks all exceptions; what it stores is of no interest.
static inline void nativeX87MaskExceptions(void) {
  uint8_t environment[28];
  __asm__ volatile("fnstenv %0" : "=m"(environment));
}
static inline void nativeX87Initialize(void) { __asm__ volatile("fninit"); }
/// The 28-byte environment of 32-bit protected mode; masks all exceptions.
static inline void nativeX87StoreEnvironment(void *_Nonnull image) {
  __asm__ volatile("fnstenv (%0)" : : "r"(image) : "memory");
}
/// No exception may be pending.
static inline void nativeX87LoadEnvironment(const void *_Nonnull image) {
  __asm__ volatile("fldenv (%0)" : : "r"(image) : "memory");
}
/// The 108-byte image of 32-bit protected mode; initialises the unit.
static inline void nativeX87SaveImage(void *_Nonnull image) {
  __asm__ volatile("fnsave (%0)" : : "r"(image) : "memory");
}
/// No exception may be pending.
static inline void nativeX87RestoreImage(const void *_Nonnull image) {
  __asm__ volatile("frstor (%0)" : : "r"(image) : "memory");
}
/// What any MMX instruction does to the x87 unit besides its result: TOP is 0 and all registers are in use.
static inline void nativeX87EnterMMX(void) { __asm__ volatile("movd %%mm0, %%eax" : : : "eax"); }

typedef struct HostCPUID {
  uint32_t eax, ebx, ecx, edx;
} HostCPUID;

/// CPUID of the host; all zero for a leaf that it does not have.
HostCPUID hostCPUID(uint32_t leaf, uint32_t subleaf);
/// XCR0 of the host; 0 without XSAVE.
uint64_t hostXCR0(void);
