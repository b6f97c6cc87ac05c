// How a call's tasks come to threads: those of the library that calls.
#pragma once
#include <cstdint>

namespace x2i {

using Task = void (*)(void* context, std::int64_t task, int thread);

// Threads that run_tasks may use, the caller's among them.
int task_threads();

// Calls task(context, i, thread) for every i below `tasks`; `thread` is below task_threads() and differs between threads
// that run at one time.
void run_tasks(std::int64_t tasks, Task task, void* context);

}  // namespace x2i
