// Vectors of fp32 as wide as the instruction set has them, written with the compiler's vector extensions, so that one
// source serves AVX-512, AVX2 and any other machine. Loads come in pairs of vectors: the even and the odd elements of
// 2 * LANES bf16 values (one shift and one mask, no permutation), or the lower and the upper half of as many fp32.
// What meets a pair is packed in the same order; the order is undone once, when a result is stored.
#pragma once

#include <cstdint>
#include <cstring>

#if defined(__AVX512F__)
#include <immintrin.h>
constexpr int LANES = 16;
#elif defined(__AVX2__)
#include <immintrin.h>
constexpr int LANES = 8;
#else
constexpr int LANES = 4;
#endif

typedef float Vec __attribute__((vector_size(LANES * 4)));
typedef int32_t Ints __attribute__((vector_size(LANES * 4)));

using bf16 = uint16_t;

constexpr int PAIR = 2 * LANES;  // elements of a pair of vectors

struct VecPair {
  Vec even, odd;
};

static inline float to_float(bf16 value) {
  const uint32_t bits = uint32_t(value) << 16;
  float result;
  memcpy(&result, &bits, 4);
  return result;
}

static inline float to_float(float value) { return value; }

// Rounds to the nearest, ties to even, as torch does; a NaN stays one.
static inline void from_float(float value, bf16* out) {
  uint32_t bits;
  memcpy(&bits, &value, 4);
  *out = value != value ? 0x7fc0 : uint16_t((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

static inline void from_float(float value, float* out) { *out = value; }

static inline Vec load(const float* from) {
  Vec result;
  memcpy(&result, from, sizeof result);
  return result;
}

static inline void store(float* to, Vec value) { memcpy(to, &value, sizeof value); }

static inline VecPair split_bf16(Ints raw) { return {(Vec)(raw << 16), (Vec)(raw & int32_t(0xffff0000))}; }

static inline VecPair load_pair(const bf16* from) {
  Ints raw;
  memcpy(&raw, from, sizeof raw);
  return split_bf16(raw);
}

static inline VecPair load_pair(const float* from) { return {load(from), load(from + LANES)}; }

// The first half of a pair, zeros behind it: a head_dim that is an odd multiple of 16 ends in one where LANES is 16.
static inline VecPair load_half_pair(const bf16* from) {
  Ints raw = {};
  memcpy(&raw, from, sizeof raw / 2);
  return split_bf16(raw);
}

static inline VecPair load_half_pair(const float* from) { return {load(from), Vec{}}; }

// The sums of LANES vectors: lane i of the result is the sum over the lanes of vector i. A tree whose levels add halves
// and put two vectors into one. Blends go beside shuffles, which are what a core has few units for: one a node.
#if defined(__AVX512F__)
static inline __m512 fold_2(__m512 x, __m512 y) {  // [x0+x2 x1+x3 y0+y2 y1+y3] of every four lanes
  return _mm512_add_ps(_mm512_mask_blend_ps(0xcccc, x, y), _mm512_shuffle_ps(x, y, 0x4e));
}

static inline __m512 fold_1(__m512 x, __m512 y) {  // [x0+x1 y0+y1 x2+x3 y2+y3] of every four lanes
  const __m512 other = _mm512_permute_ps(_mm512_mask_blend_ps(0xaaaa, y, x), 0xb1);
  return _mm512_add_ps(_mm512_mask_blend_ps(0xaaaa, x, y), other);
}

static inline __m512 fold_8(__m512 x, __m512 y) {  // as fold_2, of the four quarters
  return _mm512_add_ps(_mm512_mask_blend_ps(0xff00, x, y), _mm512_shuffle_f32x4(x, y, 0x4e));
}

static inline __m512 fold_4(__m512 x, __m512 y) {  // as fold_1, of the four quarters
  const __m512 other = _mm512_mask_blend_ps(0xf0f0, y, x);
  return _mm512_add_ps(_mm512_mask_blend_ps(0xf0f0, x, y), _mm512_shuffle_f32x4(other, other, 0xb1));
}

static inline Vec sums(const Vec* v) {
  __m512 quad[4];
#pragma GCC unroll 4
  for (int i = 0; i < 4; i++) {
    const __m512 a = (__m512)v[4 * i], b = (__m512)v[4 * i + 1], c = (__m512)v[4 * i + 2], d = (__m512)v[4 * i + 3];
    quad[i] = fold_1(fold_2(a, c), fold_2(b, d));
  }
  return (Vec)fold_4(fold_8(quad[0], quad[2]), fold_8(quad[1], quad[3]));
}
#elif defined(__AVX2__)
static inline __m256 sums_of_4(const Vec* v) {  // lane i and lane i + 4 add up to the sum of vector i
  const __m256 a = (__m256)v[0], b = (__m256)v[1], c = (__m256)v[2], d = (__m256)v[3];
  const __m256 x = _mm256_add_ps(_mm256_blend_ps(a, c, 0xcc), _mm256_shuffle_ps(a, c, 0x4e));
  const __m256 y = _mm256_add_ps(_mm256_blend_ps(b, d, 0xcc), _mm256_shuffle_ps(b, d, 0x4e));
  return _mm256_add_ps(_mm256_blend_ps(x, y, 0xaa), _mm256_permute_ps(_mm256_blend_ps(y, x, 0xaa), 0xb1));
}

static inline Vec sums(const Vec* v) {
  const __m256 x = sums_of_4(v), y = sums_of_4(v + 4);
  return (Vec)_mm256_add_ps(_mm256_blend_ps(x, y, 0xf0), _mm256_permute2f128_ps(x, y, 0x21));
}
#else
static inline Vec sums(const Vec* v) {
  Vec result;
  for (int i = 0; i < LANES; i++) result[i] = (v[i][0] + v[i][2]) + (v[i][1] + v[i][3]);
  return result;
}
#endif

// e^x for x <= 0, to 2 units in the last place; 0 below the smallest normal number. Cephes' polynomial.
static inline Vec exp_negative(Vec x) {
  const Vec log2e = Vec{} + 1.44269504088896341f, magic = Vec{} + 12582912.0f;  // 1.5 * 2^23: adding it rounds
  const Vec clamped = x > -87.0f ? x : Vec{} - 87.0f;
  const Vec shifted = clamped * log2e + magic;
  const Vec n = shifted - magic;
  const Vec r = clamped - n * 0.693359375f + n * 2.12194440e-4f;  // ln 2 in two parts
  Vec p = Vec{} + 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  const Ints exponent = ((Ints)shifted - (Ints)magic + 127) << 23;
  const Vec result = p * (Vec)exponent;
  return x > -87.0f ? result : Vec{};
}

// Weights as they are going to be multiplied, to `out`; returns them as they are there.
static inline Vec store_weights(Vec weights, float* out) {
  store(out, weights);
  return weights;
}

#if defined(__AVX512BF16__)
static inline Vec store_weights(Vec weights, bf16* out) {
  const __m256i narrow = (__m256i)_mm512_cvtneps_pbh((__m512)weights);
  _mm256_storeu_si256((__m256i*)out, narrow);
  return (Vec)_mm512_slli_epi32(_mm512_cvtepu16_epi32(narrow), 16);
}
#endif
