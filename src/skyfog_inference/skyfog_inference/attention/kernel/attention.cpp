// Attention of one layer over a paged cache, on a CPU. One C function; cpu.py calls it through ctypes.
//
// Keys and values: [blocks, kv_heads, 16, head_dim] of bf16 or fp32. Queries and outputs: [tokens, heads, head_dim],
// both bf16 or both fp32. Everything is accumulated in fp32.
//
// The work is cut into items: a sequence's SPLIT tokens of context, some of its KV heads, up to MOST_TOKENS of its
// queries. A decoding sequence's item has as many heads as read about ITEM_BYTES of a block in one go, since memory is
// fastest where it is read in order. The rows of a head are the queries of its whole group, which share one pass over K
// and V. An item goes through its context in chunks: scores, then a softmax that is corrected as larger scores come
// (online), then the weighted sum; during each of the two passes the lines of the next one are fetched. What the splits
// of one context found is merged by the log-sum-exp by whoever ends last. An item of several queries takes its splits
// one after another: prompts are items enough, and what all splits of a long one find is more than the cache holds.
//
// The cuts depend on the sequence alone, never on the batch or the number of threads: the result of a sequence is the
// same to the bit whatever it is computed beside.

#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>
#include <memory>
#include <new>
#include <type_traits>
#include <vector>

#include "tile.h"

namespace {

constexpr int CHUNK_BLOCKS = 8;
constexpr int CHUNK = CHUNK_BLOCKS * BLOCK;
constexpr int SPLIT = 512;
constexpr int MOST_TOKENS = 8;  // queries of one sequence in an item
constexpr int ITEM_BYTES = 16384;
constexpr int MOST_DIM = 256;
constexpr float UNSHRUNK[] = {1.0f, 1.0f, 1.0f, 1.0f};
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
  int32_t sequence, kv_head, kv_heads, token, tokens, split, splits;
  int32_t left;     // of the counters of splits that have not ended
  size_t partials;  // where the first split's results go, where there are several
  bool whole;       // all splits, one after another
};

struct Shape {
  int group, dim, stride;  // stride: dim padded to whole pairs
  size_t row_size() const { return stride + 2; }  // of what a split found: largest score, sum of weights, weighted sums
};

// A thread's scratch memory.
template <class P>
struct Scratch {
  std::vector<P> packed, weights;  // queries; softened scores
  std::vector<float> scores, sums, most, total, shrink;
  std::vector<float> found;  // by the splits of an item that takes all of them

