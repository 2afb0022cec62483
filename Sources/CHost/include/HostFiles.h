// Calls for files that hold disk images: holes, and locks that belong to an open file. Each returns 0 or -1 and errno.

#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

/// Gives the range's blocks back to the file system; it reads as zeroes then. fallocate(2), PUNCH_HOLE.
int hostPunchHole(int descriptor, off_t offset, off_t length);

/// Makes a range zeroes, with blocks behind it where possible. Never changes the file's size. fallocate(2), ZERO_RANGE.
int hostZeroRange(int descriptor, off_t offset, off_t length);

/// Reserves blocks for a range without changing what it reads, making the file longer where needed. fallocate(2).
int hostReserveRange(int descriptor, off_t offset, off_t length);

/// The first byte at or after `offset` that may hold data, or (`hole`) that lies in a hole. lseek(2), SEEK_DATA and
/// SEEK_HOLE; it moves the file position. -1 and ENXIO: there is none before the end.
off_t hostSeekExtent(int descriptor, off_t offset, bool hole);

/// A file without a name, readable and writable, in a folder; gone when it is closed. open(2), O_TMPFILE. Returns its descriptor.
int hostUnnamedFile(const char *_Nonnull directory);

/// Takes a lock for reading on one byte of a file, for this open file description. fcntl(2), F_OFD_SETLK.
int hostLockByte(int descriptor, off_t offset);

/// Gives a lock of `hostLockByte` back.
int hostUnlockByte(int descriptor, off_t offset);

/// Whether another open file description has a lock on the byte: 1 or 0. fcntl(2), F_OFD_GETLK.
int hostByteIsLocked(int descriptor, off_t offset);

/// Size of a block device in bytes. ioctl(2), BLKGETSIZE64.
int hostBlockDeviceSize(int descriptor, uint64_t *_Nonnull size);
