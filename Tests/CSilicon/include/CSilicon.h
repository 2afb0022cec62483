// Cases for the silicon oracle: what goes into the fenced process that runs instructions on the host's own processor,
// and what comes back. One shared memory file holds a `SiliconBatch`; a byte on standard input starts it and a byte on
// standard output says that it is done.

#pragma once
#include <stdint.h>

/// Linear addresses, the same in the fenced process and in the guest. Pages that are not listed are not mapped.
enum {
  /// Two pages of data, readable and writable, with nothing mapped before and after.
  SiliconDataAddress = 0x10002000,
  SiliconDataSize = 0x2000,
  /// The same two pages once more: the first is the last of 16-bit segments, the second their first, so that an operand that
  /// wraps goes from the one to the other.
  SiliconLastAddress = 0x1000f000,
  SiliconFirstAddress = 0x10000000,
  /// One page that is only readable; its bytes are `i * 7 + 3`.
  SiliconConstantAddress = 0x10005000,
  SiliconConstantSize = 0x1000,
  /// Code: slots of 32 bytes, the rest of each filled with INT3.
  SiliconCodeAddress = 0x10008000,
  SiliconCodeSize = 0x4000,
  SiliconSlotSize = 32,
  SiliconBatchCapacity = 256,
  /// In the place of an exception's vector: the code ran for long and was stopped.
  SiliconEndless = 255,
};

/// Code segments that instructions run in.
typedef enum __attribute__((enum_extensibility(closed))) SiliconMode : uint32_t {
  SiliconModeLong = 0,
  /// Compatibility mode, flat.
  SiliconModeProtected = 1,
  /// 16-bit protected-mode code, data and stack segments that start at 10000000h.
  SiliconModeProtected16 = 2,
} SiliconMode;

typedef struct SiliconState {
  uint64_t gpr[16];
  uint64_t rip, rflags, fsBase, gsBase;
  /// The exception that ended the instruction: a breakpoint (3) if it completed.
  uint32_t vector, errorCode;
  uint64_t faultAddress;
  /// FXSAVE's image, and the upper halves of YMM0 to YMM15.
  uint8_t legacy[512];
  uint8_t upper[256];
  uint8_t data[SiliconDataSize];
} SiliconState;

typedef struct SiliconCase {
  SiliconMode mode;
  uint32_t length;
  uint8_t code[16];
  /// Bytes of the data pages that are not compared.
  uint32_t ignoredStart, ignoredCount;
  SiliconState before, after;
} SiliconCase;

typedef struct SiliconBatch {
  uint32_t count;
  /// Number of the case that is running.
  uint32_t current;
  /// Modes that this host can run, a bit each; set when the process starts.
  uint32_t modes;
  uint32_t reserved;
  SiliconCase cases[SiliconBatchCapacity];
} SiliconBatch;

/// The data pages of a state; an array of this length is not imported.
static inline uint8_t *_Nonnull siliconData(SiliconState *_Nonnull state) { return state->data; }

/// Serves batches in the shared memory file `descriptor` until standard input ends. Never returns.
void siliconServe(int descriptor) __attribute__((noreturn));
