// Calls for starting child processes that Swift's C library module does not have.

#pragma once
#include <spawn.h>
#include <stddef.h>

/// A pipe that closes on exec: other tests start children at the same time. 0, or -1 and errno.
int spawnPipe(int *_Nonnull ends);

/// A new terminal of 80 by 24: its descriptor, non-blocking and closed on exec, and the path of the child's side. -1 and
/// errno on failure.
int spawnTerminal(char *_Nonnull path, size_t capacity);

/// Makes the child the leader of a new session, with no signal blocked or ignored. 0 or an error number.
int spawnAttributesForNewSession(posix_spawnattr_t *_Nonnull attributes);

/// Starts the child in another folder. 0 or an error number.
int spawnInDirectory(posix_spawn_file_actions_t *_Nonnull actions, const char *_Nonnull path);

/// memmem(3) as an offset; -1: `pattern` does not occur.
ptrdiff_t firstOccurrence(const void *_Nonnull bytes, size_t count, const void *_Nonnull pattern, size_t patternCount);
