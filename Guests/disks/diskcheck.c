// diskcheck DEVICE MEGABYTES OPERATIONS [SEED]: writes to a disk from several threads at once, reads back, and compares.
//
// The first MEGABYTES of the disk are divided into blocks of 4 KiB, which belong to the threads in turn, many together.
// Each thread remembers which generation of each of its blocks it wrote last; what a block holds follows from its number
// and that. Reads and writes go past the page cache, in pieces of 1 to 32 blocks; now and then the disk is flushed. In
// the end every block that was ever written is read and compared.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { block_size = 4096, most_blocks = 32, thread_count = 8 };

static int device;
static uint64_t block_count, operations, seed;
static uint32_t *generations;

struct thread {
  pthread_t thread;
  uint64_t random, first, count, reads, writes, flushes;
};

static uint64_t next(uint64_t *state) {
  uint64_t value = *state += 0x9e3779b97f4a7c15;
  value = (value ^ value >> 30) * 0xbf58476d1ce4e5b9;
  value = (value ^ value >> 27) * 0x94d049bb133111eb;
  return value ^ value >> 31;
}

static void fail(const char *what, uint64_t block) {
  printf("diskcheck: %s at block %llu: %s\n", what, (unsigned long long)block, strerror(errno));
  exit(1);
}

static void fill(uint64_t *words, uint64_t block, uint32_t generation) {
  uint64_t state = seed ^ block << 32 ^ generation;
  for (int i = 0; i < block_size / 8; i++) words[i] = next(&state);
}

static void compare(const void *data, uint64_t block) {
  uint64_t expected[block_size / 8];
  if (!generations[block]) return;
  fill(expected, block, generations[block]);
  for (int i = 0; i < block_size / 8; i++) {
    uint64_t word;
    memcpy(&word, (const char *)data + 8 * i, 8);
    if (word == expected[i]) continue;
    printf("diskcheck: block %llu, generation %u, byte %d: %016llx, not %016llx\n", (unsigned long long)block,
           generations[block], 8 * i, (unsigned long long)word, (unsigned long long)expected[i]);
    exit(1);
  }
}

static void *run(void *argument) {
  struct thread *me = argument;
  char *buffer = aligned_alloc(block_size, most_blocks * block_size);
  if (!buffer) fail("no memory", 0);
  for (uint64_t i = 0; i < operations / thread_count; i++) {
    uint64_t choice = next(&me->random) % 64;
    uint64_t count = 1 + next(&me->random) % most_blocks;
    if (next(&me->random) % 2) count = 1;
    uint64_t block = me->first + next(&me->random) % (me->count - count + 1);
    if (choice == 0) {
      if (fdatasync(device)) fail("flush", block);
      me->flushes++;
    } else if (choice < 32) {
      for (uint64_t j = 0; j < count; j++)
        fill((uint64_t *)(buffer + j * block_size), block + j, ++generations[block + j]);
      if (pwrite(device, buffer, count * block_size, block * block_size) != (ssize_t)(count * block_size))
        fail("write", block);
      me->writes++;
    } else {
      memset(buffer, 0, count * block_size);
      if (pread(device, buffer, count * block_size, block * block_size) != (ssize_t)(count * block_size))
        fail("read", block);
      for (uint64_t j = 0; j < count; j++) compare(buffer + j * block_size, block + j);
      me->reads++;
    }
  }
  for (uint64_t block = me->first; block < me->first + me->count; block++) {
    if (!generations[block]) continue;
    if (pread(device, buffer, block_size, block * block_size) != block_size) fail("read", block);
    compare(buffer, block);
  }
  free(buffer);
  return 0;
}

int main(int argc, char **argv) {
  static struct thread threads[thread_count];
  if (argc < 4) {
    fprintf(stderr, "usage: diskcheck DEVICE MEGABYTES OPERATIONS [SEED]\n");
    return 64;
  }
  device = open(argv[1], O_RDWR | O_DIRECT);
  if (device < 0) fail(argv[1], 0);
  block_count = strtoull(argv[2], 0, 0) * 256;
  operations = strtoull(argv[3], 0, 0);
  seed = argc > 4 ? strtoull(argv[4], 0, 0) : 1;
  generations = calloc(block_count, sizeof *generations);
  if (!generations || block_count < thread_count * most_blocks) {
    fprintf(stderr, "diskcheck: %s MiB is no size for this\n", argv[2]);
    return 64;
  }
  uint64_t reads = 0, writes = 0, flushes = 0;
  for (uint64_t i = 0; i < thread_count; i++) {
    uint64_t share = block_count / thread_count;
    threads[i] = (struct thread){.random = seed * 1000 + i, .first = i * share, .count = share};
    if (pthread_create(&threads[i].thread, 0, run, &threads[i])) fail("no thread", i);
  }
  for (int i = 0; i < thread_count; i++) {
    pthread_join(threads[i].thread, 0);
    reads += threads[i].reads, writes += threads[i].writes, flushes += threads[i].flushes;
  }
  printf("diskcheck: %llu reads, %llu writes, %llu flushes, all as written\n", (unsigned long long)reads,
         (unsigned long long)writes, (unsigned long long)flushes);
  return 0;
}