  void fit(size_t rows, const Shape& shape) {
    if (most.size() >= rows && sums.size() >= rows * shape.stride) return;
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
  // What is multiplied with keys and values.
  using P = std::conditional_t<MULTIPLIES_BF16 && sizeof(Q) == 2 && sizeof(T) == 2, bf16, float>;

  // Tokens whose values are weighed for one head before the next head's. One block: memory is read in order. All of the
  // chunk where values are converted first: computing is the limit then, and the sums stay in registers for longer.
  static constexpr int RUN = sizeof(P) > sizeof(T) ? CHUNK : BLOCK;

  explicit Kernel(const Call& call)
      : call_(call),
        shape_{call.heads / call.kv_heads, call.head_dim, (call.head_dim + PAIR - 1) / PAIR * PAIR},
        head_size_(size_t(BLOCK) * call.head_dim) {}

  void run() {
    plan();
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
    const int heads_at_once = std::max<int>(1, ITEM_BYTES / (head_size_ * sizeof(T)));
    size_t partials = 0;
    int contexts = 0;
    for (int s = 0; s < call_.sequences; s++) {
      const int tokens = call_.starts[s + 1] - call_.starts[s];
      for (int first = 0; first < tokens; first += MOST_TOKENS) {
        const int count = std::min(MOST_TOKENS, tokens - first);
        const int splits = (call_.lengths[s] - tokens + first + count + SPLIT - 1) / SPLIT;
        const int heads_each = count == 1 ? heads_at_once : 1;
        for (int head = 0; head < call_.kv_heads; head += heads_each) {
          const int heads = std::min(heads_each, call_.kv_heads - head);
          if (count > 1) {
            items_.push_back({s, head, heads, first, count, 0, splits, 0, 0, true});
            continue;
          }
          for (int split = 0; split < splits; split++)
            items_.push_back({s, head, heads, first, count, split, splits, contexts, partials, false});
          if (splits == 1) continue;
          contexts++;
          partials += splits * size_t(heads * count * shape_.group) * shape_.row_size();
        }
      }
    }
    partials_.reset(new float[partials]);
    left_ = std::vector<std::atomic<int>>(contexts);
    for (const Item& item : items_)
      if (item.splits > 1 && !item.whole) left_[item.left] = item.splits;
  }

  void work() {
    try {
      thread_local Scratch<P> scratch;
      for (size_t i = next_++; i < items_.size(); i = next_++) {
        if (items_[i].whole) {
          attend_whole(items_[i], scratch);
        } else {
          attend(items_[i], scratch, &partials_[items_[i].partials]);
        }
      }
    } catch (const std::bad_alloc&) {
      failed_ = true;
    }
  }

  const T* block(const void* cache, const Item& item, int index) const {
    const int32_t* table = call_.tables + size_t(item.sequence) * call_.table_width;
    return static_cast<const T*>(cache) + (size_t(table[index]) * call_.kv_heads + item.kv_head) * head_size_;
  }

  void attend_whole(Item item, Scratch<P>& scratch) {
    const size_t size = size_t(item.kv_heads * item.tokens * shape_.group) * shape_.row_size();
    if (item.splits > 1 && scratch.found.size() < item.splits * size) scratch.found.resize(item.splits * size);
    for (; item.split < item.splits; item.split++) attend(item, scratch, scratch.found.data());
  }

  // `first`: where the splits put what they found.
  void attend(const Item& item, Scratch<P>& scratch, float* first) {
    const int head_rows = item.tokens * shape_.group, rows = item.kv_heads * head_rows;
    const int begin = item.split * SPLIT, end = end_of(item), context = before(item);
    scratch.fit(rows, shape_);
    pack(item, rows, scratch);
    std::fill_n(scratch.most.begin(), rows, NEVER);
    std::fill_n(scratch.total.begin(), rows, 0.0f);
    std::fill_n(scratch.sums.begin(), size_t(rows) * shape_.stride, 0.0f);
    for (int from = begin; from < end; from += CHUNK) {
      const int to = std::min(from + CHUNK, end);
      score(item, head_rows, from, to, scratch);
      for (int row = 0; row < rows; row++) {
        const int seen = std::min(to, context + row % head_rows / shape_.group + 1) - from;
        soften(row, seen, to - from, scratch);
      }
      weigh_chunk(item, head_rows, from, to, end, scratch);
    }
    if (item.splits == 1) {
      for (int row = 0; row < rows; row++)
        finish(item, row, &scratch.sums[size_t(row) * shape_.stride], scratch.total[row]);
    } else {
      keep(item, rows, scratch, first);
    }
  }

  // Where a row's query and output are, in elements. Row = (head * tokens + token) * group + which of the group.
  size_t place(const Item& item, int row, int64_t token_stride) const {
    const int head_rows = item.tokens * shape_.group;
    const int head = (item.kv_head + row / head_rows) * shape_.group + row % shape_.group;
    const int token = call_.starts[item.sequence] + item.token + row % head_rows / shape_.group;
    return token * token_stride + size_t(head) * shape_.dim;
  }

  void pack(const Item& item, int rows, Scratch<P>& scratch) const {
    std::fill_n(scratch.packed.begin(), size_t(rows) * shape_.stride, P(0));
    for (int row = 0; row < rows; row++) {
      const Q* from = static_cast<const Q*>(call_.query) + place(item, row, call_.query_stride);
      P* to = &scratch.packed[size_t(row) * shape_.stride];
      if constexpr (sizeof(P) == 2) {
        memcpy(to, from, shape_.dim * sizeof(Q));
      } else {
        for (int i = 0; i < shape_.dim; i++) to[query_index<P, T>(i)] = to_float(from[i]);
      }
    }
  }

  // The blocks of the context from `from` to `to`, at the item's first head; returns how many.
  int blocks(const void* cache, const Item& item, int from, int to, const char** found) const {
    int count = 0;
    for (int at = from; at < to; at += BLOCK)
      found[count++] = reinterpret_cast<const char*>(block(cache, item, at / BLOCK));
    return count;
  }

  Ahead keys_of(const Item& item, int from, int end, const char** found) const {
    const int count = blocks(call_.keys, item, from, std::min(from + CHUNK, end), found);
    return {found, count, item.kv_heads * head_size_ * sizeof(T)};
  }

  // Of the item that this thread is going to take, unless another one is faster.
  Ahead keys_of_next_item(const char** found) const {
    const size_t next = next_.load(std::memory_order_relaxed);
    if (next >= items_.size()) return {found, 0, 0};
    const Item& item = items_[next];
    return keys_of(item, item.split * SPLIT, end_of(item), found);
  }

  // Tokens of the context before the item's first query.
  int before(const Item& item) const {
    const int tokens = call_.starts[item.sequence + 1] - call_.starts[item.sequence];
    return call_.lengths[item.sequence] - tokens + item.token;
  }

  // Where the item's part of the context ends.
  int end_of(const Item& item) const {
    return std::min((item.split + 1) * SPLIT, before(item) + item.tokens);
  }

  void score(const Item& item, int head_rows, int from, int to, Scratch<P>& scratch) const {
    const char* next[CHUNK_BLOCKS];
    Ahead ahead{next, blocks(call_.values, item, from, to, next), item.kv_heads * head_size_ * sizeof(T)};
    for (int at = from; at < to; at += BLOCK) {
      const T* keys = block(call_.keys, item, at / BLOCK);
      for (int head = 0; head < item.kv_heads; head++, keys += head_size_)
        score_head(keys, head * head_rows, head_rows, &scratch.scores[at - from], scratch, ahead);
    }
  }

  void score_head(const T* keys, int first, int rows, float* scores, const Scratch<P>& scratch, Ahead& ahead) const {
    const Queries<P> queries{scratch.packed.data(), shape_.stride};
    for (int row = first; row < first + rows;) {
      const int tile = std::min(first + rows - row, 4);
      if (tile == 4) score_block<4>(queries, row, keys, shape_.dim, scores, CHUNK, ahead);
      if (tile == 3) score_block<3>(queries, row, keys, shape_.dim, scores, CHUNK, ahead);
      if (tile == 2) score_block<2>(queries, row, keys, shape_.dim, scores, CHUNK, ahead);
      if (tile == 1) score_block<1>(queries, row, keys, shape_.dim, scores, CHUNK, ahead);
      row += tile;
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

  void weigh_chunk(const Item& item, int head_rows, int from, int to, int end, Scratch<P>& scratch) const {
    const char* next[CHUNK_BLOCKS];
    const int limit = item.whole ? before(item) + item.tokens : end;  // the next split is this thread's too
    Ahead ahead = to < limit ? keys_of(item, to, limit, next) : keys_of_next_item(next);
    for (int at = from; at < to; at += RUN) {
      for (int head = 0; head < item.kv_heads; head++) {
        Values<T> values[RUN / BLOCK];
        int count = 0;
        for (int b = at; b < std::min(at + RUN, to); b += BLOCK)
          values[count++] = {block(call_.values, item, b / BLOCK) + head * head_size_, std::min(BLOCK, to - b)};
        for (int row = head * head_rows; row < (head + 1) * head_rows;) {
          const Weighing<P, T> w{values, count, shape_.dim, &scratch.weights[row * CHUNK + at - from], CHUNK,
                                 at == from ? &scratch.shrink[row] : UNSHRUNK,
                                 &scratch.sums[size_t(row) * shape_.stride], shape_.stride, ahead};
          const int tile = std::min((head + 1) * head_rows - row, 4);
          if (tile == 4) weigh<4>(w);
          if (tile == 3) weigh<3>(w);
          if (tile == 2) weigh<2>(w);
          if (tile == 1) weigh<1>(w);
          row += tile;
        }
      }
    }
  }

  void finish(const Item& item, int row, const float* sums, float total) const {
    Q* out = static_cast<Q*>(call_.out) + place(item, row, call_.out_stride);
    const float factor = 1.0f / total;
    for (int i = 0; i < shape_.dim; i++) from_float(sums[sum_index<P, T>(i)] * factor, out + i);
  }

  // Keeps what this split found, and merges the splits if it is the last of them.
  void keep(const Item& item, int rows, Scratch<P>& scratch, float* first) {
    const size_t row_size = shape_.row_size(), size = rows * row_size;
    float* own = first + item.split * size;
    for (int row = 0; row < rows; row++) {
      own[row * row_size] = scratch.most[row];
      own[row * row_size + 1] = scratch.total[row];
      memcpy(own + row * row_size + 2, &scratch.sums[size_t(row) * shape_.stride], shape_.stride * sizeof(float));
    }
    const bool last = item.whole ? item.split + 1 == item.splits
                                 : left_[item.left].fetch_sub(1, std::memory_order_acq_rel) == 1;
    if (!last) return;
    for (int row = 0; row < rows; row++) {
      const float* row_first = first + row * row_size;
      float most = NEVER, total = 0;
      for (int split = 0; split < item.splits; split++) most = std::max(most, row_first[split * size]);
      float* sums = &scratch.sums[size_t(row) * shape_.stride];
      std::fill_n(sums, shape_.stride, 0.0f);
      for (int split = 0; split < item.splits; split++) {
        const float* found = row_first + split * size;
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
  std::unique_ptr<float[]> partials_;
  std::vector<std::atomic<int>> left_;
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
