// The two inner products of attention over a run of rows of one cache block, for up to four queries at a time.
//
// Scores: LANES accumulators, one for each pair of a key and a query, are filled over the dimensions and then summed
// together (vector.h), so that nothing is summed horizontally by itself. Weighted sums: the accumulators are parts of
// the output rows; a value row is loaded once for all queries.
#pragma once

#include "vector.h"

constexpr int BLOCK = 16;     // tokens of a cache block
constexpr int MOST_ROWS = 4;  // queries of a tile

// Queries as the scores want them: `packed` fp32 in the order of the cache's pairs or, where `dots` is set, bf16 as it
// was, for the instruction that multiplies pairs of bf16 exactly. Both padded with zeros to `stride` elements.
struct Queries {
  const float* packed;
  const bf16* raw;
  int stride;
  bool dots;
};

#if defined(__AVX512BF16__)
static inline Vec dot_pairs(Vec sum, const bf16* a, __m512i b) {
  return (Vec)_mm512_dpbf16_ps((__m512)sum, (__m512bh)_mm512_loadu_si512(a), (__m512bh)b);
}

// As score_tile below, from bf16 queries.
template <int KEYS, int ROWS>
static inline void dot_tile(const Queries& q, int row, const bf16* keys, int dim, Vec* sum) {
  for (int k = 0; k < KEYS; k++) {
    const bf16* key = keys + k * dim;
    int d = 0;
    for (; d + PAIR <= dim; d += PAIR) {
      const __m512i raw = _mm512_loadu_si512(key + d);
      for (int r = 0; r < ROWS; r++) sum[r * KEYS + k] = dot_pairs(sum[r * KEYS + k], q.raw + (row + r) * q.stride + d, raw);
    }
    if (d < dim) {
      const __m512i raw = _mm512_zextsi256_si512(_mm256_loadu_si256((const __m256i*)(key + d)));
      for (int r = 0; r < ROWS; r++) sum[r * KEYS + k] = dot_pairs(sum[r * KEYS + k], q.raw + (row + r) * q.stride + d, raw);
    }
  }
}

template <int KEYS, int ROWS>
static inline void dot_tile(const Queries&, int, const float*, int, Vec*) {}
#endif

// Scores of ROWS queries with KEYS keys; lane r * KEYS + k of the result is that of query r and key k.
template <class T, int KEYS, int ROWS>
static inline Vec score_tile(const Queries& q, int row, const T* keys, int dim) {
  Vec sum[LANES] = {};
#if defined(__AVX512BF16__)
  if (q.dots) {
    dot_tile<KEYS, ROWS>(q, row, keys, dim, sum);
    return sums(sum);
  }
#endif
  for (int k = 0; k < KEYS; k++) {
    const T* key = keys + k * dim;
    for (int d = 0; d < dim; d += PAIR) {
      const VecPair x = d + PAIR <= dim ? load_pair(key + d) : load_half_pair(key + d);
      for (int r = 0; r < ROWS; r++) {
        const float* query = q.packed + (row + r) * q.stride + d;
        sum[r * KEYS + k] += load(query) * x.even;
        sum[r * KEYS + k] += load(query + LANES) * x.odd;
      }
    }
  }
  return sums(sum);
}

// Scores of ROWS queries with a block's 16 keys, to rows of `stride` floats.
template <class T, int ROWS>
static inline void score_block(const Queries& q, int row, const T* keys, int dim, float* scores, int stride) {
  constexpr int KEYS = LANES / (ROWS == 3 ? 4 : ROWS);
  for (int k = 0; k < BLOCK; k += KEYS) {
    const Vec result = score_tile<T, KEYS, ROWS>(q, row, keys + k * dim, dim);
    for (int r = 0; r < ROWS; r++) memcpy(scores + (row + r) * stride + k, (const float*)&result + r * KEYS, KEYS * 4);
  }
}

// A run of value rows of one block.
template <class T>
struct Values {
  const T* rows;
  int count;
};

// Dimensions d to d + PAIRS * PAIR of ROWS outputs: out = out * shrink + the blocks' rows weighed.
template <class T, int ROWS, int PAIRS, bool HALF>
static inline void weigh_tile(const Values<T>* blocks, int count, const float* weights, int stride, int d, int dim,
                              const float* shrink, float* out, int out_stride) {
  Vec sum[ROWS][2 * PAIRS];
  for (int r = 0; r < ROWS; r++)
    for (int i = 0; i < 2 * PAIRS; i++) sum[r][i] = load(out + r * out_stride + d + i * LANES) * shrink[r];
  for (int b = 0; b < count; b++) {
    const T* value = blocks[b].rows + d;
    const float* weight = weights + b * BLOCK;
    for (int k = 0; k < blocks[b].count; k++, value += dim) {
      VecPair x[PAIRS];
      for (int i = 0; i < PAIRS; i++) x[i] = HALF ? load_half_pair(value) : load_pair(value + i * PAIR);
      for (int r = 0; r < ROWS; r++) {
        const float w = weight[r * stride + k];
        for (int i = 0; i < PAIRS; i++) {
          sum[r][2 * i] += w * x[i].even;
          sum[r][2 * i + 1] += w * x[i].odd;
        }
      }
    }
  }
  for (int r = 0; r < ROWS; r++)
    for (int i = 0; i < 2 * PAIRS; i++) store(out + r * out_stride + d + i * LANES, sum[r][i]);
}

template <class T, int ROWS>
static inline void weigh(const Values<T>* blocks, int count, const float* weights, int stride, int dim,
                         const float* shrink, float* out, int out_stride) {
  constexpr int PAIRS = LANES == 16 ? (ROWS > 2 ? 2 : 4) : (ROWS > 2 ? 1 : 2);
  int d = 0;
  for (; d + PAIRS * PAIR <= dim; d += PAIRS * PAIR)
    weigh_tile<T, ROWS, PAIRS, false>(blocks, count, weights, stride, d, dim, shrink, out, out_stride);
  for (; d + PAIR <= dim; d += PAIR)
    weigh_tile<T, ROWS, 1, false>(blocks, count, weights, stride, d, dim, shrink, out, out_stride);
  if (d < dim) weigh_tile<T, ROWS, 1, true>(blocks, count, weights, stride, d, dim, shrink, out, out_stride);
}
