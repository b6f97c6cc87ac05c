// Threads that wait for tasks between calls. They may run wherever the process could when the library was loaded:
// a thread that a library has pinned would hand its one core down to what it starts.
#pragma once
#include <cstdint>

namespace x2i {

using Task = void (*)(void* context, std::int64_t task, int thread);

// Cores that the process may use, as the system said when the library was loaded.
int usable_threads();

// Calls task(context, i, thread) for every i below `tasks`, on at most `threads` threads, the caller's among them;
// `thread` is below `threads` and differs between threads that run at one time. One caller at a time, others wait.
void run_tasks(std::int64_t tasks, int threads, Task task, void* context);

}  // namespace x2i
