#include <c10/core/CPUAllocator.h>

#include <cmath>
#include <limits>

#include "nn/attention_parts.h"

namespace emulsion::nn::tiles {

c10::DataPtr allocate_scratch(size_t bytes) { return c10::GetCPUAllocator()->allocate(bytes); }

namespace {

constexpr int64_t kForwardKeyBlock = 256;

/// One thread's share of the forward pass: blocks of queries, head by head.
template <class T, class E>
class ForwardWorker {
 public:
  using Real = typename Accumulator<E>::type;

  ForwardWorker(const TileOps<E>& ops, const AttentionInputs& in, const AttentionResult& out)
      : ops_(ops),
        in_(in),
        out_(out),
        width_(in.width()),
        key_block_(std::min(kForwardKeyBlock, in.keys())),
        query_block_(std::min(kQueryBlock, in.queries())),
        blocks_((in.keys() + key_block_ - 1) / key_block_),
        ld_(ops.up_to_lane(key_block_)),
        ld_output_(ops.up_to_lane(width_)),
        packed_keys_(blocks_ * ops.packed_size(width_, key_block_)),
        packed_values_(blocks_ * ops.packed_size(key_block_, width_)),
        room_(std::max(key_block_, query_block_) * ops.up_to_depth(width_)),
        logits_(query_block_ * ld_),
        weights_(std::is_same_v<E, Real> ? 1 : query_block_ * ld_),
        output_(query_block_ * ld_output_),
        maximum_(query_block_),
        sum_(query_block_) {}

  void run(int64_t item, int64_t block) {
    if (item != item_) pack_head(item);
    item_ = item;
    const int64_t query = block * query_block_, rows = std::min(query_block_, in_.queries() - query);
    const Rows<const E> q =
        operand<T, E>(ops_, head_of<const T>(in_.q, item, in_.heads).from(query), rows, width_, room_.get());
    std::fill_n(maximum_.get(), rows, -std::numeric_limits<Real>::infinity());
    std::fill_n(sum_.get(), rows, Real(0));
    const int64_t visible = in_.causal ? std::min(in_.keys(), query + rows) : in_.keys();
    for (int64_t i = 0; i * key_block_ < visible; ++i) key_block(q, rows, query, i);
    write(query, rows);
  }

 private:
  void pack_head(int64_t item) {
    const Rows<const T> k = head_of<const T>(in_.k, item, in_.heads), v = head_of<const T>(in_.v, item, in_.heads);
    for (int64_t i = 0; i < blocks_; ++i) {
      const int64_t key = i * key_block_, count = std::min(key_block_, in_.keys() - key);
      Rows<const E> rows = operand<T, E>(ops_, k.from(key), count, width_, room_.get());
      ops_.pack_transposed(width_, count, rows.data, rows.ld, packed_keys_ + i * ops_.packed_size(width_, key_block_));
      rows = operand<T, E>(ops_, v.from(key), count, width_, room_.get());
      ops_.pack(count, width_, rows.data, rows.ld, packed_values_ + i * ops_.packed_size(key_block_, width_));
    }
  }

  void key_block(Rows<const E> q, int64_t rows, int64_t query, int64_t i) {
    const int64_t key = i * key_block_, count = std::min(key_block_, in_.keys() - key);
    ops_.multiply(rows, count, width_, q.data, q.ld, packed_keys_ + i * ops_.packed_size(width_, key_block_), logits_.get(), ld_,
                  false);
    Real scale = static_cast<Real>(1 / std::sqrt(static_cast<double>(width_)));
    if (in_.added.defined()) {
      add_mask(in_.added, item_, in_.heads, query, key, false, rows, count, scale, logits_.get(), ld_);
      scale = 1;
    }
    E* weights = weights_.get();
    if constexpr (std::is_same_v<E, Real>) weights = logits_.get();
    ops_.softmax({.rows = rows,
                  .columns = count,
                  .logits = logits_.get(),
                  .weights = weights,
                  .ld = ld_,
                  .scale = scale,
                  .visible = in_.causal ? query + 1 - key : count,
                  .step = in_.causal ? 1 : 0,
                  .maximum = maximum_.get(),
                  .sum = sum_.get(),
                  .output = output_.get(),
                  .width = i == 0 ? 0 : width_,
                  .ld_output = ld_output_});
    ops_.multiply(rows, width_, count, weights, ld_, packed_values_ + i * ops_.packed_size(key_block_, width_), output_.get(),
                  ld_output_, i > 0);
  }

  void write(int64_t query, int64_t rows) {
    const Rows<T> to = head_of<T>(out_.output, item_, in_.heads).from(query);
    const int64_t offset = item_ * in_.queries() + query, all = out_.statistics.numel() / 2;
    Real* maximum = out_.statistics.mutable_data_ptr<Real>() + offset;
    for (int64_t r = 0; r < rows; ++r) {
      const bool blind = sum_.get()[r] == 0;  // no key was visible
      const Real factor = blind ? 0 : 1 / sum_.get()[r];
      write_row(output_ + r * ld_output_, factor, width_, to.data + r * to.ld);
      maximum[r] = blind ? 0 : maximum_.get()[r];
      maximum[all + r] = blind ? std::numeric_limits<Real>::infinity() : std::log(sum_.get()[r]);
    }
  }

  const TileOps<E>& ops_;
  const AttentionInputs& in_;
  const AttentionResult& out_;
  int64_t width_, key_block_, query_block_, blocks_, ld_, ld_output_;
  Scratch<E> packed_keys_, packed_values_, room_;
  Scratch<Real> logits_;
  Scratch<E> weights_;
  Scratch<Real> output_, maximum_, sum_;
  int64_t item_ = -1;  // whose keys and values are packed
};

}  // namespace

template <class T, class E>
AttentionResult attention_forward(const TileOps<E>& ops, const AttentionInputs& in) {
  using Real = typename Accumulator<E>::type;
  const auto options = in.q.options();
  const AttentionResult result = {
      at::empty(in.q.sizes(), options),
      at::empty({2, in.batch(), in.heads, in.queries()}, options.dtype(c10::CppTypeToScalarType<Real>::value))};
  const int64_t blocks = (in.queries() + kQueryBlock - 1) / kQueryBlock;
  at::parallel_for(0, in.batch() * in.heads * blocks, 1, [&](int64_t begin, int64_t end) {
    ForwardWorker<T, E> worker(ops, in, result);
    for (int64_t i = begin; i < end; ++i) worker.run(i / blocks, i % blocks);
    ops.finish();
  });
  return result;
}

template AttentionResult attention_forward<float, float>(const TileOps<float>&, const AttentionInputs&);
template AttentionResult attention_forward<double, double>(const TileOps<double>&, const AttentionInputs&);
template AttentionResult attention_forward<c10::BFloat16, float>(const TileOps<float>&, const AttentionInputs&);
template AttentionResult attention_forward<c10::BFloat16, c10::BFloat16>(const TileOps<c10::BFloat16>&, const AttentionInputs&);

}  // namespace emulsion::nn::tiles
