// The two inner products of attention over a run of rows of one cache block, for up to four queries at a time.
//
// Scores: LANES accumulators, one for each pair of a key and a query, are filled over the dimensions and then summed
// together (vector.h), so that nothing is summed horizontally by itself. Weighted sums: the accumulators are parts of
// the output rows; a value row is loaded once for all queries.
#pragma once

#include <algorithm>

#include "vector.h"

constexpr int BLOCK = 16;     // tokens of a cache block

// What queries and weights are while they are multiplied (`P` below): bf16, where queries and cache are bf16 and the CPU
// multiplies pairs of those exactly, or fp32. Weights lose their lower bits as bf16; the sum that divides them loses the
// same ones.
#if defined(__AVX512BF16__)
constexpr bool MULTIPLIES_BF16 = true;
#else
constexpr bool MULTIPLIES_BF16 = false;
#endif

// Where element i of a packed query stands: in the order of the cache's pairs.
template <class P, class T>
static inline int query_index(int i) {
  if (sizeof(P) == 2 || sizeof(T) == 4) return i;
  return i / PAIR * PAIR + (i % 2) * LANES + i % PAIR / 2;
}

// Where dimension i of a weighted sum stands.
template <class P, class T>
static inline int sum_index(int i) {
  if (sizeof(P) == 4) return query_index<P, T>(i);
  return i / PAIR * PAIR + (i % 8 / 4) * LANES + i % PAIR / 8 * 4 + i % 4;  // as unpack_pair leaves it
}

// Lines of the cache that will be wanted next, fetched a few at a time between products, so that memory never waits: a
// core's own misses are too few to fill its bandwidth, and the hardware's streams end with every block.
struct Ahead {
  const char* const* blocks;
  int count;
  size_t bytes;  // of each
  int block = 0;
  size_t at = 0;

  inline void fetch(int lines) {
    if (block >= count) return;
    const char* from = blocks[block] + at;
    for (int i = 0; i < lines; i++) __builtin_prefetch(from + i * 64, 0, 2);  // to L2
    at += lines * 64;
    if (at >= bytes) at = 0, block++;
  }
};

// Packed queries, rows padded with zeros to `stride` elements.
template <class P>
struct Queries {
  const P* packed;
  int stride;
  const P* row(int i) const { return packed + i * stride; }
};

// sum[r * KEYS + k] += the products of ROWS queries and KEYS keys over a pair of vectors (HALF: over half of one).
template <bool HALF, int KEYS, int ROWS, class T>
static inline void multiply(Vec* sum, const float* query, int stride, const T* key, int dim) {
  VecPair x[KEYS];
#pragma GCC unroll 16
  for (int k = 0; k < KEYS; k++) x[k] = HALF ? load_half_pair(key + k * dim) : load_pair(key + k * dim);
#pragma GCC unroll 16
  for (int r = 0; r < ROWS; r++) {
    const Vec even = load(query + r * stride), odd = load(query + r * stride + LANES);
#pragma GCC unroll 16
    for (int k = 0; k < KEYS; k++) {
      sum[r * KEYS + k] += even * x[k].even;
      sum[r * KEYS + k] += odd * x[k].odd;
    }
  }
}

#if defined(__AVX512BF16__)
template <bool HALF, int KEYS, int ROWS>
static inline void multiply(Vec* sum, const bf16* query, int stride, const bf16* key, int dim) {
  __m512bh x[KEYS];
#pragma GCC unroll 16
  for (int k = 0; k < KEYS; k++) {
    x[k] = HALF ? (__m512bh)_mm512_zextsi256_si512(_mm256_loadu_si256((const __m256i*)(key + k * dim)))
                : (__m512bh)_mm512_loadu_si512(key + k * dim);
  }
#pragma GCC unroll 16
  for (int r = 0; r < ROWS; r++) {
    const __m512bh row = (__m512bh)_mm512_loadu_si512(query + r * stride);
#pragma GCC unroll 16
    for (int k = 0; k < KEYS; k++)
      sum[r * KEYS + k] = (Vec)_mm512_dpbf16_ps((__m512)sum[r * KEYS + k], row, x[k]);
  }
}
#endif

// Scores of ROWS queries with KEYS keys; lane r * KEYS + k of the result is that of query r and key k.
template <int KEYS, int ROWS, class P, class T>
static inline Vec score_tile(const P* query, int stride, const T* keys, int dim) {
  Vec sum[LANES];
#pragma GCC unroll 16
  for (int i = 0; i < LANES; i++) sum[i] = Vec{};
  int d = 0;
  for (; d + PAIR <= dim; d += PAIR) multiply<false, KEYS, ROWS>(sum, query + d, stride, keys + d, dim);
  if (d < dim) multiply<true, KEYS, ROWS>(sum, query + d, stride, keys + d, dim);
  return sums(sum);
}

// Scores of ROWS queries with a block's 16 keys, to rows of `stride` floats.
template <int ROWS, class P, class T>
static inline void score_block(const Queries<P>& queries, int row, const T* keys, int dim, float* scores, int stride,
                               Ahead& ahead) {
  constexpr int KEYS = LANES / (ROWS == 3 ? 4 : ROWS);
  const int lines = KEYS * dim * int(sizeof(T)) / 64;
  for (int k = 0; k < BLOCK; k += KEYS) {
    ahead.fetch(lines);
    const Vec result = score_tile<KEYS, ROWS>(queries.row(row), queries.stride, keys + k * dim, dim);
#pragma GCC unroll 4
    for (int r = 0; r < ROWS; r++) memcpy(scores + (row + r) * stride + k, (const float*)&result + r * KEYS, KEYS * 4);
  }
}

