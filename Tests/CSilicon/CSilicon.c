// The fenced process: runs one instruction at a time on the host's processor, with all registers as the case says.
//
// A signal frame is the only place from which Linux loads every register at once, so the whole batch runs in one
// signal handler's returns: each instruction is followed by INT3 (or faults), the handler takes the state out of its
// frame, puts the next case's state in and returns into it. The first case is entered, and the last left, by way of an
// INT3 in `runBatch`. The handler runs on its own stack and touches no thread-local storage: FS is the case's.
//
// The fence: no files, no new processes, no system calls but those that the loop needs (seccomp), a limit on memory.

#define _GNU_SOURCE
#include "CSilicon.h"
#include <asm/ldt.h>
#include <asm/prctl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <ucontext.h>
#include <unistd.h>

enum {
  longCode = 0x33,
  flatCode = 0x23,
  flatData = 0x2b,
  paragraphCode = 0x07,  // LDT entry 0, RPL 3
  paragraphData = 0x0f,  // LDT entry 1, RPL 3
  flagsAllowed = 0x00040dd5,  // AC OF DF TF SF ZF AF PF CF
};

static SiliconBatch *batch;
static int isRunning;
/// Cases that were entered, of all batches.
static uint64_t entered;
static gregset_t savedRegisters;
static unsigned char savedLegacy[512];
static uint64_t savedHeader;
static uint64_t originalFS, originalGS;

static uint64_t readFS(void) { uint64_t base; __asm__ volatile("rdfsbase %0" : "=r"(base)); return base; }
static uint64_t readGS(void) { uint64_t base; __asm__ volatile("rdgsbase %0" : "=r"(base)); return base; }
static void writeFS(uint64_t base) { __asm__ volatile("wrfsbase %0" : : "r"(base)); }
static void writeGS(uint64_t base) { __asm__ volatile("wrgsbase %0" : : "r"(base)); }

/// Order of general registers in a signal frame, by register number.
static const int place[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
                              REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};

static void copy(void *to, const void *from, size_t count) {
  __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(count) : : "memory");
}

static void enterCase(ucontext_t *context, const SiliconCase *one) {
  entered++;
  greg_t *registers = context->uc_mcontext.gregs;
  const SiliconState *state = &one->before;
  for (int i = 0; i < 16; i++) registers[place[i]] = (greg_t)state->gpr[i];
  uint64_t base = 0;
  uint64_t code = longCode, data = flatData;
  if (one->mode == SiliconModeProtected) code = flatCode;
  if (one->mode == SiliconModeProtected16) {
    base = 0x10000000;
    code = paragraphCode;
    data = paragraphData;
  }
  registers[REG_RIP] = (greg_t)(state->rip - base);
  registers[REG_EFL] = (registers[REG_EFL] & ~(greg_t)flagsAllowed) | (greg_t)(state->rflags & flagsAllowed);
  registers[REG_CSGSFS] = (greg_t)(code | data << 48);
  uint16_t selector = (uint16_t)(one->mode == SiliconModeLong ? 0 : data);
  __asm__ volatile("mov %w0, %%ds\n mov %w0, %%es" : : "r"((uint32_t)selector));
  // The kernel's software bytes at 464 stay.
  unsigned char *area = (unsigned char *)context->uc_mcontext.fpregs;
  copy(area, state->legacy, 416);
  *(uint64_t *)(area + 512) = 7;
  copy(area + 576, state->upper, 256);
  copy((void *)(uintptr_t)SiliconDataAddress, state->data, SiliconDataSize);
  writeFS(state->fsBase);
  writeGS(state->gsBase);
}

