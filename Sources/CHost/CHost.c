#include "CHost.h"

// The one-byte register offsets of `Operation` reach exactly this far.
_Static_assert(__builtin_offsetof(CPUState, rflags) == 256, "byte-addressed registers fill 256 bytes");
_Static_assert(__builtin_offsetof(CPUState, xsave) == 1024, "XSAVE areas are 64-byte aligned");
