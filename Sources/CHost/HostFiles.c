#include "HostFiles.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

int hostPunchHole(int descriptor, off_t offset, off_t length) {
  return fallocate(descriptor, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, length);
}

int hostZeroRange(int descriptor, off_t offset, off_t length) {
  return fallocate(descriptor, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, offset, length);
}

int hostReserveRange(int descriptor, off_t offset, off_t length) { return fallocate(descriptor, 0, offset, length); }

off_t hostSeekExtent(int descriptor, off_t offset, bool hole) {
  return lseek(descriptor, offset, hole ? SEEK_HOLE : SEEK_DATA);
}

int hostUnnamedFile(const char *directory) {
  int unnamed = open(directory, O_TMPFILE | O_RDWR | O_CLOEXEC | O_EXCL, 0600);
  if (unnamed >= 0 || (errno != EOPNOTSUPP && errno != EISDIR)) return unnamed;
  // Some file systems have no unnamed files: one with a name loses it at once.
  char path[PATH_MAX];
  if ((size_t)snprintf(path, sizeof path, "%s/ringside-XXXXXX", directory) >= sizeof path) {
    errno = ENAMETOOLONG;
    return -1;
  }
  int named = mkostemp(path, O_CLOEXEC);
  if (named >= 0) unlink(path);
  return named;
}

static int setLock(int descriptor, off_t offset, short type) {
  struct flock lock = {.l_type = type, .l_whence = SEEK_SET, .l_start = offset, .l_len = 1};
  return fcntl(descriptor, F_OFD_SETLK, &lock);
}

int hostLockByte(int descriptor, off_t offset) { return setLock(descriptor, offset, F_RDLCK); }

int hostUnlockByte(int descriptor, off_t offset) { return setLock(descriptor, offset, F_UNLCK); }

int hostByteIsLocked(int descriptor, off_t offset) {
  struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = offset, .l_len = 1};
  if (fcntl(descriptor, F_OFD_GETLK, &lock) != 0) return -1;
  return lock.l_type != F_UNLCK;
}

int hostBlockDeviceSize(int descriptor, uint64_t *size) { return ioctl(descriptor, BLKGETSIZE64, size); }
