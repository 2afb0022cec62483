// Host calls whose declarations need _GNU_SOURCE, which Swift's C library module does not define.

#pragma once

/// An anonymous memory file, closed on exec. Calls memfd_create(2).
int hostMemoryFile(const char *_Nonnull name);

#include <stddef.h>
#include <stdint.h>

/// Maps the memory of a shared mapping a second time, at `place`, in the place of what is there. -1: it failed. Calls
/// mremap(2).
int hostMapAgain(void *_Nonnull existing, size_t length, void *_Nonnull place);

/// A locked compare-and-exchange of 1, 2, 4 or 8 bytes at any alignment. Returns what was there.
static inline uint64_t hostCompareExchange(void *_Nonnull address, uint64_t expected, uint64_t desired, int size) {
  switch (size) {
  case 1: {
    uint8_t old = (uint8_t)expected;
    __asm__ volatile("lock cmpxchgb %2, %1" : "+a"(old), "+m"(*(uint8_t *)address) : "q"((uint8_t)desired) : "memory", "cc");
    return old;
  }
  case 2: {
    uint16_t old = (uint16_t)expected;
    __asm__ volatile("lock cmpxchgw %2, %1" : "+a"(old), "+m"(*(uint16_t *)address) : "r"((uint16_t)desired) : "memory", "cc");
    return old;
  }
  case 4: {
    uint32_t old = (uint32_t)expected;
    __asm__ volatile("lock cmpxchgl %2, %1" : "+a"(old), "+m"(*(uint32_t *)address) : "r"((uint32_t)desired) : "memory", "cc");
    return old;
  }
  default: {
    uint64_t old = expected;
    __asm__ volatile("lock cmpxchgq %2, %1" : "+a"(old), "+m"(*(uint64_t *)address) : "r"(desired) : "memory", "cc");
    return old;
  }
  }
}

/// A locked compare-and-exchange of 16 bytes, aligned to 16. `expected` receives what was there; true on success.
static inline _Bool hostCompareExchange16(void *_Nonnull address, uint64_t *_Nonnull expected, uint64_t low, uint64_t high) {
  _Bool done;
  __asm__ volatile("lock cmpxchg16b %1" : "=@ccz"(done), "+m"(*(char(*)[16])address), "+a"(expected[0]), "+d"(expected[1])
                   : "b"(low), "c"(high) : "memory");
  return done;
}

/// Orders all earlier loads and stores before all later ones.
static inline void hostFence(void) { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
