// Attention on the CPU: the library's C interface, which `library.py` mirrors.
#pragma once
#include <cstdint>

#if defined(__GNUC__)
#define X2I_EXPORT __attribute__((visibility("default")))
#else
#define X2I_EXPORT
#endif

extern "C" {

// Rises with every change of the records below; a caller that expects another number must not call.
constexpr std::int32_t X2I_ATTENTION_INTERFACE = 1;

enum x2i_products : std::int32_t { X2I_BF16 = 0, X2I_INT8 = 1 };
enum x2i_status : std::int32_t { X2I_DONE = 0, X2I_CPU_LACKS_INSTRUCTIONS = 1, X2I_NO_MEMORY = 2 };

enum x2i_element : std::int32_t { X2I_FLOAT32 = 0, X2I_BFLOAT16 = 1 };

// [batch, rows, heads, width] somewhere in memory: a row of one head is contiguous, the strides count elements.
struct x2i_tensor {
    void* data;
    std::int64_t rows, batch_stride, row_stride, head_stride;
};

// output = softmax(scale query keyT) value, and where second_key has rows
// + strength m softmax(scale query second_keyT) second_value: m is the first softmax's column `token` over its maximum
// in the sample, 1 where token is below 0. token and strength have a number a sample.
struct x2i_attention_call {
    x2i_tensor query, key, value, output, second_key, second_value;
    const std::int64_t* token;
    const float* strength;
    std::int64_t batch, heads, width;
    float scale;
    std::int32_t element;   // of all tensors
    std::int32_t products;  // what query keyT is computed in; the other product is in bfloat16
    std::int32_t threads;   // at most
};

X2I_EXPORT std::int32_t x2i_attention_interface();
X2I_EXPORT const char* x2i_attention_source();  // digest of the sources it was compiled from
X2I_EXPORT std::int32_t x2i_attention_supported();
X2I_EXPORT std::int32_t x2i_attention(const x2i_attention_call* call);
}
