// What the compilation for AVX-512 offers to the one for every CPU. Plain records and functions: a template of the
// standard library that both instantiate could end up with instructions that only one of them may use.
#pragma once
#include <cstddef>
#include <cstdint>

namespace x2i {

constexpr std::int64_t QUERIES = 64;  // a block's, in the lanes of four registers
constexpr std::int64_t TILE = 6;      // keys whose 24 accumulators fit the registers
constexpr std::int64_t KEYS = 96;     // a block's: its probabilities stay in the first cache

// One head's keys and values as the block reads them.
struct Packed {
    std::int64_t keys, width, words;  // words: 32 bits of a key's row, two bfloat16 or four int8
    bool int8;
    std::uint32_t* key;           // [keys padded to KEYS, words]
    std::uint32_t* value;         // [keys padded to KEYS / 2, width padded]: two keys' bfloat16 in a word
    std::int32_t* bias;           // int8: what 128 added to every query adds to a key's products
    float* unit;                  // int8: the scale of each block of KEYS keys
    float* mean;                  // [width], taken off the keys: it moves all of a query's logits alike
};

// Rows of one head, `stride` elements apart: float32, or bfloat16.
struct Rows {
    void* data;
    std::int64_t rows, stride;
    bool bf16;
};

std::size_t packed_bytes(std::int64_t keys, std::int64_t width, bool int8);
void lay_out(Packed* packed, std::int64_t keys, std::int64_t width, bool int8, unsigned char* memory);
void pack(const Packed* packed, Rows key, Rows value);

std::size_t workspace_bytes(std::int64_t width);

// How a block's attention is stored: written, or added with a weight a query.
struct Store {
    Rows output;              // of the block's queries
    const float* weight;      // [queries] or null: written
};

// Attention of at most QUERIES queries. Where `column` is given, the probability of key `token` goes there, a number a
// query.
void attend(const Packed* packed, Rows query, float scale, Store store, std::int64_t token, float* column,
            unsigned char* workspace);

}  // namespace x2i
