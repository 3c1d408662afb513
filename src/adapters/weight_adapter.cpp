#include "adapters/weight_adapter.h"

#include <array>
#include <cmath>
#include <limits>

#include "core/error.h"
#include "nn/param_store.h"

namespace emulsion::adapters {
namespace {

// --- what each kind wants ------------------------------------------------------------------------------------------------------

/// A product of two matrices, or of two and a core: core [i, j, kh, kw], a [i, out], b [j, in].
Tensor tucker(const Tensor& core, const Tensor& a, const Tensor& b) { return at::einsum("ijkl,ip,jr->prkl", {core, a, b}); }

Tensor lora_update(const AdapterParts& p, const Tensor& w) {
  const Tensor up = p.need("lora_up.weight").flatten(1), down = p.need("lora_down.weight"), mid = p.find("lora_mid.weight");
  if (mid.defined()) return tucker(mid, up.t(), down.flatten(1));
  return at::mm(up, down.flatten(1)).reshape(w.sizes());
}

Tensor loha_factor(const AdapterParts& p, const Tensor& w, const char* a, const char* b, const char* core) {
  if (p.find(core).defined()) return tucker(p.find(core), p.need(a), p.need(b));
  return at::mm(p.need(a), p.need(b)).reshape(w.sizes());
}

Tensor loha_update(const AdapterParts& p, const Tensor& w) {
  return loha_factor(p, w, "hada_w1_a", "hada_w1_b", "hada_t1") * loha_factor(p, w, "hada_w2_a", "hada_w2_b", "hada_t2");
}

Tensor lokr_update(const AdapterParts& p, const Tensor& w) {
  const Tensor small = p.find("lokr_w1").defined() ? p.find("lokr_w1") : at::mm(p.need("lokr_w1_a"), p.need("lokr_w1_b"));
  Tensor large = p.find("lokr_w2");
  if (!large.defined()) {
    const Tensor &a = p.need("lokr_w2_a"), &b = p.need("lokr_w2_b"), &core = p.find("lokr_t2");
    large = core.defined() ? tucker(core, a, b) : at::mm(a, b);
  }
  const int64_t out = small.size(0) * large.size(0);
  return at::kron(small, large.flatten(1)).reshape({out, -1}).view(w.sizes());  // [out, in kh kw]
}

/// (W a1) a2, whose products are thin, in the place of W (a1 a2).
Tensor glora_update(const AdapterParts& p, const Tensor& w) {
  const Tensor down = at::einsum("oi...,ir->or...", {w, p.need("a1.weight").flatten(1)});
  const Tensor b = at::mm(p.need("b1.weight").flatten(1), p.need("b2.weight").flatten(1));
  return at::einsum("or...,rj->oj...", {down, p.need("a2.weight").flatten(1)}) + b.reshape(w.sizes());
}

Tensor full_update(const AdapterParts& p, const Tensor& w) {
  const Tensor& diff = p.find("diff");
  return diff.defined() ? diff : at::zeros_like(w);
}

Tensor ia3_weight(const AdapterParts& p, const Tensor& w, bool on_input) {
  std::vector<int64_t> shape(w.dim(), 1);
  shape[on_input ? 1 : 0] = w.size(on_input ? 1 : 0);
  return w * (1 + p.need("weight").reshape(shape));
}

Tensor oft_weight(const AdapterParts& p, const Tensor& w, double constraint) {
  const Tensor& blocks = p.need("oft_blocks");
  Tensor q = blocks - blocks.transpose(1, 2);
  if (constraint > 0) {
    const Tensor norm = q.norm() + 1e-8;
    const double largest = constraint * static_cast<double>(w.size(0));
    q = q * at::clamp_max(largest / norm, 1);
  }
  const Tensor eye = at::eye(blocks.size(1), q.options());
  const Tensor r = at::matmul(eye + q, at::linalg_inv(eye - q));
  const Tensor rows = w.reshape({blocks.size(0), blocks.size(1), -1});
  const Tensor turned = at::matmul(r.transpose(1, 2), rows).reshape(w.sizes());
  const Tensor& rescale = p.find("rescale");
  return rescale.defined() ? rescale * turned : turned;
}

/// The direction of w at the length that `magnitude` says, per output [out, 1..] or per input [1, in, 1..].
Tensor with_magnitude(const Tensor& w, const Tensor& magnitude) {
  std::vector<int64_t> others;
  for (int64_t d = 0; d < w.dim(); ++d) {
    if (magnitude.size(d) == 1) others.push_back(d);
  }
  const Tensor norm = w.detach().norm(2, others, /*keepdim=*/true) + std::numeric_limits<float>::epsilon();
  return w * (magnitude / norm);
}

// --- the kinds as data ---------------------------------------------------------------------------------------------------------

struct WeightKind {
  Algorithm algorithm;
  std::vector<const char*> names;                             // its tensors in files
  Tensor (*update)(const AdapterParts&, const Tensor&);       // null: not a sum of W and something
  std::vector<std::pair<const char*, int>> rank;              // the tensor and dimension that say the rank; the first that is there
};

const std::array<WeightKind, 8> kKinds = {{
    {Algorithm::lora, {"lora_up.weight", "lora_down.weight", "lora_mid.weight"}, lora_update, {{"lora_down.weight", 0}}},
    {Algorithm::loha,
     {"hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b", "hada_t1", "hada_t2"},
     loha_update,
     {{"hada_w1_b", 0}}},
    {Algorithm::lokr,
     {"lokr_w1", "lokr_w1_a", "lokr_w1_b", "lokr_w2", "lokr_w2_a", "lokr_w2_b", "lokr_t2"},
     lokr_update,
     {{"lokr_w2_b", 0}, {"lokr_w1_b", 0}}},
    {Algorithm::ia3, {"weight"}, nullptr, {}},
    {Algorithm::oft, {"oft_blocks", "rescale"}, nullptr, {}},
    {Algorithm::glora, {"a1.weight", "a2.weight", "b1.weight", "b2.weight"}, glora_update, {{"b2.weight", 0}}},
    {Algorithm::full, {"diff", "diff_b"}, full_update, {}},
    {Algorithm::norm, {"w_norm", "b_norm"}, [](const AdapterParts& p, const Tensor&) { return p.need("w_norm"); }, {}},
}};

const WeightKind& kind_of(Algorithm algorithm) {
  for (const WeightKind& kind : kKinds) {
    if (kind.algorithm == algorithm) return kind;
  }
  throw Error(ErrorCode::internal, "an algorithm without a row in kKinds");
}

bool has_dora(Algorithm algorithm) {
  return algorithm == Algorithm::lora || algorithm == Algorithm::loha || algorithm == Algorithm::lokr;
}

}  // namespace

const Tensor& AdapterParts::find(std::string_view name) const {
  static const Tensor none;
  for (const auto& [key, value] : tensors_) {
    if (key == name) return value;
  }
  return none;
}

const Tensor& AdapterParts::need(std::string_view name) const {
  const Tensor& found = find(name);
  EMULSION_CHECK(found.defined(), format, "[adapter] the tensor '{}' is missing", name);
  return found;
}

WeightAdapter::WeightAdapter(const nn::Leaf& leaf, Algorithm algorithm, AdapterParts parts, double alpha, bool on_input)
    : Adapter(leaf), algorithm_(algorithm), parts_(std::move(parts)), alpha_(alpha), on_input_(on_input) {
  EMULSION_CHECK(leaf.kind != nn::LeafKind::embedding, unsupported, "[adapter] '{}' is an embedding", leaf.path);
  const Tensor w = at::empty(leaf.weight->shape, at::TensorOptions(at::kMeta).dtype(at::kFloat));
  NamedTensors shapes;
  for (const auto& [name, value] : parts_.all()) shapes.emplace_back(name, value.to(w.options()));
  std::string reason = "another shape comes out";
  bool fits = false;
  try {
    fits = wanted(AdapterParts(shapes), w).sizes() == w.sizes();
    const Tensor& bias = bias_part();
    fits = fits && (leaf.kind == nn::LeafKind::norm) == (algorithm == Algorithm::norm);
    fits = fits && (!bias.defined() || (leaf.bias != nullptr && bias.sizes() == at::IntArrayRef(leaf.bias->shape)));
  } catch (const c10::Error& error) {
    reason = error.what_without_backtrace();
  }
  if (fits) return;
  std::vector<std::string> given;
  for (const auto& [name, value] : parts_.all()) given.push_back(fmt::format("{} [{}]", name, fmt::join(value.sizes(), ", ")));
  throw Error(ErrorCode::shape, fmt::format("[adapter] '{}': expected tensors for a weight [{}], got {} ({}); was it trained on "
                                            "another model?",
                                            leaf.path, fmt::join(w.sizes(), ", "), fmt::join(given, ", "), reason));
}

/// The weight at strength 1, float32.
Tensor WeightAdapter::wanted(const AdapterParts& parts, const Tensor& w) const {
  if (algorithm_ == Algorithm::ia3) return ia3_weight(parts, w, on_input_);
  if (algorithm_ == Algorithm::oft) return oft_weight(parts, w, alpha_);
  const double rank = rank_of(algorithm_, parts);
  const Tensor sum = at::add(w, kind_of(algorithm_).update(parts, w), rank > 0 ? alpha_ / rank : 1.0);
  const Tensor& magnitude = parts.find("dora_scale");
  return magnitude.defined() ? with_magnitude(sum, magnitude) : sum;
}

Tensor WeightAdapter::map_weight(const Tensor& w) const {
  const bool bias_alone = algorithm_ == Algorithm::full && !parts_.find("diff").defined();
  if (strength == 0 || bias_alone) return w;
  const Tensor base = w.to(at::kFloat), all = wanted(parts_, base);
  return (strength == 1 ? all : base + strength * (all - base)).to(w.scalar_type()).contiguous(nn::layout_of(w));
}

const Tensor& WeightAdapter::bias_part() const { return parts_.find(algorithm_ == Algorithm::norm ? "b_norm" : "diff_b"); }

Tensor WeightAdapter::map_bias(const Tensor& b) const {
  const Tensor& change = bias_part();
  if (!change.defined() || strength == 0) return b;
  return (b.to(at::kFloat) + strength * change).to(b.scalar_type());
}

std::vector<Adapter::Part> WeightAdapter::parts() {
  std::vector<Part> all;
  for (auto& [name, tensor] : parts_.all()) all.push_back({name, &tensor});
  return all;
}

NamedTensors WeightAdapter::constants() const {
  if (algorithm_ == Algorithm::full || algorithm_ == Algorithm::norm) return {};
  if (algorithm_ == Algorithm::ia3) return {{"on_input", at::scalar_tensor(on_input_ ? 1 : 0, at::kLong)}};
  return {{"alpha", at::scalar_tensor(alpha_, at::kFloat)}};
}

std::optional<Algorithm> algorithm_of(std::string_view name) {
  for (const WeightKind& kind : kKinds) {
    for (const char* tensor : kind.names) {
      if (name == tensor) return kind.algorithm;
    }
  }
  return std::nullopt;
}

double rank_of(Algorithm algorithm, const AdapterParts& parts) {
  for (const auto& [name, dimension] : kind_of(algorithm).rank) {
    if (parts.find(name).defined()) return static_cast<double>(parts.find(name).size(dimension));
  }
  return 0;
}

std::pair<int64_t, int64_t> factorization(int64_t n, int64_t factor) {
  if (factor > 0 && n % factor == 0) return std::minmax(factor, n / factor);
  const int64_t limit = factor < 0 ? n : factor;
  int64_t small = 1;
  for (int64_t candidate = 2; candidate <= limit && candidate * candidate <= n; ++candidate) {
    if (n % candidate == 0) small = candidate;
  }
  return {small, n / small};
}

void validate(const AdapterConfig& config) {
  EMULSION_CHECK(!config.dora || has_dora(config.algo), config,
                 "[method] dora = true needs algo = \"lora\", \"loha\" or \"lokr\"; switch it off");
  EMULSION_CHECK(!config.tucker || has_dora(config.algo), config,
                 "[method] tucker = true needs algo = \"lora\", \"loha\" or \"lokr\"; switch it off");
  const bool plain = config.algo == Algorithm::lora && !config.dora && !config.tucker;
  EMULSION_CHECK(
      plain || (config.dropout == 0 && config.rank_dropout == 0 && config.module_dropout == 0), config,
      "[method] dropout, rank_dropout and module_dropout are built for algo = \"lora\" without dora and tucker; leave them at 0");
  EMULSION_CHECK(plain || (config.max_norm == 0 && !starts_at_weight(config)), config,
                 "[method] max_norm and init = \"pissa\" or \"olora\" are built for algo = \"lora\" without dora and tucker; leave "
                 "them out");
  EMULSION_CHECK(config.norms.empty() || !starts_at_weight(config), config,
                 "[method] norms: not built along with init = \"pissa\" or \"olora\"; leave them out");
  EMULSION_CHECK(config.algo != Algorithm::norm || !config.norms.empty(), config,
                 "[method] algo = \"norm\" needs norms: name some, like [\"unet.*.norm*\"]");
  EMULSION_CHECK(config.lora_plus == 1 || config.algo == Algorithm::lora, config,
                 "[method] lora_plus needs algo = \"lora\"; leave it at 1");
}

}  // namespace emulsion::adapters
