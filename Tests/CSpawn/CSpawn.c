#include "CSpawn.h"
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

int spawnPipe(int *ends) { return pipe2(ends, O_CLOEXEC); }

int spawnTerminal(char *path, size_t capacity) {
  int terminal = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
  if (terminal < 0) return -1;
  struct winsize size = {.ws_row = 24, .ws_col = 80};
  if (grantpt(terminal) || unlockpt(terminal) || ptsname_r(terminal, path, capacity) ||
      ioctl(terminal, TIOCSWINSZ, &size) || fcntl(terminal, F_SETFL, O_NONBLOCK)) {
    close(terminal);
    return -1;
  }
  return terminal;
}

int spawnAttributesForNewSession(posix_spawnattr_t *attributes) {
  sigset_t all, none;
  sigfillset(&all);
  sigemptyset(&none);
  int error = posix_spawnattr_init(attributes);
  if (!error) error = posix_spawnattr_setsigdefault(attributes, &all);
  if (!error) error = posix_spawnattr_setsigmask(attributes, &none);
  if (!error)
    error =
        posix_spawnattr_setflags(attributes, POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSID);
  return error;
}

int spawnInDirectory(posix_spawn_file_actions_t *actions, const char *path) {
  return posix_spawn_file_actions_addchdir_np(actions, path);
}

ptrdiff_t firstOccurrence(const void *bytes, size_t count, const void *pattern, size_t patternCount) {
  const char *found = memmem(bytes, count, pattern, patternCount);
  return found ? found - (const char *)bytes : -1;
}
