// A block of queries against all keys of a head, for AVX-512 with BF16 and VNNI.
//
// Logits are transposed: a register holds one key's for 16 queries, so that maxima and sums of a softmax stay vertical.
// The probabilities of a block of keys are computed against the maximum known so far and never stored in float32; only
// where they would overflow is the maximum raised and the block computed once more (online softmax, arXiv 1805.02867;
// the late rescaling is that of FlashAttention-4).
#include <immintrin.h>

#include <cstring>

#include "block.h"

#define INLINE inline __attribute__((always_inline))
// Arrays of registers stay in registers only where no loop is left to index them.
#define UNROLLED _Pragma("GCC unroll 8")

namespace x2i {
namespace {

constexpr float LOG2E = 1.44269504088896340736f;
constexpr float HEADROOM = 64.f;  // logits may be this far above the maximum: 2^64 times many keys is finite
constexpr std::int64_t LANES = QUERIES / 16;

INLINE std::int64_t padded(std::int64_t count, std::int64_t to) { return (count + to - 1) / to * to; }
INLINE std::int64_t least(std::int64_t a, std::int64_t b) { return a < b ? a : b; }
INLINE __mmask16 first(std::int64_t count) { return count >= 16 ? 0xFFFF : count <= 0 ? 0 : (1u << count) - 1; }
INLINE std::int64_t words_of(std::int64_t width, bool int8) { return int8 ? padded(width, 4) / 4 : padded(width, 2) / 2; }

// bfloat16 of two vectors, lane by lane in one word: `low` in the lower half.
INLINE __m512i paired(__m512 low, __m512 high) {
    const __m512i zip = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6, 21,
                                         5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    return _mm512_permutexvar_epi16(zip, (__m512i)_mm512_cvtne2ps_pbh(high, low));
}

// 2^x to 7.5e-5 of it, which bfloat16 does not see: a cubic on [0, 1) and the exponent.
INLINE __m512 exp2_cubic(__m512 x) {
    const __m512 r = _mm512_reduce_ps(x, 0x09);
    __m512 p = _mm512_fmadd_ps(r, _mm512_set1_ps(0.07802455f), _mm512_set1_ps(0.22606719f));
    p = _mm512_fmadd_ps(r, p, _mm512_set1_ps(0.6958335f));
    p = _mm512_fmadd_ps(r, p, _mm512_set1_ps(0.99992526f));
    return _mm512_scalef_ps(p, x);
}

// 2^x to 3e-6 of it.
INLINE __m512 exp2_quartic(__m512 x) {
    const __m512 r = _mm512_reduce_ps(x, 0x09);
    __m512 p = _mm512_fmadd_ps(r, _mm512_set1_ps(0.01353417f), _mm512_set1_ps(0.05201146f));
    p = _mm512_fmadd_ps(r, p, _mm512_set1_ps(0.24144275f));
    p = _mm512_fmadd_ps(r, p, _mm512_set1_ps(0.69300383f));
    p = _mm512_fmadd_ps(r, p, _mm512_set1_ps(1.0000026f));
    return _mm512_scalef_ps(p, x);
}

// Transposes 16 x 16 words.
INLINE void transpose(__m512i* v) {
    __m512i t[16];
    for (int i = 0; i < 16; i += 2) {
        t[i] = _mm512_unpacklo_epi32(v[i], v[i + 1]);
        t[i + 1] = _mm512_unpackhi_epi32(v[i], v[i + 1]);
    }
    for (int i = 0; i < 16; i += 4) {
        v[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
        v[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
        v[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
        v[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
    }
    for (int i = 0; i < 16; i += 8) {
        for (int j = 0; j < 4; ++j) {
            t[i + j] = _mm512_shuffle_i32x4(v[i + j], v[i + j + 4], 0x88);
            t[i + j + 4] = _mm512_shuffle_i32x4(v[i + j], v[i + j + 4], 0xDD);
        }
    }
    for (int j = 0; j < 8; ++j) {
        v[j] = _mm512_shuffle_i32x4(t[j], t[j + 8], 0x88);
        v[j + 8] = _mm512_shuffle_i32x4(t[j], t[j + 8], 0xDD);
    }
}

// 16 elements of row `j` from channel `d` on.
INLINE __m512 load(const Rows& r, std::int64_t j, std::int64_t d, __mmask16 there) {
    const std::int64_t at = j * r.stride + d;
    if (!r.bf16) return _mm512_maskz_loadu_ps(there, (const float*)r.data + at);
    const __m256i halves = _mm256_maskz_loadu_epi16(there, (const std::uint16_t*)r.data + at);
    return (__m512)_mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 16);
}

INLINE void store(const Rows& r, std::int64_t j, std::int64_t d, __mmask16 there, __m512 x) {
    const std::int64_t at = j * r.stride + d;
    if (r.bf16)
        _mm256_mask_storeu_epi16((std::uint16_t*)r.data + at, there, (__m256i)_mm512_cvtneps_pbh(x));
    else
        _mm512_mask_storeu_ps((float*)r.data + at, there, x);
}

// A byte has no NaN, so that a scale must carry it.
INLINE float largest_magnitude(const Rows& r, std::int64_t j, const float* less, std::int64_t width) {
    __m512 most = _mm512_setzero_ps();
    __mmask16 no_number = 0;
    for (std::int64_t d = 0; d < width; d += 16) {
        const __mmask16 there = first(width - d);
        __m512 x = load(r, j, d, there);
        if (less) x = _mm512_sub_ps(x, _mm512_maskz_loadu_ps(there, less + d));
        no_number |= _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
        most = _mm512_max_ps(most, _mm512_abs_ps(x));
    }
    return no_number ? __builtin_nanf("") : _mm512_reduce_max_ps(most);
}

// A row less `less`, times `factor`, as bytes; words behind the width are zero.
INLINE void bytes_of(const Rows& r, std::int64_t j, const float* less, float factor, std::int64_t width, std::int64_t words,
                     std::uint32_t* out) {
    for (std::int64_t w = 0; w < words; w += 4) {
        const __mmask16 there = first(width - 4 * w);
        __m512 x = load(r, j, 4 * w, there);
        if (less) x = _mm512_sub_ps(x, _mm512_maskz_loadu_ps(there, less + 4 * w));
        const __m128i bytes = _mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(_mm512_mul_ps(x, _mm512_set1_ps(factor))));
        _mm_mask_storeu_epi32(out + w, first(words - w) & 0xF, bytes);
    }
}

// A row less `less` as bfloat16; words behind the width are zero.
INLINE void halves_of(const Rows& r, std::int64_t j, const float* less, std::int64_t width, std::int64_t words, std::uint32_t* out) {
    for (std::int64_t w = 0; w < words; w += 8) {
        const __mmask16 there = first(width - 2 * w);
        __m512 x = load(r, j, 2 * w, there);
        if (less) x = _mm512_sub_ps(x, _mm512_maskz_loadu_ps(there, less + 2 * w));
        _mm256_mask_storeu_epi32(out + w, first(words - w) & 0xFF, (__m256i)_mm512_cvtneps_pbh(x));
    }
}

void mean_of(Rows key, std::int64_t width, float* mean) {
    for (std::int64_t d = 0; d < width; d += 16) {
        const __mmask16 there = first(width - d);
        __m512 sum = _mm512_setzero_ps();
        for (std::int64_t j = 0; j < key.rows; ++j)
            sum = _mm512_add_ps(sum, load(key, j, d, there));
        _mm512_mask_storeu_ps(mean + d, there, _mm512_div_ps(sum, _mm512_set1_ps((float)key.rows)));
    }
}

void pack_keys(const Packed* p, Rows key) {
    mean_of(key, p->width, p->mean);
    const std::int64_t all = padded(p->keys, KEYS);
    for (std::int64_t begin = 0; begin < all; begin += KEYS) {
        const std::int64_t end = least(begin + KEYS, p->keys);
        float factor = 0;
        if (p->int8) {
            float most = 0;
            for (std::int64_t j = begin; j < end; ++j) {
                const float row = largest_magnitude(key, j, p->mean, p->width);
                if (row > most || row != row) most = row;
            }
            p->unit[begin / KEYS] = most / 127;
            factor = most > 0 ? 127 / most : 0;
        }
        for (std::int64_t j = begin; j < begin + KEYS; ++j) {
            std::uint32_t* out = p->key + j * p->words;
            if (j >= p->keys) {
                std::memset(out, 0, p->words * 4);
                if (p->int8) p->bias[j] = 0;
            } else if (p->int8) {
                bytes_of(key, j, p->mean, factor, p->width, p->words, out);
                __m128i sum = _mm_setzero_si128();
                for (std::int64_t w = 0; w < p->words; w += 4) {
                    const __m128i row = _mm_maskz_loadu_epi32(first(p->words - w) & 0xF, out + w);
                    sum = _mm_dpbusd_epi32(sum, _mm_set1_epi8((char)128), row);
                }
                sum = _mm_add_epi32(sum, _mm_shuffle_epi32(sum, 0x4E));
                sum = _mm_add_epi32(sum, _mm_shuffle_epi32(sum, 0xB1));
                p->bias[j] = -_mm_cvtsi128_si32(sum);
            } else {
                halves_of(key, j, p->mean, p->width, p->words, out);
            }
        }
    }
}

void pack_values(const Packed* p, Rows value) {
    const std::int64_t across = padded(p->width, 16), pairs = padded(p->keys, KEYS) / 2;
    for (std::int64_t j = 0; j < pairs; ++j) {
        for (std::int64_t d = 0; d < across; d += 16) {
            const __mmask16 there = first(p->width - d);
            const __m512 low = load(value, 2 * j, d, 2 * j < p->keys ? there : 0);
            const __m512 high = load(value, 2 * j + 1, d, 2 * j + 1 < p->keys ? there : 0);
            _mm512_store_si512(p->value + j * across + d, paired(low, high));
        }
    }
}

// A block's queries, with the lanes' own scales and the state of their softmax.
struct Block {
    std::uint32_t* query;        // [words, QUERIES]
    std::uint32_t* probability;  // [KEYS / 2, QUERIES]
    float* sum;                  // [width padded, QUERIES]: the unnormalised attention
    float* row;                  // [16, width padded]: rows on their way out
    __m512 unit[LANES];          // logits in powers of two are products times this
    __m512 most[LANES];          // what is taken off the logits
    __m512 total[LANES];         // the sum of the probabilities
};

void pack_queries(Block* b, Rows query, std::int64_t width, std::int64_t words, bool int8, float scale) {
    for (std::int64_t q = 0; q < QUERIES; q += 16) {
        alignas(64) float unit[16];
        std::uint32_t* rows = (std::uint32_t*)b->row;
        const std::int64_t across = padded(words, 16);
        std::memset(rows, 0, 16 * across * 4);
        for (std::int64_t i = 0; i < 16; ++i) {
            unit[i] = scale * LOG2E;
            if (q + i >= query.rows) continue;
            if (int8) {
                const float most = largest_magnitude(query, q + i, nullptr, width);
                unit[i] *= most / 127;
                bytes_of(query, q + i, nullptr, most > 0 ? 127 / most : 0, width, words, rows + i * across);
            } else {
                halves_of(query, q + i, nullptr, width, words, rows + i * across);
            }
        }
        b->unit[q / 16] = _mm512_load_ps(unit);
        for (std::int64_t w = 0; w < words; w += 16) {
            __m512i v[16];
            for (int i = 0; i < 16; ++i) v[i] = _mm512_loadu_si512(rows + i * across + w);
            transpose(v);
            const __m512i offset = int8 ? _mm512_set1_epi8((char)128) : _mm512_setzero_si512();
            for (std::int64_t i = 0; i < least(16, words - w); ++i)
                _mm512_store_si512(b->query + (w + i) * QUERIES + q, _mm512_xor_si512(v[i], offset));
        }
    }
}

// How a query's and a key's words are multiplied: what is summed, and what the sums of a key begin with.
struct Bf16Products {
    using Sum = __m512;
    static INLINE Sum begin(const Packed*, std::int64_t) { return _mm512_setzero_ps(); }
    static INLINE Sum add(Sum sum, __m512i queries, __m512i key) {
        asm("vdpbf16ps %2, %1, %0" : "+v"(sum) : "v"(queries), "v"(key));
        return sum;
    }
    static INLINE __m512 floats(Sum sum) { return sum; }
};

struct Int8Products {
    using Sum = __m512i;
    static INLINE Sum begin(const Packed* p, std::int64_t key) { return _mm512_set1_epi32(p->bias[key]); }
    static INLINE Sum add(Sum sum, __m512i queries, __m512i key) {
        asm("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(queries), "v"(key));
        return sum;
    }
    static INLINE __m512 floats(Sum sum) { return _mm512_cvtepi32_ps(sum); }
};

template <class Products, int Count>
INLINE void products(const Packed* p, const Block* b, std::int64_t key, __m512 (*out)[LANES]) {
    const std::uint32_t* k = p->key + key * p->words;
    const std::uint32_t* q = b->query;
    typename Products::Sum sums[Count][LANES];
    UNROLLED for (int i = 0; i < Count; ++i)
        UNROLLED for (int c = 0; c < LANES; ++c) sums[i][c] = Products::begin(p, key + i);
    for (std::int64_t w = 0; w < p->words; ++w, q += QUERIES) {
        __m512i lanes[LANES];
        UNROLLED for (int c = 0; c < LANES; ++c) lanes[c] = _mm512_load_si512(q + 16 * c);
        UNROLLED for (int i = 0; i < Count; ++i) {
            const __m512i one = _mm512_set1_epi32((int)k[i * p->words + w]);
            UNROLLED for (int c = 0; c < LANES; ++c) sums[i][c] = Products::add(sums[i][c], lanes[c], one);
        }
    }
    UNROLLED for (int i = 0; i < Count; ++i)
        UNROLLED for (int c = 0; c < LANES; ++c) out[i][c] = Products::floats(sums[i][c]);
}

// Scales of a block's products: int8 has one of the keys as well.
INLINE void units(const Packed* p, const Block* b, std::int64_t key, __m512* unit) {
    for (int c = 0; c < LANES; ++c)
        unit[c] = p->int8 ? _mm512_mul_ps(b->unit[c], _mm512_set1_ps(p->unit[key / KEYS])) : b->unit[c];
}

// The probabilities of one tile; `above` keeps the largest logit seen, `total` the sum.
template <class Products>
INLINE void tile(const Packed* p, const Block* b, std::int64_t key, std::int64_t valid, const __m512* unit,
                 std::uint32_t* out, __m512* above, __m512* total) {
    __m512 x[TILE][LANES];
    products<Products, TILE>(p, b, key, x);
    UNROLLED for (int c = 0; c < LANES; ++c) {
        UNROLLED for (int i = 0; i < TILE; i += 2) {
            __m512 pair[2];
            UNROLLED for (int j = 0; j < 2; ++j) {
                const __m512 logit = _mm512_fmsub_ps(x[i + j][c], unit[c], b->most[c]);
                const __mmask16 there = i + j < valid ? 0xFFFF : 0;
                above[c] = _mm512_mask_max_ps(above[c], there, above[c], logit);
                pair[j] = _mm512_maskz_mov_ps(there, exp2_cubic(logit));
                total[c] = _mm512_add_ps(total[c], pair[j]);
            }
            _mm512_store_si512(out + (i / 2) * QUERIES + 16 * c, paired(pair[0], pair[1]));
        }
    }
}

// sum[d, :] += value[:, d] probability for `Count` channels.
template <int Count>
INLINE void add_values(const std::uint32_t* value, std::int64_t across, const std::uint32_t* probability,
                       std::int64_t pairs, float* sum) {
    __m512 sums[Count][LANES];
    UNROLLED for (int i = 0; i < Count; ++i)
        UNROLLED for (int c = 0; c < LANES; ++c) sums[i][c] = _mm512_load_ps(sum + i * QUERIES + 16 * c);
    for (std::int64_t j = 0; j < pairs; ++j, value += across, probability += QUERIES) {
        __m512bh lanes[LANES];
        UNROLLED for (int c = 0; c < LANES; ++c) lanes[c] = (__m512bh)_mm512_load_si512(probability + 16 * c);
        UNROLLED for (int i = 0; i < Count; ++i) {
            const __m512bh one = (__m512bh)_mm512_set1_epi32((int)value[i]);
            UNROLLED for (int c = 0; c < LANES; ++c) sums[i][c] = _mm512_dpbf16_ps(sums[i][c], lanes[c], one);
        }
    }
    UNROLLED for (int i = 0; i < Count; ++i)
        UNROLLED for (int c = 0; c < LANES; ++c) _mm512_store_ps(sum + i * QUERIES + 16 * c, sums[i][c]);
}

void add_block(const Packed* p, const Block* b, std::int64_t key, std::int64_t keys) {
    const std::int64_t across = padded(p->width, 16), pairs = (keys + 1) / 2;
    const std::uint32_t* value = p->value + key / 2 * across;
    std::int64_t d = 0;
    const auto left = [&] { return p->width - d; };
    while (left() >= 6 && left() != 8 && left() != 10)
        add_values<6>(value + d, across, b->probability, pairs, b->sum + d * QUERIES), d += 6;
    while (left() >= 5 && left() != 8)
        add_values<5>(value + d, across, b->probability, pairs, b->sum + d * QUERIES), d += 5;
    while (left() >= 4)
        add_values<4>(value + d, across, b->probability, pairs, b->sum + d * QUERIES), d += 4;
    for (; left() > 0; ++d) add_values<1>(value + d, across, b->probability, pairs, b->sum + d * QUERIES);
}

// Raises the maxima of the lanes that a block of keys would take too far.
void raise(const Packed* p, Block* b, const __m512* above) {
    for (int c = 0; c < LANES; ++c) {
        const __mmask16 far = _mm512_cmp_ps_mask(above[c], _mm512_set1_ps(HEADROOM), _CMP_GT_OQ);
        const __m512 by = _mm512_maskz_mov_ps(far, above[c]);
        const __m512 factor = exp2_quartic(_mm512_sub_ps(_mm512_setzero_ps(), by));
        b->most[c] = _mm512_add_ps(b->most[c], by);
        const auto scaled = [&](__m512 x) { return _mm512_mask_mul_ps(x, far, x, factor); };
        b->total[c] = scaled(b->total[c]);
        for (std::int64_t d = 0; d < p->width; ++d) {
            float* at = b->sum + d * QUERIES + 16 * c;
            _mm512_store_ps(at, scaled(_mm512_load_ps(at)));
        }
    }
}

template <class Products>
void attend_keys(const Packed* p, Block* b) {
    __m512 unit[LANES], x[TILE][LANES];
    // A first maximum from a few keys: the others may be HEADROOM above it.
    units(p, b, 0, unit);
    products<Products, TILE>(p, b, 0, x);
    for (int c = 0; c < LANES; ++c) {
        b->most[c] = _mm512_mul_ps(x[0][c], unit[c]);
        for (std::int64_t i = 1; i < least(TILE, p->keys); ++i)
            b->most[c] = _mm512_max_ps(b->most[c], _mm512_mul_ps(x[i][c], unit[c]));
        b->total[c] = _mm512_setzero_ps();
    }
    std::memset(b->sum, 0, p->width * QUERIES * 4);
    bool raised = false;
    for (std::int64_t key = 0; key < p->keys;) {
        const std::int64_t keys = least(KEYS, p->keys - key);
        __m512 above[LANES], total[LANES];
        units(p, b, key, unit);
        for (int c = 0; c < LANES; ++c) above[c] = total[c] = _mm512_setzero_ps();
        std::int64_t j = 0;
        for (; j + TILE <= keys; j += TILE)
            tile<Products>(p, b, key + j, TILE, unit, b->probability + j / 2 * QUERIES, above, total);
        if (j < keys) tile<Products>(p, b, key + j, keys - j, unit, b->probability + j / 2 * QUERIES, above, total);
        __mmask16 far = 0;
        for (int c = 0; c < LANES; ++c) far |= _mm512_cmp_ps_mask(above[c], _mm512_set1_ps(HEADROOM), _CMP_GT_OQ);
        // Once a block: where logits are so large that float32 cannot tell them from the maximum, more would not help.
        if (far && !raised) {
            raise(p, b, above);
            raised = true;
            continue;
        }
        for (int c = 0; c < LANES; ++c) b->total[c] = _mm512_add_ps(b->total[c], total[c]);
        add_block(p, b, key, keys);
        key += keys;
        raised = false;
    }
}

// The probabilities of one key, over their sum.
template <class Products>
void probabilities_of(const Packed* p, const Block* b, std::int64_t key, std::int64_t queries, float* out) {
    __m512 unit[LANES], x[1][LANES];
    units(p, b, key, unit);
    products<Products, 1>(p, b, key, x);
    for (int c = 0; c < LANES; ++c) {
        const __m512 share = exp2_quartic(_mm512_fmsub_ps(x[0][c], unit[c], b->most[c]));
        _mm512_mask_storeu_ps(out + 16 * c, first(queries - 16 * c), _mm512_div_ps(share, b->total[c]));
    }
}

void store_rows(const Packed* p, const Block* b, Store to) {
    const std::int64_t across = padded(p->width, 16);
    for (int c = 0; c < LANES && 16 * c < to.output.rows; ++c) {
        const __mmask16 there = first(to.output.rows - 16 * c);
        const __m512 weight = to.weight ? _mm512_maskz_loadu_ps(there, to.weight + 16 * c) : _mm512_set1_ps(1);
        const __m512 factor = _mm512_div_ps(weight, b->total[c]);
        for (std::int64_t d = 0; d < across; d += 16) {
            const std::int64_t channels = least(16, p->width - d);
            __m512i v[16];
            for (std::int64_t i = 0; i < 16; ++i)
                v[i] = i < channels ? (__m512i)_mm512_mul_ps(
                                          factor, _mm512_load_ps(b->sum + (d + i) * QUERIES + 16 * c))
                                    : _mm512_setzero_si512();
            transpose(v);
            for (std::int64_t q = 0; q < least(16, to.output.rows - 16 * c); ++q) {
                __m512 x = (__m512)v[q];
                if (to.weight) x = _mm512_add_ps(x, load(to.output, 16 * c + q, d, first(channels)));
                store(to.output, 16 * c + q, d, first(channels), x);
            }
        }
    }
}

INLINE std::size_t lines(std::size_t bytes) { return (bytes + 63) / 64 * 64; }

}  // namespace

std::size_t packed_bytes(std::int64_t keys, std::int64_t width, bool int8) {
    const std::size_t all = padded(keys, KEYS), across = padded(width, 16);
    return lines(all * words_of(width, int8) * 4) + all / 2 * across * 4 + lines(all * 4) + lines(all / KEYS * 4) +
           across * 4;
}

void lay_out(Packed* p, std::int64_t keys, std::int64_t width, bool int8, unsigned char* memory) {
    const std::size_t all = padded(keys, KEYS), across = padded(width, 16);
    p->keys = keys, p->width = width, p->words = words_of(width, int8), p->int8 = int8;
    const auto take = [&](std::size_t bytes) {
        unsigned char* at = memory;
        memory += lines(bytes);
        return at;
    };
    p->key = (std::uint32_t*)take(all * p->words * 4);
    p->value = (std::uint32_t*)take(all / 2 * across * 4);
    p->bias = (std::int32_t*)take(all * 4);
    p->unit = (float*)take(all / KEYS * 4);
    p->mean = (float*)take(across * 4);
}

void pack(const Packed* p, Rows key, Rows value) {
    pack_keys(p, key);
    pack_values(p, value);
}

std::size_t workspace_bytes(std::int64_t width) {
    const std::size_t across = padded(width, 16);
    return (words_of(width, false) * QUERIES + KEYS / 2 * QUERIES + across * QUERIES + 16 * across) * 4;
}

void attend(const Packed* p, Rows query, float scale, Store to, std::int64_t token, float* column,
            unsigned char* workspace) {
    const std::int64_t across = padded(p->width, 16);
    Block b;
    b.query = (std::uint32_t*)workspace;
    b.probability = b.query + words_of(p->width, false) * QUERIES;
    b.sum = (float*)(b.probability + KEYS / 2 * QUERIES);
    b.row = b.sum + across * QUERIES;
    pack_queries(&b, query, p->width, p->words, p->int8, scale);
    p->int8 ? attend_keys<Int8Products>(p, &b) : attend_keys<Bf16Products>(p, &b);
    if (column) {
        p->int8 ? probabilities_of<Int8Products>(p, &b, token, query.rows, column)
                : probabilities_of<Bf16Products>(p, &b, token, query.rows, column);
    }
    store_rows(p, &b, to);
}

}  // namespace x2i
