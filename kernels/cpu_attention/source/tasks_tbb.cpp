// Tasks on the threads of OpenVINO, which pins them, counts them and wakes them: oneTBB's, of the arena that calls.
#include <tbb/parallel_for.h>
#include <tbb/task_arena.h>

#include "tasks.h"

namespace x2i {

// One more than the arena counts: a thread that waits on what it has enqueued may lend its place to another.
int task_threads() { return tbb::this_task_arena::max_concurrency() + 1; }

void run_tasks(std::int64_t tasks, Task task, void* context) {
    tbb::parallel_for(std::int64_t{0}, tasks, [&](std::int64_t i) {
        const int thread = tbb::this_task_arena::current_thread_index();
        task(context, i, thread < 0 ? 0 : thread);
    });
}

}  // namespace x2i
