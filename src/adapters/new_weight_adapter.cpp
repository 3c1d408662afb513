// Fresh adapters that change a weight: names, shapes and first values of their tensors.
#include "adapters/weight_adapter.h"
#include "core/error.h"
#include "nn/init.h"
#include "nn/param_store.h"

namespace emulsion::adapters {
namespace {

using nn::InitKind;

/// Draws the tensors of a fresh adapter: names, shapes and how they start, as LyCORIS starts them.
class Fresh {
 public:
  Fresh(const AdapterConfig& config, Algorithm algorithm, const nn::Leaf& leaf, int64_t rank, const std::string& name, const Rng& rng)
      : config_(config), algorithm_(algorithm), shape_(leaf.weight->shape), rank_(rank), name_(name), rng_(rng) {
    out_ = shape_[0];
    in_ = shape_.size() > 1 ? shape_[1] : 1;
    for (size_t d = 2; d < shape_.size(); ++d) kernel_ *= shape_[d];
    tucker_ = config.tucker && kernel_ > 1;
  }

  AdapterParts made(const nn::Leaf& leaf) {
    switch (algorithm_) {
      case Algorithm::lora: lora(); break;
      case Algorithm::loha: loha(); break;
      case Algorithm::lokr: lokr(); break;
      case Algorithm::ia3: ia3(); break;
      case Algorithm::oft: oft(); break;
      case Algorithm::glora: glora(); break;
      case Algorithm::full: full(leaf); break;
      case Algorithm::bias: bias(leaf); break;
      case Algorithm::norm: norm(); break;
    }
    if (config_.dora && algorithm_ != Algorithm::norm) {
      std::vector<int64_t> others;
      for (size_t d = 1; d < shape_.size(); ++d) others.push_back(static_cast<int64_t>(d));
      tensors_.emplace_back("dora_scale", leaf.weight->value.detach().to(at::kFloat).norm(2, others, true).contiguous());
    }
    return AdapterParts(std::move(tensors_));
  }

 private:
  void add(const char* part, InitKind kind, double gain, std::vector<int64_t> shape) {
    tensors_.emplace_back(part, nn::draw(kind, gain, shape, rng_, name_ + "." + part));
  }
  void random(const char* part, std::vector<int64_t> shape) { add(part, InitKind::uniform_fan_in, 1, std::move(shape)); }
  void zeros(const char* part, std::vector<int64_t> shape) { add(part, InitKind::zeros, 1, std::move(shape)); }

  std::vector<int64_t> core() const { return {rank_, rank_, shape_[2], shape_[3]}; }
  /// `first` and `second` with as many ones as the weight's kernel has dimensions.
  std::vector<int64_t> pointwise(int64_t first, int64_t second) const {
    std::vector<int64_t> result(shape_.size(), 1);
    result[0] = first;
    result[1] = second;
    return result;
  }

  void lora() {
    std::vector<int64_t> down = tucker_ ? pointwise(rank_, in_) : shape_;
    down[0] = rank_;
    if (config_.init == LoraInit::kaiming) random("lora_down.weight", down);
    else add("lora_down.weight", InitKind::normal, 1.0 / static_cast<double>(rank_), down);
    zeros("lora_up.weight", pointwise(out_, rank_));
    if (tucker_) random("lora_mid.weight", core());
  }

  void loha() {
    const auto wide = tucker_ ? std::vector<int64_t>{rank_, in_} : std::vector<int64_t>{rank_, in_ * kernel_};
    const auto tall = tucker_ ? std::vector<int64_t>{rank_, out_} : std::vector<int64_t>{out_, rank_};
    add("hada_w1_a", InitKind::normal, 0.1, tall);
    add("hada_w1_b", InitKind::normal, 1, wide);
    zeros("hada_w2_a", tall);
    add("hada_w2_b", InitKind::normal, 1, wide);
    if (!tucker_) return;
    add("hada_t1", InitKind::normal, 0.1, core());
    add("hada_t2", InitKind::normal, 0.1, core());
  }

  void lokr() {
    const auto [out_small, out_large] = factorization(out_, config_.factor);
    const auto [in_small, in_large] = factorization(in_, config_.factor);
    const auto low = [&](int64_t a, int64_t b) { return !config_.full_matrix && 2 * rank_ < std::max(a, b); };
    if (config_.decompose_both && low(out_small, in_small)) {
      random("lokr_w1_a", {out_small, rank_});
      random("lokr_w1_b", {rank_, in_small});
    } else {
      random("lokr_w1", {out_small, in_small});
    }
    std::vector<int64_t> whole = shape_;
    whole[0] = out_large;
    whole[1] = in_large;
    if (!low(out_large, in_large)) return zeros("lokr_w2", whole);
    if (tucker_) {
      random("lokr_t2", core());
      random("lokr_w2_a", {rank_, out_large});
      return zeros("lokr_w2_b", {rank_, in_large});
    }
    random("lokr_w2_a", {out_large, rank_});
    zeros("lokr_w2_b", {rank_, in_large * kernel_});
  }

  void ia3() {
    const int64_t count = config_.on_input ? in_ : out_;
    std::vector<int64_t> shape(shape_.size(), 1);
    shape[1] = count;
    zeros("weight", shape_.size() == 2 ? std::vector<int64_t>{count} : shape);
  }

  void oft() {
    const auto [block, count] = factorization(out_, rank_);
    zeros("oft_blocks", {count, block, block});
    if (config_.rescale) add("rescale", InitKind::ones, 1, pointwise(out_, 1));
  }

  void glora() {
    random("a1.weight", pointwise(in_, rank_));
    zeros("a2.weight", pointwise(rank_, in_));
    zeros("b1.weight", pointwise(out_, rank_));
    std::vector<int64_t> down = shape_;
    down[0] = rank_;
    random("b2.weight", down);
  }

  void full(const nn::Leaf& leaf) {
    zeros("diff", shape_);
    if (leaf.bias != nullptr) zeros("diff_b", leaf.bias->shape);
  }

  void bias(const nn::Leaf& leaf) {
    EMULSION_CHECK(leaf.bias != nullptr, unsupported,
                   "[method] algo = \"bias\": '{}' has no bias; exclude it: add \"!{}\" to method.targets", name_, name_);
    zeros("diff_b", leaf.bias->shape);
  }

  void norm() {
    zeros("w_norm", shape_);
    zeros("b_norm", shape_);
  }

  const AdapterConfig& config_;
  const Algorithm algorithm_;
  const std::vector<int64_t> shape_;
  int64_t rank_, out_ = 0, in_ = 0, kernel_ = 1;
  bool tucker_ = false;
  std::string name_;
  const Rng& rng_;
  NamedTensors tensors_;
};

}  // namespace

std::unique_ptr<WeightAdapter> new_weight_adapter(const AdapterConfig& config, const nn::Leaf& leaf, int64_t rank, double alpha,
                                                  const std::string& name, const Rng& rng) {
  const Algorithm algorithm = leaf.kind == nn::LeafKind::norm ? Algorithm::norm : config.algo;
  AdapterParts parts = Fresh(config, algorithm, leaf, rank, name, rng).made(leaf);
  const double stored = algorithm == Algorithm::oft ? config.constraint : alpha;
  const Algorithm kind = algorithm == Algorithm::bias ? Algorithm::full : algorithm;
  return std::make_unique<WeightAdapter>(leaf, kind, std::move(parts), stored, config.on_input);
}

}  // namespace emulsion::adapters
