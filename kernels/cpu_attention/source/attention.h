// Attention over many rows, of one call: what its tensors are, and how it is computed.
#pragma once
#include <cstdint>

namespace x2i {

enum class Products { bf16, int8 };
enum class Element { float32, bfloat16 };

// [batch, rows, heads, width] somewhere in memory: a row of one head is contiguous, the strides count elements.
struct Tensor {
    void* data = nullptr;
    std::int64_t rows = 0, batch_stride = 0, row_stride = 0, head_stride = 0;
};

// output = softmax(scale query keyT) value, and where second_key has rows
// + strength m softmax(scale query second_keyT) second_value: m is the first softmax's column `token` over its maximum
// in the sample, 1 where token is below 0. token and strength have a number a sample.
struct Call {
    Tensor query, key, value, output, second_key, second_value;
    const std::int32_t* token = nullptr;
    const float* strength = nullptr;
    std::int64_t batch = 0, heads = 0, width = 0;
    float scale = 1;
    Element element = Element::float32;  // of all tensors
    Products products = Products::bf16;  // what query keyT is computed in; the other product is in bfloat16
};

// Whether this CPU, and its system, can do what the kernel is written with.
bool cpu_can_attend();

// Raises std::invalid_argument for a call without keys or with a token that is none of them, std::bad_alloc where there
// is no room for the keys and values in the kernel's own order.
void attention(const Call& call);

}  // namespace x2i