static void leaveCase(ucontext_t *context, SiliconCase *one) {
  greg_t *registers = context->uc_mcontext.gregs;
  SiliconState *state = &one->after;
  for (int i = 0; i < 16; i++) state->gpr[i] = (uint64_t)registers[place[i]];
  state->rip = (uint64_t)registers[REG_RIP];
  if (one->mode == SiliconModeProtected16) state->rip += 0x10000000;
  state->rflags = (uint64_t)registers[REG_EFL];
  state->fsBase = readFS();
  state->gsBase = readGS();
  state->vector = (uint32_t)registers[REG_TRAPNO];
  state->errorCode = (uint32_t)registers[REG_ERR];
  state->faultAddress = (uint64_t)registers[REG_CR2];
  unsigned char *area = (unsigned char *)context->uc_mcontext.fpregs;
  uint64_t present = *(uint64_t *)(area + 512);
  copy(state->legacy, area, 416);
  if (!(present & 1)) {
    // x87's initial state, which XSAVE need not write.
    for (int i = 0; i < 160; i++) if (i < 24 || i >= 32) state->legacy[i] = 0;
    state->legacy[0] = 0x7f;
    state->legacy[1] = 3;
  }
  if (!(present & 2)) for (int i = 160; i < 416; i++) state->legacy[i] = 0;
  if (present & 4) copy(state->upper, area + 576, 256);
  else for (int i = 0; i < 256; i++) state->upper[i] = 0;
  copy(state->data, (void *)(uintptr_t)SiliconDataAddress, SiliconDataSize);
}

static void handle(int number, siginfo_t *information, void *pointer) {
  // Of the case's flags, AC would make this function's own accesses fault, and ID and NT would stay for later cases: a signal
  // frame does not restore it.
  __asm__ volatile("pushfq\n andq $~0x244000, (%%rsp)\n popfq" : : : "memory", "cc");
  (void)number, (void)information;
  ucontext_t *context = pointer;
  greg_t *registers = context->uc_mcontext.gregs;
  unsigned char *area = (unsigned char *)context->uc_mcontext.fpregs;
  if (!isRunning) {
    isRunning = 1;
    copy(savedRegisters, registers, sizeof savedRegisters);
    copy(savedLegacy, area, 416);
    savedHeader = *(uint64_t *)(area + 512);
    batch->current = 0;
  } else {
    leaveCase(context, &batch->cases[batch->current]);
    batch->current++;
  }
  if (batch->current < batch->count) return enterCase(context, &batch->cases[batch->current]);
  isRunning = 0;
  copy(registers, savedRegisters, sizeof savedRegisters);
  copy(area, savedLegacy, 416);
  *(uint64_t *)(area + 512) = savedHeader;
  __asm__ volatile("mov %w0, %%ds\n mov %w0, %%es" : : "r"(0));
  writeFS(originalFS);
  writeGS(originalGS);
}

/// Ends a case that was already running at the last tick.
static void tick(int number, siginfo_t *information, void *pointer) {
  static uint64_t last;
  if (!isRunning || entered != last) {
    last = entered;
    return;
  }
  greg_t *registers = ((ucontext_t *)pointer)->uc_mcontext.gregs;
  registers[REG_TRAPNO] = SiliconEndless;
  handle(number, information, pointer);
}

static void runBatch(void) {
  unsigned char *code = (unsigned char *)(uintptr_t)SiliconCodeAddress;
  memset(code, 0xcc, SiliconCodeSize);
  for (uint32_t i = 0; i < batch->count; i++)
    memcpy((void *)(uintptr_t)batch->cases[i].before.rip, batch->cases[i].code, batch->cases[i].length);
  if (batch->count > 0) __asm__ volatile("int3" : : : "memory");
}

static void require(int condition, const char *what) {
  if (condition) return;
  ssize_t ignored = write(2, what, strlen(what));
  (void)ignored;
  _exit(1);
}

static void mapFile(uintptr_t address, size_t size, int protection, int flags, int descriptor, off_t offset) {
  void *mapped = mmap((void *)address, size, PROT_READ | PROT_WRITE | protection,
                      flags | MAP_FIXED_NOREPLACE | MAP_POPULATE, descriptor, offset);
  require(mapped == (void *)address, "the silicon runner cannot map its pages\n");
}

