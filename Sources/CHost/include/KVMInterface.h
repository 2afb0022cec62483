// The kernel's KVM interface: request numbers are macros that Swift cannot import.

#pragma once
#include <linux/kvm.h>

static const unsigned long KVMGetAPIVersion = KVM_GET_API_VERSION;
static const unsigned long KVMCreateVM = KVM_CREATE_VM;
static const unsigned long KVMCreateVCPU = KVM_CREATE_VCPU;
static const unsigned long KVMGetVCPUMapSize = KVM_GET_VCPU_MMAP_SIZE;
static const unsigned long KVMSetUserMemoryRegion = KVM_SET_USER_MEMORY_REGION;
static const unsigned long KVMGetSpecialRegisters = KVM_GET_SREGS;
static const unsigned long KVMSetSpecialRegisters = KVM_SET_SREGS;
static const unsigned long KVMSetRegisters = KVM_SET_REGS;
static const unsigned long KVMRun = KVM_RUN;
