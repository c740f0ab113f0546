// Attention of one layer over a paged cache, on a CPU. One C function; cpu.py calls it through ctypes.
//
// Keys and values: [blocks, kv_heads, 16, head_dim] of bf16 or fp32. Queries and outputs: [tokens, heads, head_dim],
// both bf16 or both fp32. Everything is accumulated in fp32.
//
// The work is cut into items: a KV head of a sequence, up to MOST_TOKENS of its queries, and SPLIT tokens of its
// context. The rows of an item are the queries of all heads of the group, so that they share one pass over K and V.
// An item goes through its keys in chunks: scores, then a softmax that is corrected as larger scores come (online),
// then the weighted sum. What the splits of one head found is merged by the log-sum-exp by whoever ends last.
//
// The cuts depend on the sequence alone, never on the batch or the number of threads: the result of a sequence is the
// same to the bit whatever it is computed beside.

#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>
#include <new>
#include <type_traits>
#include <vector>

#include "tile.h"

namespace {

constexpr int CHUNK_BLOCKS = 8;
constexpr int CHUNK = CHUNK_BLOCKS * BLOCK;
constexpr int SPLIT = 512;
constexpr int MOST_TOKENS = 8;  // queries of one sequence in an item
constexpr int MOST_DIM = 256;
constexpr int PREFETCH_BLOCKS = 2;
constexpr float NEVER = -std::numeric_limits<float>::infinity();

enum Status { OK = 0, BAD_SHAPE = 1, BAD_TABLE = 2, BAD_LENGTH = 3, NO_MEMORY = 4 };

}  // namespace

extern "C" {

typedef void (*Parallel)(void (*work)(void*), void* data, unsigned threads, unsigned flags);  // GOMP_parallel

struct Call {  // as _Call in cpu.py
  const void* query;
  const void* keys;
  const void* values;
  void* out;
  const int32_t* starts;   // [sequences + 1]
  const int32_t* lengths;  // [sequences]
  const int32_t* tables;   // [sequences, table_width]
  Parallel parallel;       // null: one thread
  int64_t query_stride;    // elements from one token to the next
  int64_t out_stride;
  int32_t sequences, table_width, blocks, heads, kv_heads, head_dim;
  int32_t query_is_bf16, cache_is_bf16, threads;
  float scale;
};

}

namespace {

struct Item {
  int32_t sequence, kv_head, token, tokens, split, splits;
  int32_t first_partial;  // of this head and these tokens; -1: there is one split, whose result is final
};

struct Shape {
  int group, dim, stride;  // stride: dim padded to whole pairs
  int rows_most() const { return group * MOST_TOKENS; }
  // What a split found: of each row the largest score, the sum of the weights and the sums of the values weighed.
  size_t partial_size() const { return size_t(rows_most()) * (stride + 2); }
};

// Scratch memory of one thread.
template <class P>
struct Scratch {
  std::vector<P> packed, weights;  // queries; softened scores
  std::vector<float> scores, sums, most, total, shrink;

  explicit Scratch(const Shape& shape) {
    const size_t rows = shape.rows_most();
    packed.resize(rows * shape.stride);
    sums.resize(rows * shape.stride);
    scores.resize(rows * CHUNK);
    weights.resize(rows * CHUNK);
    most.resize(rows);
    total.resize(rows);
    shrink.resize(rows);
  }
};

template <class Q, class T>
class Kernel {
 public:
  // What the scores take of the queries.
  using P = std::conditional_t<MULTIPLIES_BF16 && sizeof(Q) == 2 && sizeof(T) == 2, bf16, float>;

  explicit Kernel(const Call& call)
      : call_(call),
        shape_{call.heads / call.kv_heads, call.head_dim, (call.head_dim + PAIR - 1) / PAIR * PAIR},
        head_size_(size_t(BLOCK) * call.head_dim) {}