// A run of value rows of one block.
template <class T>
struct Values {
  const T* rows;
  int count;
};

// Cache lines in so many pairs of vectors.
template <class T>
static constexpr int lines_of(int pairs) {
  return std::max<int>(1, pairs * PAIR * sizeof(T) / 64);
}

// sum[r * 2 * PAIRS + ...] += the first value rows of a block, from one dimension on, by the weights of ROWS rows.
template <bool HALF, int ROWS, int PAIRS, class T>
static inline void add_values(Vec* sum, const T* value, int count, int dim, const float* weights, int stride,
                              Ahead& ahead) {
  for (int k = 0; k < count; k++, value += dim) {
    ahead.fetch(lines_of<T>(PAIRS));
    VecPair x[PAIRS];
#pragma GCC unroll 4
    for (int i = 0; i < PAIRS; i++) x[i] = HALF ? load_half_pair(value) : load_pair(value + i * PAIR);
#pragma GCC unroll 4
    for (int r = 0; r < ROWS; r++) {
      const Vec weight = Vec{} + weights[r * stride + k];
#pragma GCC unroll 4
      for (int i = 0; i < PAIRS; i++) {
        sum[r * 2 * PAIRS + 2 * i] += weight * x[i].even;
        sum[r * 2 * PAIRS + 2 * i + 1] += weight * x[i].odd;
      }
    }
  }
}

#if defined(__AVX512BF16__)
template <bool HALF>
static inline __m512i load_values(const bf16* from) {
  return HALF ? _mm512_zextsi256_si512(_mm256_loadu_si256((const __m256i*)from)) : _mm512_loadu_si512(from);
}

// The same two rows at a time: their elements side by side, the pairs of weights in every lane.
template <bool HALF, int ROWS, int PAIRS>
static inline void add_values(Vec* sum, const bf16* value, int count, int dim, const bf16* weights, int stride,
                              Ahead& ahead) {
  for (int k = 0; k < count; k += 2, value += 2 * dim) {
    ahead.fetch(lines_of<bf16>(2 * PAIRS));
    __m512bh x[2 * PAIRS];
#pragma GCC unroll 4
    for (int i = 0; i < PAIRS; i++) {
      const __m512i even = load_values<HALF>(value + i * PAIR);
      // A row that is not counted may hold anything.
      const __m512i odd = k + 1 < count ? load_values<HALF>(value + dim + i * PAIR) : _mm512_setzero_si512();
      x[2 * i] = (__m512bh)_mm512_unpacklo_epi16(even, odd);
      x[2 * i + 1] = (__m512bh)_mm512_unpackhi_epi16(even, odd);
    }
#pragma GCC unroll 4
    for (int r = 0; r < ROWS; r++) {
      int32_t pair;
      memcpy(&pair, weights + r * stride + k, sizeof pair);
      const __m512bh weight = (__m512bh)_mm512_set1_epi32(pair);
#pragma GCC unroll 8
      for (int i = 0; i < 2 * PAIRS; i++)
        sum[r * 2 * PAIRS + i] = (Vec)_mm512_dpbf16_ps((__m512)sum[r * 2 * PAIRS + i], weight, x[i]);
    }
  }
}
#endif

// The weighted sums of ROWS rows over some blocks, as they come to be: out = out * shrink + the values weighed.
template <class P, class T>
struct Weighing {
  const Values<T>* blocks;
  int count, dim;
  const P* weights;
  int weights_stride;
  const float* shrink;
  float* out;
  int out_stride;
  Ahead& ahead;
};

// Dimensions d to d + PAIRS * PAIR.
template <int ROWS, int PAIRS, bool HALF, class P, class T>
static inline void weigh_tile(const Weighing<P, T>& w, int d) {
  Vec sum[ROWS * 2 * PAIRS];
#pragma GCC unroll 4
  for (int r = 0; r < ROWS; r++)
#pragma GCC unroll 8
    for (int i = 0; i < 2 * PAIRS; i++)
      sum[r * 2 * PAIRS + i] = load(w.out + r * w.out_stride + d + i * LANES) * w.shrink[r];
  for (int b = 0; b < w.count; b++) {
    const P* weights = w.weights + b * BLOCK;
    const T* value = w.blocks[b].rows + d;
    add_values<HALF, ROWS, PAIRS>(sum, value, w.blocks[b].count, w.dim, weights, w.weights_stride, w.ahead);
  }
#pragma GCC unroll 4
  for (int r = 0; r < ROWS; r++)
#pragma GCC unroll 8
    for (int i = 0; i < 2 * PAIRS; i++) store(w.out + r * w.out_stride + d + i * LANES, sum[r * 2 * PAIRS + i]);
}

template <int ROWS, class P, class T>
static inline void weigh(const Weighing<P, T>& w) {
  constexpr int PAIRS = LANES == 16 ? (ROWS > 2 ? 2 : 4) : (ROWS > 2 ? 1 : 2);
  int d = 0;
  for (; d + PAIRS * PAIR <= w.dim; d += PAIRS * PAIR) weigh_tile<ROWS, PAIRS, false>(w, d);
  for (; d + PAIR <= w.dim; d += PAIR) weigh_tile<ROWS, 1, false>(w, d);
  if (d < w.dim) weigh_tile<ROWS, 1, true>(w, d);
}
