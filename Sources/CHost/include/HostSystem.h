// Linux interfaces that Swift's C library module does not have, and calls that are variadic or have no library wrapper.

#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>
#include <termios.h>

/// futex(2), FUTEX_WAIT_BITSET_PRIVATE: sleeps while `*word == expected`, until woken, or until `deadline` (nanoseconds of
/// CLOCK_MONOTONIC; UINT64_MAX: for ever). May return early. False when the deadline has passed.
bool hostFutexWait(const uint32_t *_Nonnull word, uint32_t expected, uint64_t deadline);
/// futex(2), FUTEX_WAKE_PRIVATE: wakes all who sleep on `word`.
void hostFutexWake(const uint32_t *_Nonnull word);

/// ioctl(2) with one word of argument.
int hostControl(int descriptor, unsigned long request, uintptr_t argument);

/// accept4(2), closed on exec.
int hostAccept(int listener);

/// Fills `buffer` with entropy from the kernel; getrandom(2) without flags. 0, or -1 and errno.
int hostEntropy(void *_Nonnull buffer, size_t count);

/// Names the calling thread, at most 15 bytes.
void hostNameThread(const char *_Nonnull name);

/// The calling thread's waits end when they should, and not up to 50 microseconds later so that the host can save a
/// wake-up; prctl(2), PR_SET_TIMERSLACK.
void hostWakeThreadOnTime(void);

/// Whenever the calling thread has something to do, it does it at once, even where every core is busy: it takes the core from
/// a thread that computes, which otherwise goes on to the end of its slice of milliseconds. For threads that others wait
/// for and that run for moments. Without effect on a host before Linux 6.12; sched_setattr(2), a slice of 0.1 ms.
void hostShortenThreadSlice(void);

/// A process that outlives this one for a moment and gives a terminal its settings back.
typedef struct HostTerminalGuard {
  /// Closing it (or dying, however) sets the guard off; a byte written to it sends the guard home.
  int trigger;
  int process;
} HostTerminalGuard;

/// Starts a guard: when this process ends, even by SIGKILL, the guard puts `saved` back on `terminal` and ends. 0, or -1 and errno.
int hostTerminalGuardStart(int terminal, const struct termios *_Nonnull saved, HostTerminalGuard *_Nonnull guard);
