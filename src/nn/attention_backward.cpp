#include <cmath>
#include <limits>

#include "nn/attention_parts.h"

namespace emulsion::nn::tiles {

constexpr int64_t kBackwardKeyBlock = 128;
constexpr int64_t kWantedShares = 16;  // of the work, where fewer heads than that offer themselves

/// How the work is divided: a function of the sizes alone, so that sums have one order on any number of threads.
struct Division {
  int64_t key_block, key_blocks, query_blocks, shares;  // shares: of the key blocks of a head

  explicit Division(const AttentionInputs& in)
      : key_block(std::min(kBackwardKeyBlock, in.keys())),
        key_blocks((in.keys() + key_block - 1) / key_block),
        query_blocks((in.queries() + kQueryBlock - 1) / kQueryBlock) {
    const int64_t heads = in.batch() * in.heads;
    shares = std::clamp<int64_t>((kWantedShares + heads - 1) / heads, 1, std::max<int64_t>(1, in.keys() / 512));
  }
  /// Query gradients of one share of one head, transposed by blocks: [query_blocks][width][kQueryBlock].
  int64_t partial_size(int64_t width) const { return query_blocks * width * kQueryBlock; }
};

namespace {

/// One thread's share of the backward pass. Tiles are transposed (keys are rows), so that what belongs to a query lies along
/// the vectors, and four of the five products read them as they are.
template <class T, class E>
class BackwardWorker {
 public:
  using Real = typename Accumulator<E>::type;

  BackwardWorker(const TileOps<E>& ops, const AttentionInputs& in, const AttentionResult& result, const Tensor& gradient,
                 const Division& division, const AttentionGradients& out, Real* partials)
      : ops_(ops),
        in_(in),
        result_(result),
        gradient_(gradient),
        division_(division),
        out_(out),
        partials_(partials),
        width_(in.width()),
        ld_width_(ops.up_to_lane(width_)),
        columns_size_(ops.packed_size(width_, kQueryBlock)),
        rows_size_(ops.packed_size(kQueryBlock, width_)),
        q_columns_(division.query_blocks * columns_size_),
        d_columns_(division.query_blocks * columns_size_),
        q_rows_(division.query_blocks * rows_size_),
        d_rows_(division.query_blocks * rows_size_),
        per_query_(3 * division.query_blocks * kQueryBlock),
        k_room_(std::max(division.key_block, kQueryBlock) * ops.up_to_depth(width_)),
        v_room_(std::max(division.key_block, kQueryBlock) * ops.up_to_depth(width_)),
        k_transposed_(width_ * ops.up_to_depth(division.key_block)),
        logits_(division.key_block * kQueryBlock),
        products_(division.key_block * kQueryBlock),
        weights_(kSame ? 1 : division.key_block * kQueryBlock),
        change_(kSame ? 1 : division.key_block * kQueryBlock),
        change_packed_(ops.packed_size(division.key_block, kQueryBlock)),
        k_gradient_(division.key_block * ld_width_),
        v_gradient_(division.key_block * ld_width_) {}

  void run(int64_t item, int64_t share) {
    if (item != item_) pack_head(item);
    item_ = item;
    Real* partial = partials_ + (item * division_.shares + share) * division_.partial_size(width_);
    std::fill_n(partial, division_.partial_size(width_), Real(0));
    const int64_t begin = division_.key_blocks * share / division_.shares;
    const int64_t end = division_.key_blocks * (share + 1) / division_.shares;
    for (int64_t i = begin; i < end; ++i) key_block(i * division_.key_block, partial);
  }

 private:
  static constexpr bool kSame = std::is_same_v<E, Real>;

  int64_t rows_of(int64_t block) const { return std::min(kQueryBlock, in_.queries() - block * kQueryBlock); }
  Real* maximum(int64_t block) const { return per_query_ + block * kQueryBlock; }
  Real* log_sum(int64_t block) const { return maximum(block + division_.query_blocks); }
  Real* delta(int64_t block) const { return maximum(block + 2 * division_.query_blocks); }

