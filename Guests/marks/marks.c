// The workloads of the benchmark. Each runs between a line "BEGIN name" and a line "END name", which whoever reads the
// console times by a clock of his own: a guest's clock is one of the things under test.
//
//   marks            runs them all
//   marks NAME …     runs these
//
// The first seven stay in user mode, the next five are the kernel's work, the last three are whole programs, run by
// the busybox that the environment variable BUSYBOX names (/bin/busybox without it). Each takes 20 to 500 ms on the hardware
// of 2025, and every result is checked: a processor that computes wrongly shall not get a time.

#define _GNU_SOURCE
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *current;

static void check(int is_right) {
  if (is_right) return;
  printf("WRONG %s\n", current);
  exit(1);
}

// xorshift64: the same numbers on every run and machine.
static uint64_t random_state;
static uint64_t next_random(void) {
  random_state ^= random_state << 13;
  random_state ^= random_state >> 7;
  random_state ^= random_state << 17;
  return random_state;
}

// Bytes, strided stores: primes below 4 Mi, three times.
static void sieve(void) {
  enum { limit = 1 << 22 };
  static unsigned char is_composite[limit];
  for (int round = 0; round < 3; round++) {
    int primes = 0;
    memset(is_composite, 0, sizeof is_composite);
    for (int number = 2; number < limit; number++) {
      if (is_composite[number]) continue;
      primes++;
      for (int64_t multiple = (int64_t)number * number; multiple < limit; multiple += number)
        is_composite[multiple] = 1;
    }
    check(primes == 295947);
  }
}

// Unpredictable branches, indirect calls: heapsort of 600 000 integers through a comparison function.
static int is_less(uint32_t left, uint32_t right) { return left < right; }

static void sink_down(uint32_t *heap, int root, int count, int (*volatile less)(uint32_t, uint32_t)) {
  uint32_t value = heap[root];
  for (int child; (child = 2 * root + 1) < count; root = child) {
    if (child + 1 < count && less(heap[child], heap[child + 1])) child++;
    if (!less(value, heap[child])) break;
    heap[root] = heap[child];
  }
  heap[root] = value;
}

static void sort(void) {
  enum { count = 600000 };
  static uint32_t numbers[count];
  for (int i = 0; i < count; i++) numbers[i] = (uint32_t)next_random();
  for (int root = count / 2; root-- > 0;) sink_down(numbers, root, count, is_less);
  for (int end = count; end-- > 1;) {
    uint32_t largest = numbers[0];
    numbers[0] = numbers[end];
    numbers[end] = largest;
    sink_down(numbers, 0, end, is_less);
  }
  for (int i = 1; i < count; i++) check(numbers[i - 1] <= numbers[i]);
}

// SSE2: a product of 320 x 320 doubles with a known answer.
static void matmul(void) {
  enum { n = 320 };
  static double left[n][n], right[n][n], product[n][n];
  for (int row = 0; row < n; row++)
    for (int column = 0; column < n; column++) {
      left[row][column] = row + column;
      right[row][column] = row == column ? 2 : 1;
    }
  for (int row = 0; row < n; row++)
    for (int k = 0; k < n; k++)
      for (int column = 0; column < n; column++) product[row][column] += left[row][k] * right[k][column];
  // The row's sum, and once more the element that meets the 2.
  for (int row = 0; row < n; row += 7)
    for (int column = 0; column < n; column += 7)
      check(product[row][column] == n * row + n * (n - 1) / 2 + row + column);
}

// The x87 unit: Newton's square roots, in long double.
static void x87(void) {
  for (int number = 2; number < 300000; number++) {
    long double root = number;
    for (int step = 0; step < 20; step++) root = (root + number / root) * 0.5L;
    check(fabsl(root - sqrtl(number)) < 1e-15L * number);
  }
}

// Loads that depend on one another, across 2 MiB: one cycle through 32 Ki cache lines.
static void chase(void) {
  enum { lines = 1 << 15, laps = 240 };
  static struct line { struct line *next; char rest[56]; } line[lines];
  static uint32_t order[lines];
  for (uint32_t i = 0; i < lines; i++) order[i] = i;
  for (uint32_t i = lines; --i > 0;) {
    uint32_t other = (uint32_t)(next_random() % (i + 1)), held = order[i];
    order[i] = order[other];
    order[other] = held;
  }
  for (uint32_t i = 0; i < lines; i++) line[order[i]].next = &line[order[(i + 1) % lines]];
  struct line *volatile start = &line[order[0]], *here = start;
  for (int step = 0; step < lines * laps; step++) here = here->next;
  check(here == start);
}

// Memory bandwidth: 16 MiB back and forth, 24 times.
static void copy(void) {
  enum { size = 16 << 20 };
  static char here[size], there[size];
  for (int i = 0; i < size; i += 4093) here[i] = (char)i;
  for (int round = 0; round < 12; round++) {
    memcpy(there, here, size);
    memcpy(here, there, size);
  }
  for (int i = 0; i < size; i += 4093) check(here[i] == (char)i);
}

