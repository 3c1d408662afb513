// Which adapters to train: the fields of a run file's [method].
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace emulsion::adapters {

enum class Algorithm { lora, loha, lokr, ia3, oft, glora, full, bias, norm };
constexpr auto enum_names(Algorithm) {
  return std::to_array<std::pair<Algorithm, const char*>>({{Algorithm::lora, "lora"},
                                                           {Algorithm::loha, "loha"},
                                                           {Algorithm::lokr, "lokr"},
                                                           {Algorithm::ia3, "ia3"},
                                                           {Algorithm::oft, "oft"},
                                                           {Algorithm::glora, "glora"},
                                                           {Algorithm::full, "full"},
                                                           {Algorithm::bias, "bias"},
                                                           {Algorithm::norm, "norm"}});
}

enum class LoraInit { kaiming, gaussian, pissa, olora };
constexpr auto enum_names(LoraInit) {
  return std::to_array<std::pair<LoraInit, const char*>>({{LoraInit::kaiming, "kaiming"},
                                                          {LoraInit::gaussian, "gaussian"},
                                                          {LoraInit::pissa, "pissa"},
                                                          {LoraInit::olora, "olora"}});
}

/// Other settings for some layers.
struct LayerRule {
  std::string pattern = {};
  int64_t rank = 0;
  double alpha = 0;
  double lr = 1;
  int64_t from = 0;
  int64_t until = 0;
  template <class V>
  void fields(V& v) {
    v("pattern", pattern,
      "Which of the targets: a glob pattern like unet.mid_block.*, or a block's name: IN00 to IN11, M00, OUT00 to OUT11 (SDXL: "
      "to IN08 and OUT08).")
        .required();
    v("rank", rank, "Their rank; 0: that of all.").min(0).max(1024);
    v("alpha", alpha, "Their alpha; 0: that of all.").min(0);
    v("lr", lr, "Times the learning rate.").min(0);
    v("from", from, "They train from this step on.").min(0).unit("steps");
    v("until", until, "And stop at this one; 0: at the end.").min(0).unit("steps");
  }
};

struct AdapterConfig {
  Algorithm algo = Algorithm::lora;
  int64_t rank = 16;
  double alpha = 16;
  int64_t conv_rank = 0;
  double conv_alpha = 0;
  bool rank_stabilised = false;
  LoraInit init = LoraInit::kaiming;
  bool dora = false;
  bool tucker = false;
  int64_t factor = -1;
  bool decompose_both = false;
  bool full_matrix = false;
  bool on_input = false;
  double constraint = 0;
  bool rescale = false;
  double lora_plus = 1;
  double dropout = 0;
  double rank_dropout = 0;
  double module_dropout = 0;
  double max_norm = 0;
  std::vector<std::string> targets = {"unet.*.attn*.to_*"};
  std::vector<std::string> norms = {};
  std::vector<LayerRule> layers = {};

  template <class V>
  void fields(V& v) {
    v("algo", algo,
      "How the weights change. lora: up down. loha: product of two low-rank matrices, number by number. lokr: Kronecker product. "
      "ia3: a factor per channel. oft: a rotation of the outputs. glora: W a1 a2 + b1 b2. full: every number. "
      "bias: the biases alone. norm: the norms that `norms` names, and nothing else.");
    v("rank", rank, "Rank of the update of linear layers and 1x1 convolutions; oft: size of a block.").min(1).max(1024);
    v("alpha", alpha, "Numerator of the scale: scale = alpha / rank. Not for ia3, oft and full.").above(0);
    v("conv_rank", conv_rank, "Rank of the update of larger convolutions; 0: that of `rank`.").min(0).max(1024);
    v("conv_alpha", conv_alpha, "Alpha of larger convolutions; 0: that of `alpha`.").min(0);
    v("rank_stabilised", rank_stabilised, "scale = alpha / sqrt(rank) instead (rsLoRA, arXiv:2312.03732).");
    v("init", init,
      "How lora's `down` starts: kaiming is U(-1/sqrt(fan_in), 1/sqrt(fan_in)), gaussian "
      "N(0, 1/rank^2); `up` starts at zero. pissa (arXiv:2404.02948) and olora (arXiv:2406.01775) start both at the weight's "
      "strongest part, which leaves the weight; the file then has twice the rank and fits the model as it was.");
    v("dora", dora, "lora, loha, lokr: length and direction of each output's weights train apart (DoRA, arXiv:2402.09353).");
    v("tucker", tucker, "lora, loha, lokr on larger convolutions: a Tucker decomposition, which has fewer numbers.");
    v("factor", factor, "lokr: size of the small factor where it divides; -1: as near to square as the layer allows.").min(-1);
    v("decompose_both", decompose_both, "lokr: the small factor has low rank, too.");
    v("full_matrix", full_matrix, "lokr: neither factor has low rank.");
    v("on_input", on_input, "ia3: a factor per input instead of per output.");
    v("constraint", constraint, "oft: largest norm of the rotation, times the number of outputs; 0: none.").min(0);
    v("rescale", rescale, "oft: a factor per output besides.");
    v("lora_plus", lora_plus, "lora: learning rate of `up` as a multiple of `down`'s; about 16 (LoRA+, arXiv:2402.12354).")
        .above(0);
    v("dropout", dropout, "lora: each number between `down` and `up` is 0 with this probability.").min(0).below(1);
    v("rank_dropout", rank_dropout, "lora: each rank of a sample is 0 with this probability.").min(0).below(1);
    v("module_dropout", module_dropout, "lora: a layer goes without its adapter for a step with this probability.").min(0).below(1);
    v("max_norm", max_norm, "lora: after each step, a layer's update is scaled down to this norm at most; 0: never. 1 is usual.")
        .min(0);
    v("targets", targets, "Glob patterns over layer paths like unet.mid_block.attentions.0.proj_in; a leading '!' excludes.");
    v("norms", norms, "Glob patterns over norms like unet.*.norm*: their weights and biases train, too, in full.");
    v("layers", layers, "Other ranks, alphas and learning rates for some of them; of several rules that fit the last counts.");
  }
};

/// Whether the adapters start at a part of the weight, which leaves the weight.
inline bool starts_at_weight(const AdapterConfig& config) {
  return config.init == LoraInit::pissa || config.init == LoraInit::olora;
}

/// Rules across fields. Throws Error{config} naming them.
void validate(const AdapterConfig& config);

}  // namespace emulsion::adapters
