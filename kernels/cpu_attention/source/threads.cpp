#include "threads.h"

#include <pthread.h>
#include <sched.h>
#include <unistd.h>

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>

namespace x2i {
namespace {

cpu_set_t allowed_when_loaded() {
    cpu_set_t cores;
    CPU_ZERO(&cores);
    if (sched_getaffinity(0, sizeof cores, &cores) != 0) CPU_SET(0, &cores);
    return cores;
}

const cpu_set_t ALLOWED = allowed_when_loaded();

constexpr int LOOKS = 4000;  // before a thread sleeps, about 50 us: the phases of one call follow each other

inline void pause() { __builtin_ia32_pause(); }

// What a call's threads share. Those beyond the call's number see that they are not wanted and wait on.
struct Team {
    std::mutex caller, lock;
    std::condition_variable wanted, ended;
    int started = 0, wanted_threads = 0;
    std::atomic<int> running{0};
    std::atomic<std::uint64_t> call{0};
    std::atomic<std::int64_t> next{0};
    std::int64_t tasks = 0;
    Task task = nullptr;
    void* context = nullptr;
    pid_t process = getpid();

    void work(int thread) {
        for (std::int64_t i; (i = next.fetch_add(1, std::memory_order_relaxed)) < tasks;) task(context, i, thread);
    }

    void serve(int thread) {
        std::uint64_t seen = 0;
        for (;;) {
            for (int look = 0; look < LOOKS && call == seen; ++look) pause();
            {
                std::unique_lock<std::mutex> held(lock);
                wanted.wait(held, [&] { return call != seen; });
                seen = call;
                if (thread >= wanted_threads) continue;
            }
            work(thread);
            std::lock_guard<std::mutex> held(lock);
            if (--running == 0) ended.notify_one();
        }
    }

    // As many helpers as the system lets start; with `lock` held.
    void start(int threads) {
        for (; started < threads - 1; ++started) {
            try {
                std::thread helper([this, thread = started + 1] {
                    pthread_setaffinity_np(pthread_self(), sizeof ALLOWED, &ALLOWED);
                    serve(thread);
                });
                helper.detach();
            } catch (const std::system_error&) {
                return;
            }
        }
    }
};

// Never destroyed: its threads wait on it until the process ends. A child of fork() has none of them, and gets its own.
Team& team() {
    static std::mutex making;
    static Team* made = nullptr;
    std::lock_guard<std::mutex> held(making);
    if (made == nullptr || made->process != getpid()) made = new Team;
    return *made;
}

}  // namespace

int usable_threads() { return CPU_COUNT(&ALLOWED); }

void run_tasks(std::int64_t tasks, int threads, Task task, void* context) {
    if (threads > tasks) threads = static_cast<int>(tasks);
    if (threads <= 1) {
        for (std::int64_t i = 0; i < tasks; ++i) task(context, i, 0);
        return;
    }
    Team& shared = team();
    std::lock_guard<std::mutex> alone(shared.caller);
    {
        std::lock_guard<std::mutex> held(shared.lock);
        shared.start(threads);
        if (threads > shared.started + 1) threads = shared.started + 1;
        shared.tasks = tasks, shared.task = task, shared.context = context;
        shared.next.store(0, std::memory_order_relaxed);
        shared.wanted_threads = threads, shared.running = threads - 1;
        ++shared.call;
    }
    shared.wanted.notify_all();
    shared.work(0);
    for (int look = 0; look < LOOKS && shared.running != 0; ++look) pause();
    std::unique_lock<std::mutex> held(shared.lock);
    shared.ended.wait(held, [&] { return shared.running == 0; });
}

}  // namespace x2i