  void run() {
    plan();
    next_ = 0;
    if (call_.parallel && call_.threads > 1 && items_.size() > 1) {
      const unsigned threads = std::min<size_t>(call_.threads, items_.size());
      call_.parallel([](void* self) { static_cast<Kernel*>(self)->work(); }, this, threads, 0);
    } else {
      work();
    }
  }

  bool failed() const { return failed_; }

 private:
  void plan() {
    int partials = 0;
    for (int s = 0; s < call_.sequences; s++) {
      const int tokens = call_.starts[s + 1] - call_.starts[s];
      for (int first = 0; first < tokens; first += MOST_TOKENS) {
        const int count = std::min(MOST_TOKENS, tokens - first);
        const int context = call_.lengths[s] - tokens + first + count;
        const int splits = (context + SPLIT - 1) / SPLIT;
        for (int head = 0; head < call_.kv_heads; head++) {
          for (int split = 0; split < splits; split++)
            items_.push_back({s, head, first, count, split, splits, splits > 1 ? partials : -1});
          if (splits > 1) partials += splits;
        }
      }
    }
    partials_.resize(partials * shape_.partial_size());
    left_ = std::vector<std::atomic<int>>(partials);
    for (const Item& item : items_)
      if (item.splits > 1) left_[item.first_partial] = item.splits;
  }

  void work() {
    try {
      Scratch<P> scratch(shape_);
      for (size_t i = next_++; i < items_.size(); i = next_++) attend(items_[i], scratch);
    } catch (const std::bad_alloc&) {
      failed_ = true;
    }
  }

  const T* block(const void* cache, const Item& item, int index) const {
    const int32_t* table = call_.tables + size_t(item.sequence) * call_.table_width;
    return static_cast<const T*>(cache) + (size_t(table[index]) * call_.kv_heads + item.kv_head) * head_size_;
  }

  static void prefetch(const T* rows, size_t elements) {
    const char* bytes = reinterpret_cast<const char*>(rows);
    for (size_t i = 0; i < elements * sizeof(T); i += 64) __builtin_prefetch(bytes + i);
  }

  void attend(const Item& item, Scratch<P>& scratch) {
    const int rows = item.tokens * shape_.group;
    const int tokens = call_.starts[item.sequence + 1] - call_.starts[item.sequence];
    const int before = call_.lengths[item.sequence] - tokens + item.token;  // context of the item's first query
    const int begin = item.split * SPLIT;
    const int end = std::min(begin + SPLIT, before + item.tokens);
    pack(item, rows, scratch);
    std::fill_n(scratch.most.begin(), rows, NEVER);
    std::fill_n(scratch.total.begin(), rows, 0.0f);
    std::fill_n(scratch.sums.begin(), size_t(rows) * shape_.stride, 0.0f);
    for (int from = begin; from < end; from += CHUNK) {
      const int to = std::min(from + CHUNK, end);
      score(item, rows, from, to, scratch);
      for (int row = 0; row < rows; row++) {
        const int seen = std::min(to, before + row / shape_.group + 1) - from;
        soften(row, seen, to - from, scratch);
      }
      weigh_chunk(item, rows, from, to, end, scratch);
    }
    if (item.splits == 1) {
      for (int row = 0; row < rows; row++) finish(item, row, &scratch.sums[row * shape_.stride], scratch.total[row]);
    } else {
      keep(item, rows, scratch);
    }
  }

  // Queries of the item's rows as the tiles take them; row = token * group + head of the group.
  void pack(const Item& item, int rows, Scratch<P>& scratch) const {
    const int first = call_.starts[item.sequence] + item.token;
    std::fill_n(scratch.packed.begin(), size_t(rows) * shape_.stride, P(0));
    for (int row = 0; row < rows; row++) {
      const int head = item.kv_head * shape_.group + row % shape_.group;
      const Q* from = static_cast<const Q*>(call_.query) + (first + row / shape_.group) * call_.query_stride +
                      size_t(head) * shape_.dim;
      P* to = &scratch.packed[row * shape_.stride];
      if constexpr (sizeof(P) == 2) {
        memcpy(to, from, shape_.dim * sizeof(Q));
      } else {
        for (int i = 0; i < shape_.dim; i++) to[query_index<P, T>(i)] = to_float(from[i]);
      }
    }
  }

