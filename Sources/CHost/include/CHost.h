#pragma once
#include "CPUState.h"
#include "Operation.h"
#include "HostCalls.h"
#include "HostSystem.h"
#include "KVMInterface.h"
#include "NativeUnit.h"
#include "Translation.h"