static void map(uintptr_t address, size_t size, int protection) {
  mapFile(address, size, protection, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

static void mapData(void) {
  int memory = memfd_create("data", 0);
  require(memory >= 0 && ftruncate(memory, SiliconDataSize) == 0, "the silicon runner got no memory\n");
  mapFile(SiliconDataAddress, SiliconDataSize, 0, MAP_SHARED, memory, 0);
  mapFile(SiliconLastAddress, SiliconDataSize / 2, 0, MAP_SHARED, memory, 0);
  mapFile(SiliconFirstAddress, SiliconDataSize / 2, 0, MAP_SHARED, memory, SiliconDataSize / 2);
  close(memory);
}

/// Segments for 16-bit code; not every kernel lets a process have them.
static int makeLocalSegments(void) {
  struct user_desc code = {.entry_number = 0, .base_addr = 0x10000000, .limit = 0xffff, .contents = MODIFY_LDT_CONTENTS_CODE};
  struct user_desc data = {.entry_number = 1, .base_addr = 0x10000000, .limit = 0xffff, .contents = MODIFY_LDT_CONTENTS_DATA};
  return syscall(SYS_modify_ldt, 1, &code, sizeof code) == 0 && syscall(SYS_modify_ldt, 1, &data, sizeof data) == 0;
}

static void fence(void) {
  struct rlimit none = {0, 0}, space = {1ul << 30, 1ul << 30};
  setrlimit(RLIMIT_CORE, &none);
  setrlimit(RLIMIT_FSIZE, &none);
  setrlimit(RLIMIT_AS, &space);
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  struct sock_filter rules[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 1, 0),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_rt_sigreturn, 5, 0),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_read, 4, 0),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_write, 3, 0),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_restart_syscall, 2, 0),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_exit_group, 1, 0),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  struct sock_fprog program = {sizeof rules / sizeof *rules, rules};
  require(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0, "no_new_privs failed\n");
  require(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0, "seccomp failed\n");
}

void siliconServe(int descriptor) {
  batch = mmap(NULL, sizeof(SiliconBatch), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, descriptor, 0);
  require(batch != MAP_FAILED, "the silicon runner got no shared memory\n");
  close(descriptor);
  mapData();
  map(SiliconConstantAddress, SiliconConstantSize, 0);
  unsigned char *constants = (unsigned char *)(uintptr_t)SiliconConstantAddress;
  for (int i = 0; i < SiliconConstantSize; i++) constants[i] = (unsigned char)(i * 7 + 3);
  mprotect(constants, SiliconConstantSize, PROT_READ);
  map(SiliconCodeAddress, SiliconCodeSize, PROT_EXEC);
  batch->modes = 1 << SiliconModeLong | 1 << SiliconModeProtected;
  if (makeLocalSegments()) batch->modes |= 1 << SiliconModeProtected16;

  static unsigned char stack[1 << 17] __attribute__((aligned(64)));
  stack_t alternate = {.ss_sp = stack, .ss_size = sizeof stack};
  require(sigaltstack(&alternate, NULL) == 0, "sigaltstack failed\n");
  struct sigaction action = {.sa_sigaction = handle, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER};
  // Whoever started this process may have blocked signals for it.
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, NULL);
  sigaddset(&action.sa_mask, SIGPROF);
  int numbers[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP};
  for (int i = 0; i < 5; i++) sigaction(numbers[i], &action, NULL);
  action.sa_sigaction = tick;
  action.sa_flags |= SA_RESTART;
  sigaction(SIGPROF, &action, NULL);
  struct itimerval period = {.it_interval = {.tv_usec = 100000}, .it_value = {.tv_usec = 100000}};
  // Of the process's own time: on a busy host a case may wait for long.
  setitimer(ITIMER_PROF, &period, NULL);
  originalFS = readFS();
  originalGS = readGS();
  fence();

  char go;
  while (read(0, &go, 1) == 1) {
    runBatch();
    if (write(1, &go, 1) != 1) break;
  }
  _exit(0);
}