// Calls and returns: the Takeuchi function.
static __attribute__((noinline)) int takeuchi(int x, int y, int z) {
  return y < x ? takeuchi(takeuchi(x - 1, y, z), takeuchi(y - 1, z, x), takeuchi(z - 1, x, y)) : z;
}
static void call(void) {
  for (int round = 0; round < 12; round++) check(takeuchi(24, 16, 8) == 9);
}

// Entering the kernel and leaving it.
static void getppid_calls(void) {
  long parent = syscall(SYS_getppid);
  for (int i = 0; i < 300000; i++) check(syscall(SYS_getppid) == parent);
}

// First touches of 48 Ki pages of fresh memory.
static void pagefault(void) {
  enum { size = 16 << 20 };
  for (int round = 0; round < 12; round++) {
    char *memory = mmap(0, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    check(memory != MAP_FAILED);
    for (int offset = 0; offset < size; offset += 4096) memory[offset] = 1;
    munmap(memory, size);
  }
}

static void wait_for(pid_t child) {
  int status;
  check(waitpid(child, &status, 0) == child && status == 0);
}

// Processes that are made, end, and are waited for.
static void fork_and_wait(void) {
  for (int i = 0; i < 300; i++) {
    pid_t child = fork();
    if (child == 0) _exit(0);
    wait_for(child);
  }
}

// Switching between two processes that wait for each other: a counter goes round through two pipes.
static void pipe_round_trips(void) {
  int there[2], back[2], counter = 0;
  check(pipe(there) == 0 && pipe(back) == 0);
  pid_t child = fork();
  if (child == 0) {
    close(there[1]);
    while (read(there[0], &counter, sizeof counter) == sizeof counter) {
      counter++;
      if (write(back[1], &counter, sizeof counter) != sizeof counter) _exit(1);
    }
    _exit(0);
  }
  while (counter < 20000) {
    int sent = counter;
    check(write(there[1], &counter, sizeof counter) == sizeof counter);
    check(read(back[0], &counter, sizeof counter) == sizeof counter && counter == sent + 1);
  }
  close(there[1]);
  wait_for(child);
  close(there[0]), close(back[0]), close(back[1]);
}

// A shell script; its $B is busybox.
static void script(const char *text) {
  const char *busybox = getenv("BUSYBOX");
  setenv("B", busybox ? busybox : "/bin/busybox", 1);
  pid_t child = fork();
  if (child == 0) {
    execl(getenv("B"), "busybox", "sh", "-c", text, (char *)0);
    _exit(127);
  }
  wait_for(child);
}

// Loading programs.
static void exec_programs(void) { script("i=0; while [ $i -lt 150 ]; do $B true || exit 1; i=$((i+1)); done"); }

// An interpreter inside the guest.
static void shloop(void) { script("i=0 s=0; while [ $i -lt 40000 ]; do s=$((s+i)) i=$((i+1)); done; [ $s = 799980000 ]"); }

static void sha256(void) {
  script("s=$($B head -c 25165824 /dev/zero | $B sha256sum); "
         "[ \"$s\" = '95aeaae03b56c171cf88753c821630a3c24f1fcf406cec3e17d56781aa3f8369  -' ]");
}

static void gzip(void) {
  script("i=0; while [ $i -lt 3 ]; do $B gzip -c $B | $B gunzip | $B cmp - $B || exit 1; i=$((i+1)); done");
}

static const struct {
  const char *name;
  void (*run)(void);
} workloads[] = {
    {"sieve", sieve},
    {"sort", sort},
    {"matmul", matmul},
    {"x87", x87},
    {"chase", chase},
    {"copy", copy},
    {"call", call},
    {"getppid", getppid_calls},
    {"pagefault", pagefault},
    {"fork", fork_and_wait},
    {"pipe", pipe_round_trips},
    {"exec", exec_programs},
    {"shloop", shloop},
    {"sha256", sha256},
    {"gzip", gzip},
};
enum { workload_count = sizeof workloads / sizeof *workloads };

static int is_wanted(const char *name, int count, char **names) {
  for (int i = 0; i < count; i++)
    if (strcmp(names[i], name) == 0) return 1;
  return count == 0;
}

static int is_known(const char *name) {
  for (int i = 0; i < workload_count; i++)
    if (strcmp(workloads[i].name, name) == 0) return 1;
  return 0;
}

int main(int count, char **arguments) {
  setvbuf(stdout, 0, _IOLBF, 0);
  for (int i = 1; i < count; i++) {
    if (is_known(arguments[i])) continue;
    fprintf(stderr, "marks: there is no workload '%s'\n", arguments[i]);
    return 64;
  }
  for (int i = 0; i < workload_count; i++) {
    if (!is_wanted(workloads[i].name, count - 1, arguments + 1)) continue;
    current = workloads[i].name;
    random_state = 88172645463325252u;
    printf("BEGIN %s\n", current);
    // In a process of its own, so that what one has touched is no burden to the next one's forks.
    pid_t child = fork();
    if (child == 0) {
      workloads[i].run();
      exit(0);
    }
    wait_for(child);
    printf("END %s\n", current);
  }
  return 0;
}
