#pragma once
#include "CPUState.h"
#include "Operation.h"
#include "HostCalls.h"
#include "NativeUnit.h"
