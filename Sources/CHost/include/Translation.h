// What the translator's generated code keeps in memory, at fixed places next to it.

#pragma once
#include <stdint.h>
#include "CPUState.h"
#include "Operation.h"

/// A page that a base register has pointed to: a linear page and what is to be added to its addresses to get the host's,
/// for reads and for writes. An access of `size` bytes at `address` hits when `address - page <= 4096 - size`, unsigned.
typedef struct PageSlot {
  uint64_t readPage, readAddend;
  uint64_t writePage, writeAddend;
} PageSlot;

enum { PageSlotCount = 176 };
enum { FilledSlotCapacity = 32 };
/// No fewer than there are semantic functions.
enum { LeaveCountCapacity = 1024 };

/// What memory operands need to know of a segment: an access is allowed if the offset of its last byte is not above the
/// bound, signed. A bound of -1 leaves all accesses to the chain.
typedef struct SegmentBounds {
  int64_t read, write;
  /// Its lower 32 bits.
  uint64_t base;
} SegmentBounds;

/// The slots of code at CPL 0, or of all other code.
typedef struct PageSlots {
  /// What the slots were filled from: they hold what this table had at the time of `epoch` and later.
  TLBEntry *_Nullable tlb;
  /// Of `EngineArea.translationEpoch`.
  uint64_t epoch;
  /// How many addresses of slots that were filled are on the list `filled`, or should be. Above its capacity: some are not.
  uint64_t filledCount;
  /// How many of them were filled before the rights were widened (STAC).
  uint64_t keptCount;
  /// Whether all slots that are not empty are on that list, if it is long enough.
  uint64_t isListed;
  uint64_t reserved;
  uint64_t filled[FilledSlotCapacity];
  PageSlot slots[PageSlotCount];
} PageSlots;

/// Where generated code gives a guest instruction to the interpreter's chain. If it leads to a group's access, the
/// instruction's own handler follows.
typedef struct ExitRecord {
  const Operation *_Nullable operation;
  /// What runs it: the operation's own handler as it was before translation, or one of the translator's.
  OperationHandler _Nullable handler;
  CodeBlock *_Nullable block;
  /// Of the block.
  uint64_t place;
  /// Where in the code memory there is what leads here and could lead to a block directly, or, for a group's access, to
  /// a translation of the block's rest; ~0: nowhere.
  uint64_t link;
} ExitRecord;

/// What follows the record of a jump to another page. Behind it is room for code: see `CrossExit`.
typedef struct CrossLink {
  /// The linear page that the jump was on when it was linked.
  uint64_t page;
  /// Where in the code memory it goes on if that is another page now, or something else has changed.
  uint64_t otherwise;
  /// Where it leads.
  CodeBlock *_Nullable block;
} CrossLink;

/// Kinds of return by IRET.
enum { KnownReturnCount = 4 };

/// What IRET pops.
typedef struct InterruptFrame {
  uint64_t rip, cs, rflags, rsp, ss;
} InterruptFrame;

/// What IRET last loaded into CS and SS on its way to one ring, and the descriptors in GDT that it came from.
typedef struct KnownReturn {
  /// All ones if nothing is known. SS may be null.
  uint64_t codeSelector, stackSelector;
  uint64_t codeDescriptor, stackDescriptor;
  SegmentState code, stack;
} KnownReturn;

/// One processor's working memory of generated code.
typedef struct TranslationFrame {
  /// Arithmetic flags where the host's flags do not hold them: OF in bit 0, SF ZF AF PF CF as LAHF has them in bits 15:8.
  uint64_t flags;
  /// What is to be added to a block's `place` for RIP: the page that RIP is on where segments are flat, 0 elsewhere.
  uint64_t codePage;
  CPUState *_Nullable cpu;
  uint64_t hostStack;
  /// Instructions that may run beyond the slice that is in a register.
  int64_t reserve;
  const uint32_t *_Nullable attention;
  BlockCacheEntry *_Nullable blockCache;
  uint64_t target, nextCodePage;
  /// What jumps to other pages rest on: see `TranslationCache.linkStamp`.
  uint32_t linkStamp, globalLinkStamp;
  /// How many more jumps to other pages whose links rest on something else now are made before one is linked anew.
  int64_t lookUpsLeft;
  /// Whether the guest's vector registers are in the host's; `CPUState` has old values then.
  uint64_t vectorsAreLoaded;
  const ExitRecord *_Nullable record;
  /// Instructions that ran in generated code, if they are counted.
  int64_t translatedCount;
  /// Guest registers that have no host register: R8 to R15, of which some are used.
  uint64_t homes[8];
  /// What is in a host register that a block has lent to a guest register without one: by that guest register, as `homes`.
  uint64_t lent[8];
  uint64_t scratch[4];
  /// For blocks that are entered by way of the chain.
  ExitRecord dynamicRecord;
  /// Of the IRET that is being executed.
  InterruptFrame interruptFrame;
  /// Of 64-bit code to CPL 0 and to CPL 3; of flat code of the legacy modes to CPL 0 and to CPL 3.
  KnownReturn knownReturns[KnownReturnCount];
  /// What a slot holds that holds no page.
  PageSlot emptySlot;
  PageSlots sets[2];
  /// ES CS SS DS FS GS, as they are outside 64-bit mode.
  SegmentBounds segments[6];
  /// How often generated code was left at an instruction, by `Operation.semantic`, if instructions are counted.
  uint64_t leaveCounts[LeaveCountCapacity];
} TranslationFrame;
