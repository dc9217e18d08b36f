// Everything that needs no torch.
#pragma once

#include "corestream/cpu_pool.h"
#include "corestream/errors.h"
#include "corestream/task.h"
#include "corestream/task_executor.h"
#include "corestream/with_cpu_pool.h"