  void pack_head(int64_t item) {
    const Rows<const T> q = head_of<const T>(in_.q, item, in_.heads), d = head_of<const T>(gradient_, item, in_.heads);
    for (int64_t i = 0; i < division_.query_blocks; ++i) {
      const int64_t query = i * kQueryBlock, count = rows_of(i);
      const Rows<const E> q_rows = operand<T, E>(ops_, q.from(query), count, width_, k_room_.get());
      const Rows<const E> d_rows = operand<T, E>(ops_, d.from(query), count, width_, v_room_.get());
      ops_.pack_transposed(width_, count, q_rows.data, q_rows.ld, q_columns_ + i * columns_size_);
      ops_.pack_transposed(width_, count, d_rows.data, d_rows.ld, d_columns_ + i * columns_size_);
      ops_.pack(count, width_, q_rows.data, q_rows.ld, q_rows_ + i * rows_size_);
      ops_.pack(count, width_, d_rows.data, d_rows.ld, d_rows_ + i * rows_size_);
      gather_statistics(item, i, d.from(query));
    }
  }

  void gather_statistics(int64_t item, int64_t block, Rows<const T> d) {
    const int64_t query = block * kQueryBlock, count = rows_of(block), all = result_.statistics.numel() / 2;
    const Rows<const T> o = head_of<const T>(result_.output, item, in_.heads).from(query);
    const Real* saved = result_.statistics.template const_data_ptr<Real>() + item * in_.queries() + query;
    for (int64_t r = 0; r < count; ++r) {
      Real sum = 0;
      for (int64_t c = 0; c < width_; ++c) sum += static_cast<Real>(d.data[r * d.ld + c]) * static_cast<Real>(o.data[r * o.ld + c]);
      maximum(block)[r] = saved[r];
      log_sum(block)[r] = saved[all + r];
      delta(block)[r] = sum;
    }
    for (int64_t r = count; r < kQueryBlock; ++r) {
      maximum(block)[r] = delta(block)[r] = 0;
      log_sum(block)[r] = std::numeric_limits<Real>::infinity();
    }
  }

  void key_block(int64_t key, Real* partial) {
    const int64_t count = std::min(division_.key_block, in_.keys() - key);
    const Rows<const E> k =
        operand<T, E>(ops_, head_of<const T>(in_.k, item_, in_.heads).from(key), count, width_, k_room_.get());
    const Rows<const E> v =
        operand<T, E>(ops_, head_of<const T>(in_.v, item_, in_.heads).from(key), count, width_, v_room_.get());
    const int64_t depth = ops_.up_to_depth(count);
    for (int64_t c = 0; c < width_; ++c) {
      for (int64_t r = 0; r < depth; ++r) k_transposed_.get()[c * depth + r] = r < count ? k.data[r * k.ld + c] : E(0);
    }
    std::fill_n(k_gradient_.get(), count * ld_width_, Real(0));
    std::fill_n(v_gradient_.get(), count * ld_width_, Real(0));
    const int64_t first = in_.causal ? key / kQueryBlock : 0;
    for (int64_t i = first; i < division_.query_blocks; ++i) tile(k, v, key, count, i, partial + i * width_ * kQueryBlock);
    write(key, count);
  }

  void tile(Rows<const E> k, Rows<const E> v, int64_t key, int64_t count, int64_t block, Real* q_gradient) {
    const int64_t queries = rows_of(block), columns = ops_.up_to_lane(queries), query = block * kQueryBlock;
    ops_.multiply(count, columns, width_, k.data, k.ld, q_columns_ + block * columns_size_, logits_.get(), kQueryBlock, false);
    ops_.multiply(count, columns, width_, v.data, v.ld, d_columns_ + block * columns_size_, products_.get(), kQueryBlock, false);
    Real scale = static_cast<Real>(1 / std::sqrt(static_cast<double>(width_)));
    if (in_.added.defined()) {
      add_mask(in_.added, item_, in_.heads, query, key, true, count, queries, scale, logits_.get(), kQueryBlock);
      scale = 1;
    }
    E *weights = weights_.get(), *change = change_.get();
    if constexpr (kSame) weights = logits_.get(), change = products_.get();
    ops_.gradient({.rows = count,
                   .columns = columns,
                   .logits = logits_.get(),
                   .products = products_.get(),
                   .weights = weights,
                   .gradient = change,
                   .ld = kQueryBlock,
                   .scale = scale,
                   .maximum = maximum(block),
                   .log_sum = log_sum(block),
                   .delta = delta(block),
                   .hidden = in_.causal ? key - query : 0,
                   .step = in_.causal ? 1 : 0});
    ops_.multiply(count, width_, queries, weights, kQueryBlock, d_rows_ + block * rows_size_, v_gradient_.get(), ld_width_, true);
    ops_.multiply(count, width_, queries, change, kQueryBlock, q_rows_ + block * rows_size_, k_gradient_.get(), ld_width_, true);
    ops_.pack(count, columns, change, kQueryBlock, change_packed_.get());
    ops_.multiply(width_, columns, count, k_transposed_.get(), ops_.up_to_depth(count), change_packed_.get(), q_gradient,
                  kQueryBlock, true);
  }

