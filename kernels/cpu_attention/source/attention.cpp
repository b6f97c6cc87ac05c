// A call's way through its tasks: keys and values are packed once a head, then blocks of queries attend to them.
#include "attention.h"

#include <algorithm>
#include <cstdlib>
#include <mutex>
#include <new>
#include <stdexcept>
#include <vector>

#include "block.h"
#include "tasks.h"

namespace x2i {
namespace {

std::size_t whole_lines(std::size_t bytes) { return (bytes + 63) / 64 * 64; }

// Memory that calls hand on: fresh pages cost a twentieth of a call. Up to KEPT bytes wait for the next one.
class Memory {
  public:
    explicit Memory(std::size_t bytes) : bytes_(whole_lines(bytes)) {
        {
            std::lock_guard<std::mutex> held(lock());
            if (kept().bytes >= bytes_) {
                data_ = kept().data, bytes_ = kept().bytes;
                kept() = {};
                return;
            }
        }
        data_ = static_cast<unsigned char*>(std::aligned_alloc(64, bytes_));
        if (data_ == nullptr) throw std::bad_alloc();
    }
    ~Memory() {
        std::lock_guard<std::mutex> held(lock());
        if (bytes_ <= KEPT && bytes_ > kept().bytes) {
            std::free(kept().data);
            kept() = {data_, bytes_};
        } else {
            std::free(data_);
        }
    }
    Memory(const Memory&) = delete;
    Memory& operator=(const Memory&) = delete;
    unsigned char* get() const { return data_; }

  private:
    static constexpr std::size_t KEPT = std::size_t{64} << 20;
    struct Kept {
        unsigned char* data = nullptr;
        std::size_t bytes = 0;
    };
    static std::mutex& lock() {
        static std::mutex* made = new std::mutex;
        return *made;
    }
    static Kept& kept() {
        static Kept one;
        return one;
    }
    unsigned char* data_ = nullptr;
    std::size_t bytes_;
};

// Keys and values of all heads, packed.
struct Context {
    const Tensor& key;
    const Tensor& value;
    std::vector<Packed> heads;
    std::size_t each;

    Context(const Call& call, const Tensor& key, const Tensor& value)
        : key(key),
          value(value),
          heads(call.batch * call.heads),
          each(whole_lines(packed_bytes(key.rows, call.width, call.products == Products::int8))) {}

    std::size_t bytes() const { return each * heads.size(); }

    void place(const Call& call, unsigned char* memory) {
        for (std::size_t i = 0; i < heads.size(); ++i)
            lay_out(&heads[i], key.rows, call.width, call.products == Products::int8, memory + i * each);
    }
};

class Run {
  public:
    explicit Run(const Call& call)
        : call_(call),
          blocks_((call.query.rows + QUERIES - 1) / QUERIES),
          threads_(task_threads()),
          workspace_(whole_lines(workspace_bytes(call.width))),
          first_(call, call.key, call.value),
          second_(call, call.second_key, call.second_value),
          columns_(injected() ? call.batch * call.heads * call.query.rows : 0),
          memory_(workspace_ * threads_ + first_.bytes() + (injected() ? second_.bytes() : 0)) {
        first_.place(call, memory_.get() + workspace_ * threads_);
        if (injected()) second_.place(call, memory_.get() + workspace_ * threads_ + first_.bytes());
    }

    void operator()() {
        each_head(first_);
        each_block(&Run::attend_first);
        if (!injected()) return;
        weigh();
        each_head(second_);
        each_block(&Run::attend_second);
    }

  private:
    using Step = void (Run::*)(std::int64_t batch, std::int64_t head, std::int64_t block, unsigned char* workspace);

    void each_head(Context& context) {
        const auto task = [](void* given, std::int64_t i, int) {
            const auto& [run, context] = *static_cast<std::pair<Run*, Context*>*>(given);
            const std::int64_t batch = i / run->call_.heads, head = i % run->call_.heads;
            const std::int64_t rows = context->key.rows;
            pack(&context->heads[i], run->rows(context->key, batch, head, 0, rows),
                 run->rows(context->value, batch, head, 0, rows));
        };
        std::pair<Run*, Context*> given(this, &context);
        run_tasks(static_cast<std::int64_t>(context.heads.size()), task, &given);
    }

