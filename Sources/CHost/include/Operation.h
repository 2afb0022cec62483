// A decoded instruction as the interpreter's chain of tail calls runs it, and the tables that the chain consults.

#pragma once
#include <stdint.h>
#include "CPUState.h"

/// One link of the chain. `a`, `b`, `result` and `kind` are the arithmetic flags in lazy form (see LazyFlags.swift).
typedef void (*OperationHandler)(CPUState *_Nonnull, const struct Operation *_Nonnull, uint64_t a, uint64_t b,
                                 uint64_t result, uint64_t kind);

typedef struct Operation {
  OperationHandler _Nonnull handler;
  /// Immediate, sign-extended; for direct branches the target's displacement from the block's start.
  uint64_t immediate;
  /// Effective-address mask by address size: ~0, 0xffffffff or 0xffff.
  uint64_t addressMask;
  int32_t displacement;
  /// Byte offsets into CPUState: register operands (AH to BH are 1 to 13) …
  uint8_t destination, source;
  /// … base and index registers (`zero` where absent, `rip` for RIP-relative) …
  uint8_t base, index;
  /// Left shift of the index: 0 to 3.
  uint8_t scale;
  /// … and the segment base to add (`zero` where the segment is flat).
  uint8_t segment;
  /// Instruction length in bytes, 1 to 15.
  uint8_t length;
  /// Operand size in bytes.
  uint8_t size;
  /// Segment register of the memory operand: 0 to 5, ES to GS. SS for PUSH, POP, CALL and RET.
  uint8_t segmentRegister;
  /// Number of this instruction in its block.
  uint8_t number;
  /// Operand kinds and prefixes (`OperationFlags`).
  uint16_t flags;
  /// Where this instruction starts, from the block's start.
  uint16_t offset;
  /// Row in the semantic function table for operations without a chain handler of their own.
  uint16_t semantic;
  /// Mnemonic-specific small number: condition code; for direct branches the number of instructions of the block that
  /// come after this one; for MOV of segment, control and debug registers which operand that register is, 0 or 1; the
  /// selector of a far pointer.
  uint16_t detail;
  /// Size in bytes of the second operand (MOVZX, CVT…, MOVSX), or the operand size where there is no second operand;
  /// byte offset of a third register operand.
  uint8_t sourceSize, third;
  /// Linked block of a direct branch, or the native thunk.
  void *_Nullable link;
} Operation;

typedef enum __attribute__((flag_enum, enum_extensibility(open))) OperationFlags : uint16_t {
  OperationFlagsRep = 1,
  OperationFlagsRepNE = 2,
  OperationFlagsLock = 4,
  /// The first operand is memory (it may be read, written or both).
  OperationFlagsMemoryFirst = 8,
  /// The second or a later operand is memory (it is only read).
  OperationFlagsMemorySource = 16,
  /// The second operand is the immediate.
  OperationFlagsImmediateSource = 32,
  /// A direct branch whose target is on the page of its block's start.
  OperationFlagsLinkable = 64,
  /// There are three operands, and the third is the immediate.
  OperationFlagsImmediateThird = 128,
  /// The first operand is the immediate (PUSH, direct branches).
  OperationFlagsImmediateFirst = 256,
  /// The memory operand's offset is `immediate`: MOV with a 64-bit absolute address.
  OperationFlagsAbsoluteAddress = 512,
  /// A direct branch: `immediate` is its target.
  OperationFlagsRelative = 1024,
} OperationFlags;

/// One page of the software TLB. An access of `size` bytes hits when `address - tag <= 4096 - size`, unsigned. A tag is the
/// linear page address; where that access must take the slow path, it is a page address that falls on another entry.
typedef struct TLBEntry {
  uint64_t readTag, writeTag, fetchTag;
  /// Host address of the page.
  uint64_t host;
} TLBEntry;

typedef struct BlockCacheEntry {
  /// RIP of the block's first instruction; a hit also needs the block's `key` to be the current `EngineArea.blockKey`.
  uint64_t tag;
  struct CodeBlock *_Nullable block;
} BlockCacheEntry;

/// Decoded instructions that run one after another, all on one guest-physical page (the last may reach into the next).
typedef struct CodeBlock {
  Operation *_Nonnull operations;
  /// Guest-physical address of the first byte; and the code mode it was decoded under, with the low half of CS's base in the
  /// upper half where segments are not flat.
  uint64_t physicalAddress;
  uint64_t key;
  /// RIP of the first byte: where segments are flat, its offset in the page, as such code may lie at several addresses;
  /// elsewhere all of it.
  uint64_t place;
  /// Guest-physical page of the tail of an instruction that crosses; ~0 where none does.
  uint64_t secondPage;
  uint32_t instructionCount;
  uint32_t byteCount;
  uint32_t operationCount;
  uint32_t isDead;
  /// CS's limit, which no byte of the block is beyond.
  uint32_t codeLimit;
  /// Where translated code enters this block: at its translation, or at what leads to the chain.
  const void *_Nullable entry;
  /// How often groups of accesses of its translation were refused.
  uint32_t refusalCount;
  /// Next block that starts on the same page; next that reaches into the same second page.
  struct CodeBlock *_Nullable nextOnPage;
  struct CodeBlock *_Nullable nextOnSecondPage;
} CodeBlock;
