#include "HostSystem.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

bool hostFutexWait(const uint32_t *word, uint32_t expected, uint64_t deadline) {
  struct timespec time = {.tv_sec = (time_t)(deadline / 1000000000), .tv_nsec = (long)(deadline % 1000000000)};
  long result = syscall(SYS_futex, word, FUTEX_WAIT_BITSET_PRIVATE, expected, deadline == UINT64_MAX ? NULL : &time, NULL,
                        FUTEX_BITSET_MATCH_ANY);
  return result == 0 || errno != ETIMEDOUT;
}

void hostFutexWake(const uint32_t *word) { syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, INT32_MAX, NULL, NULL, 0); }

int hostControl(int descriptor, unsigned long request, uintptr_t argument) {
  return ioctl(descriptor, request, argument);
}

int hostAccept(int listener) { return accept4(listener, NULL, NULL, SOCK_CLOEXEC); }

int hostEntropy(void *buffer, size_t count) {
  uint8_t *next = buffer;
  while (count > 0) {
    ssize_t got = getrandom(next, count, 0);
    if (got < 0 && errno != EINTR) return -1;
    if (got > 0) {
      next += got;
      count -= (size_t)got;
    }
  }
  return 0;
}

void hostNameThread(const char *name) { prctl(PR_SET_NAME, name); }

// Zero would be the default again.
void hostWakeThreadOnTime(void) { prctl(PR_SET_TIMERSLACK, 1); }

/// struct sched_attr, which this C library does not have.
typedef struct SchedulingAttributes {
  uint32_t size, policy;
  uint64_t flags;
  int32_t nice;
  uint32_t priority;
  uint64_t runtime, deadline, period;
} SchedulingAttributes;

void hostShortenThreadSlice(void) {
  SchedulingAttributes attributes = {.size = sizeof attributes};
  if (syscall(SYS_sched_getattr, 0, &attributes, sizeof attributes, 0) != 0) return;
  // Under other policies the field means something else.
  if (attributes.policy != SCHED_OTHER) return;
  attributes.runtime = 100000;
  syscall(SYS_sched_setattr, 0, &attributes, 0);
}

int hostTerminalGuardStart(int terminal, const struct termios *saved, HostTerminalGuard *guard) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return -1;
  pid_t process = fork();
  if (process < 0) {
    int error = errno;
    close(ends[0]);
    close(ends[1]);
    errno = error;
    return -1;
  }
  if (process > 0) {
    close(ends[0]);
    guard->trigger = ends[1];
    guard->process = process;
    return 0;
  }
  // The child may use async-signal-safe calls only. A session of its own: no signal of the terminal reaches it, and it
  // may change the terminal's settings from the background.
  setsid();
  sigset_t all;
  sigfillset(&all);
  sigprocmask(SIG_SETMASK, &all, NULL);
  hostNameThread("ringside-tty");
  // It holds nothing of its parent's open but these two: a pipe's reader must see the end when the parent ends.
  dup2(terminal, 0);
  dup2(ends[0], 1);
  syscall(SYS_close_range, 2u, ~0u, 0u);
  char byte;
  ssize_t got;
  do got = read(1, &byte, 1);
  while (got < 0 && errno == EINTR);
  // A byte: the parent has seen to the terminal itself.
  if (got == 0) tcsetattr(0, TCSANOW, saved);
  _exit(0);
}
