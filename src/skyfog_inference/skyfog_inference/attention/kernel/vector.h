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

// Where element i of a packed row stands, by the type of what it is going to meet.
static inline int packed_index(int i, const bf16*) { return i / PAIR * PAIR + (i % 2) * LANES + i % PAIR / 2; }

static inline int packed_index(int i, const float*) { return i; }

// The sums of LANES vectors: lane i of the result is the sum over the lanes of vector i. A tree of shuffles: each level
// adds halves and puts two vectors into one, so that 16 sums cost 15 additions instead of 64.
static inline Vec sums(const Vec* v) {
#if defined(__AVX512F__)
  __m512 a[8], b[4], c[2];
  for (int i = 0; i < 8; i++) {
    const __m512 x = (__m512)v[2 * i], y = (__m512)v[2 * i + 1];
    a[i] = _mm512_add_ps(_mm512_unpacklo_ps(x, y), _mm512_unpackhi_ps(x, y));
  }
  for (int i = 0; i < 4; i++) {
    const __m512d x = (__m512d)a[2 * i], y = (__m512d)a[2 * i + 1];
    b[i] = _mm512_add_ps((__m512)_mm512_unpacklo_pd(x, y), (__m512)_mm512_unpackhi_pd(x, y));
  }
  for (int i = 0; i < 2; i++) {
    const __m512 x = b[2 * i], y = b[2 * i + 1];
    c[i] = _mm512_add_ps(_mm512_shuffle_f32x4(x, y, 0x88), _mm512_shuffle_f32x4(x, y, 0xdd));
  }
  return (Vec)_mm512_add_ps(_mm512_shuffle_f32x4(c[0], c[1], 0x88), _mm512_shuffle_f32x4(c[0], c[1], 0xdd));
#elif defined(__AVX2__)
  __m256 a[4], b[2];
  for (int i = 0; i < 4; i++) {
    const __m256 x = (__m256)v[2 * i], y = (__m256)v[2 * i + 1];
    a[i] = _mm256_add_ps(_mm256_unpacklo_ps(x, y), _mm256_unpackhi_ps(x, y));
  }
  for (int i = 0; i < 2; i++) {
    const __m256d x = (__m256d)a[2 * i], y = (__m256d)a[2 * i + 1];
    b[i] = _mm256_add_ps((__m256)_mm256_unpacklo_pd(x, y), (__m256)_mm256_unpackhi_pd(x, y));
  }
  return (Vec)_mm256_add_ps(_mm256_permute2f128_ps(b[0], b[1], 0x20), _mm256_permute2f128_ps(b[0], b[1], 0x31));
#else
  Vec result;
  for (int i = 0; i < LANES; i++) result[i] = (v[i][0] + v[i][2]) + (v[i][1] + v[i][3]);
  return result;
#endif
}

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