    void each_block(Step step) {
        step_ = step;
        const auto task = [](void* given, std::int64_t i, int thread) {
            Run& run = *static_cast<Run*>(given);
            const std::int64_t head = i / run.blocks_;
            (run.*run.step_)(head / run.call_.heads, head % run.call_.heads, i % run.blocks_,
                             run.memory_.get() + thread * run.workspace_);
        };
        run_tasks(call_.batch * call_.heads * blocks_, task, this);
    }

    bool injected() const { return call_.second_key.rows != 0; }
    Rows rows(const Tensor& t, std::int64_t batch, std::int64_t head, std::int64_t first, std::int64_t rows) const {
        const bool bf16 = call_.element == Element::bfloat16;
        const std::int64_t at = batch * t.batch_stride + head * t.head_stride + first * t.row_stride;
        return {static_cast<char*>(t.data) + at * (bf16 ? 2 : 4), rows, t.row_stride, bf16};
    }
    Rows block(const Tensor& tensor, std::int64_t batch, std::int64_t head, std::int64_t number) const {
        return rows(tensor, batch, head, number * QUERIES, queries(number));
    }
    std::int64_t queries(std::int64_t block) const { return std::min(QUERIES, call_.query.rows - block * QUERIES); }
    float* column(std::int64_t batch, std::int64_t head, std::int64_t block) {
        return columns_.data() + (batch * call_.heads + head) * call_.query.rows + block * QUERIES;
    }
    bool masked(std::int64_t batch) const { return injected() && call_.token[batch] >= 0; }

    void attend_first(std::int64_t batch, std::int64_t head, std::int64_t number, unsigned char* workspace) {
        attend(&first_.heads[batch * call_.heads + head], block(call_.query, batch, head, number), call_.scale,
               {block(call_.output, batch, head, number), nullptr}, masked(batch) ? call_.token[batch] : 0,
               masked(batch) ? column(batch, head, number) : nullptr, workspace);
    }

    // A sample's columns become the weights of its second attention.
    void weigh() {
        const std::int64_t each = call_.heads * call_.query.rows;
        for (std::int64_t batch = 0; batch < call_.batch; ++batch) {
            float* weights = columns_.data() + batch * each;
            const float strength = call_.strength[batch];
            if (!masked(batch)) {
                std::fill(weights, weights + each, strength);
            } else {
                const float most = *std::max_element(weights, weights + each);
                for (std::int64_t i = 0; i < each; ++i) weights[i] = strength * (weights[i] / most);
            }
        }
    }

    void attend_second(std::int64_t batch, std::int64_t head, std::int64_t number, unsigned char* workspace) {
        if (call_.strength[batch] == 0) return;  // nothing of it may come through, whatever the mask
        attend(&second_.heads[batch * call_.heads + head], block(call_.query, batch, head, number), call_.scale,
               {block(call_.output, batch, head, number), column(batch, head, number)}, 0, nullptr, workspace);
    }

    const Call& call_;
    std::int64_t blocks_;
    int threads_;
    std::size_t workspace_;
    Context first_, second_;
    std::vector<float> columns_;
    Memory memory_;
    Step step_ = nullptr;
};

}  // namespace

bool cpu_can_attend() {
    // The compiler's own question also asks the system whether it keeps the registers.
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bf16");
}

void attention(const Call& call) {
    if (call.batch * call.heads * call.query.rows == 0) return;
    if (call.key.rows == 0) throw std::invalid_argument("attention to no keys");
    for (std::int64_t i = 0; call.second_key.rows != 0 && i < call.batch; ++i)
        if (call.token[i] >= call.key.rows) throw std::invalid_argument("a token that is none of the keys");
    Run run(call);
    run();
}

}  // namespace x2i
