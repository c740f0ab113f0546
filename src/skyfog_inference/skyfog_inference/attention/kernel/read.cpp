// A plain read loop: what the memory gives one thread, beside which the kernel's rate is judged.

#include "vector.h"

extern "C" __attribute__((visibility("default"))) int32_t skyfog_read(const void* data, int64_t bytes) {
  const char* at = static_cast<const char*>(data);
  constexpr int STREAMS = 8;  // sums of their own, so that no addition waits for another
  Ints sums[STREAMS] = {};
  const int64_t step = STREAMS * int64_t(sizeof(Ints));
  for (int64_t i = 0; i + step <= bytes; i += step) {
    for (int j = 0; j < STREAMS; j++) {
      Ints value;
      memcpy(&value, at + i + j * sizeof(Ints), sizeof value);
      sums[j] ^= value;
    }
  }
  int32_t all = 0;
  for (int j = 0; j < STREAMS; j++)
    for (int i = 0; i < LANES; i++) all ^= sums[j][i];
  return all;
}
