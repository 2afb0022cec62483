#include "HostCalls.h"
#include <sys/mman.h>

int hostMemoryFile(const char *name) { return memfd_create(name, MFD_CLOEXEC); }
