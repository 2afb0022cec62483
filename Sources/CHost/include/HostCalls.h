// Host calls whose declarations need _GNU_SOURCE, which Swift's C library module does not define.

#pragma once

/// An anonymous memory file, closed on exec. Calls memfd_create(2).
int hostMemoryFile(const char *_Nonnull name);
