#include "HostCalls.h"
#include <sys/mman.h>

int hostMemoryFile(const char *name) { return memfd_create(name, MFD_CLOEXEC); }

int hostMapAgain(void *existing, size_t length, void *place) {
  return mremap(existing, 0, length, MREMAP_MAYMOVE | MREMAP_FIXED, place) == MAP_FAILED ? -1 : 0;
}