  void score(const Item& item, int rows, int from, int to, Scratch<P>& scratch) const {
    const Queries<P> queries{scratch.packed.data(), shape_.stride};
    const int last = (to - 1) / BLOCK;
    for (int b = from / BLOCK; b <= last; b++) {
      const T* keys = block(call_.keys, item, b);
      const int ahead = b + PREFETCH_BLOCKS;
      if (ahead <= last) {
        prefetch(block(call_.keys, item, ahead), head_size_);
      } else {
        prefetch(block(call_.values, item, std::min(from / BLOCK + ahead - last - 1, last)), head_size_);
      }
      float* scores = scratch.scores.data() + b * BLOCK - from;
      for (int row = 0; row < rows;) {
        const int tile = std::min(rows - row, 4);
        if (tile == 4) score_block<4>(queries, row, keys, shape_.dim, scores, CHUNK);
        if (tile == 3) score_block<3>(queries, row, keys, shape_.dim, scores, CHUNK);
        if (tile == 2) score_block<2>(queries, row, keys, shape_.dim, scores, CHUNK);
        if (tile == 1) score_block<1>(queries, row, keys, shape_.dim, scores, CHUNK);
        row += tile;
      }
    }
  }

  // Scores of a row become weights: e^(score - largest so far). `seen` of the chunk's `count` keys are the row's.
  void soften(int row, int seen, int count, Scratch<P>& scratch) const {
    float* scores = &scratch.scores[row * CHUNK];
    P* weights = &scratch.weights[row * CHUNK];
    const int whole = (count + LANES - 1) / LANES * LANES;
    for (int i = std::max(seen, 0); i < whole; i++) scores[i] = NEVER;  // later keys, and slots that hold anything
    Vec most = Vec{} + NEVER;
    for (int i = 0; i < whole; i += LANES) {
      const Vec x = load(scores + i);
      most = x > most ? x : most;
    }
    const float before = scratch.most[row];
    float now = before;
    for (int i = 0; i < LANES; i++) now = std::max(now, most[i]);
    scratch.most[row] = now;
    if (now == NEVER) {
      std::fill_n(weights, whole, P(0));
      scratch.shrink[row] = 1.0f;
      return;
    }
    Vec sum = {};
    for (int i = 0; i < whole; i += LANES) {
      sum += store_weights(exp_negative((load(scores + i) - now) * call_.scale), weights + i);
    }
    float total = 0;
    for (int i = 0; i < LANES; i++) total += sum[i];
    scratch.shrink[row] = std::exp((before - now) * call_.scale);
    scratch.total[row] = scratch.total[row] * scratch.shrink[row] + total;
  }

  void weigh_chunk(const Item& item, int rows, int from, int to, int end, Scratch<P>& scratch) const {
    Values<T> values[CHUNK_BLOCKS];
    int count = 0;
    for (int at = from; at < to; at += BLOCK)
      values[count++] = {block(call_.values, item, at / BLOCK), std::min(BLOCK, to - at)};
    for (int b = to / BLOCK; b < to / BLOCK + PREFETCH_BLOCKS && b * BLOCK < end; b++)
      prefetch(block(call_.keys, item, b), head_size_);
    for (int row = 0; row < rows;) {
      const Weighing<P, T> w{values, count, shape_.dim, &scratch.weights[row * CHUNK], CHUNK, &scratch.shrink[row],
                             &scratch.sums[row * shape_.stride], shape_.stride};
      const int tile = std::min(rows - row, 4);
      if (tile == 4) weigh<4>(w);
      if (tile == 3) weigh<3>(w);
      if (tile == 2) weigh<2>(w);
      if (tile == 1) weigh<1>(w);
      row += tile;
    }
  }