  void write(int64_t key, int64_t count) {
    const Real scale = static_cast<Real>(1 / std::sqrt(static_cast<double>(width_)));
    const Rows<T> k = head_of<T>(out_.k, item_, in_.heads).from(key), v = head_of<T>(out_.v, item_, in_.heads).from(key);
    for (int64_t r = 0; r < count; ++r) {
      write_row(k_gradient_ + r * ld_width_, scale, width_, k.data + r * k.ld);
      write_row(v_gradient_ + r * ld_width_, Real(1), width_, v.data + r * v.ld);
    }
  }

  const TileOps<E>& ops_;
  const AttentionInputs& in_;
  const AttentionResult& result_;
  const Tensor& gradient_;
  const Division& division_;
  const AttentionGradients& out_;
  Real* partials_;
  int64_t width_, ld_width_, columns_size_, rows_size_;
  Scratch<E> q_columns_, d_columns_, q_rows_, d_rows_;  // queries and output gradients of a head as operands
  Scratch<Real> per_query_;                             // maximum, log_sum, delta
  Scratch<E> k_room_, v_room_, k_transposed_;
  Scratch<Real> logits_, products_;
  Scratch<E> weights_, change_, change_packed_;
  Scratch<Real> k_gradient_, v_gradient_;
  int64_t item_ = -1;  // whose queries are packed
};

/// Adds the shares in order, turns the blocks back and scales.
template <class T, class Real>
void write_query_gradient(const AttentionInputs& in, const Division& division, const Real* partials, const Tensor& out) {
  const int64_t width = in.width(), blocks = division.query_blocks;
  const Real scale = static_cast<Real>(1 / std::sqrt(static_cast<double>(width)));
  at::parallel_for(0, in.batch() * in.heads * blocks, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t item = i / blocks, query = i % blocks * kQueryBlock;
      const Rows<T> to = head_of<T>(out, item, in.heads).from(query);
      const Real* from = partials + (item * division.shares * blocks + i % blocks) * width * kQueryBlock;
      for (int64_t r = 0; r < std::min(kQueryBlock, in.queries() - query); ++r) {
        for (int64_t c = 0; c < width; ++c) {
          Real sum = 0;
          for (int64_t s = 0; s < division.shares; ++s) sum += from[s * division.partial_size(width) + c * kQueryBlock + r];
          to.data[r * to.ld + c] = static_cast<T>(sum * scale);
        }
      }
    }
  });
}

}  // namespace

template <class T, class E>
AttentionGradients attention_backward(const TileOps<E>& ops, const AttentionInputs& in, const AttentionResult& result,
                                      const Tensor& gradient) {
  using Real = typename Accumulator<E>::type;
  const AttentionGradients out = {at::empty(in.q.sizes(), in.q.options()), at::empty(in.k.sizes(), in.q.options()),
                                  at::empty(in.v.sizes(), in.q.options())};
  const Division division(in);
  const int64_t heads = in.batch() * in.heads;
  const Scratch<Real> partials(heads * division.shares * division.partial_size(in.width()));
  at::parallel_for(0, heads * division.shares, 1, [&](int64_t begin, int64_t end) {
    BackwardWorker<T, E> worker(ops, in, result, gradient, division, out, partials.get());
    for (int64_t i = begin; i < end; ++i) worker.run(i / division.shares, i % division.shares);
    ops.finish();
  });
  write_query_gradient<T>(in, division, partials.get(), out.q);
  return out;
}

template AttentionGradients attention_backward<float, float>(const TileOps<float>&, const AttentionInputs&,
                                                             const AttentionResult&, const Tensor&);
template AttentionGradients attention_backward<double, double>(const TileOps<double>&, const AttentionInputs&,
                                                               const AttentionResult&, const Tensor&);
template AttentionGradients attention_backward<c10::BFloat16, float>(const TileOps<float>&, const AttentionInputs&,
                                                                     const AttentionResult&, const Tensor&);
template AttentionGradients attention_backward<c10::BFloat16, c10::BFloat16>(const TileOps<c10::BFloat16>&,
                                                                             const AttentionInputs&, const AttentionResult&,
                                                                             const Tensor&);

}  // namespace emulsion::nn::tiles