  void finish(const Item& item, int row, const float* sums, float total) const {
    const int token = call_.starts[item.sequence] + item.token + row / shape_.group;
    const int head = item.kv_head * shape_.group + row % shape_.group;
    Q* out = static_cast<Q*>(call_.out) + token * call_.out_stride + size_t(head) * shape_.dim;
    const float factor = 1.0f / total;
    for (int i = 0; i < shape_.dim; i++) from_float(sums[sum_index<P, T>(i)] * factor, out + i);
  }

  // Keeps what this split found, and merges the splits if it is the last of them.
  void keep(const Item& item, int rows, Scratch<P>& scratch) {
    const size_t size = shape_.partial_size(), row_size = shape_.stride + 2;
    float* own = &partials_[(item.first_partial + item.split) * size];
    for (int row = 0; row < rows; row++) {
      own[row * row_size] = scratch.most[row];
      own[row * row_size + 1] = scratch.total[row];
      memcpy(own + row * row_size + 2, &scratch.sums[row * shape_.stride], shape_.stride * sizeof(float));
    }
    if (left_[item.first_partial].fetch_sub(1, std::memory_order_acq_rel) > 1) return;
    const float* first = &partials_[item.first_partial * size];
    for (int row = 0; row < rows; row++) {
      float most = NEVER, total = 0;
      for (int split = 0; split < item.splits; split++) most = std::max(most, first[split * size + row * row_size]);
      float* sums = &scratch.sums[row * shape_.stride];
      std::fill_n(sums, shape_.stride, 0.0f);
      for (int split = 0; split < item.splits; split++) {
        const float* found = first + split * size + row * row_size;
        const float factor = std::exp((found[0] - most) * call_.scale);
        total += found[1] * factor;
        for (int i = 0; i < shape_.stride; i++) sums[i] += found[2 + i] * factor;
      }
      finish(item, row, sums, total);
    }
  }

  const Call& call_;
  const Shape shape_;
  const size_t head_size_;  // elements of one head of one block
  std::vector<Item> items_;
  std::vector<float> partials_;
  std::vector<std::atomic<int>> left_;  // by first_partial: splits that have not ended
  std::atomic<size_t> next_{0};
  std::atomic<bool> failed_{false};
};

Status examine(const Call& call) {
  if (call.kv_heads < 1 || call.heads < 1 || call.heads % call.kv_heads) return BAD_SHAPE;
  if (call.head_dim < BLOCK || call.head_dim > MOST_DIM || call.head_dim % 16) return BAD_SHAPE;
  for (int s = 0; s < call.sequences; s++) {
    const int tokens = call.starts[s + 1] - call.starts[s];
    if (tokens < 0 || call.lengths[s] < tokens) return BAD_LENGTH;
    const int used = (call.lengths[s] + BLOCK - 1) / BLOCK;
    if (used > call.table_width) return BAD_TABLE;
    for (int b = 0; b < used; b++) {
      const int32_t block = call.tables[size_t(s) * call.table_width + b];
      if (block < 0 || block >= call.blocks) return BAD_TABLE;
    }
  }
  return OK;
}

template <class Q, class T>
Status run(const Call& call) {
  Kernel<Q, T> kernel(call);
  kernel.run();
  return kernel.failed() ? NO_MEMORY : OK;
}

}  // namespace

extern "C" __attribute__((visibility("default"))) int skyfog_attention(const Call* call) {
  const Status status = examine(*call);
  if (status != OK) return status;
  try {
    if (call->query_is_bf16) return call->cache_is_bf16 ? run<bf16, bf16>(*call) : run<bf16, float>(*call);
    return call->cache_is_bf16 ? run<float, bf16>(*call) : run<float, float>(*call);
  } catch (const std::bad_alloc&) {
    return NO_MEMORY;
  }
}
