// LoRA files by themselves, without the model that they are for: added up, cut to another rank, compared.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "core/tensor.h"

namespace emulsion::weights {

/// The update of one layer: scale * up down, [out, in]; a convolution's `in` is in * kh * kw.
struct LowRankUpdate {
  Tensor up;    // [out, r] float32
  Tensor down;  // [r, in] float32
  double scale = 1;
  std::vector<int64_t> down_shape;  // as the file has it, without its first number: [in] or [in, kh, kw]

  int64_t rank() const { return down.size(0); }
};

struct LoraFile {
  std::map<std::string, LowRankUpdate> layers;  // by the name that the file gives them, without endings
  std::map<std::string, std::string> metadata;
  std::map<std::string, Tensor> words;  // embeddings that go along, by their whole names: "bundle_emb.WORD.clip_l"
  bool peft = false;  // lora_A and lora_B instead of lora_down, lora_up and alpha
};

/// Throws: Error{unsupported} naming the first tensor that belongs to no plain LoRA; Error{format} for half a layer.
LoraFile read_lora(const std::filesystem::path& file);
/// In the naming that it came in. `ss_network_dim` and `ss_network_alpha` follow the layers; hashes are made anew.
void write_lora(const std::filesystem::path& file, const LoraFile& lora, at::ScalarType dtype);

/// Exact singular values of scale * up down, largest first [r] float64, without forming it.
Tensor singular_values(const LowRankUpdate& update);
/// Frobenius norm.
double norm(const LowRankUpdate& update);

/// Which singular values stay: the fewest that satisfy every rule given, and at most `rank` of them.
struct RankRule {
  int64_t rank = 0;       // 0: no limit
  double keep_norm = 0;   // share of the Frobenius norm that stays; kohya's sv_fro
  double keep_sum = 0;    // share of the sum of the singular values; kohya's sv_cumulative
  double ratio = 0;       // none below the largest / ratio; kohya's sv_ratio

  bool by_values() const { return keep_norm > 0 || keep_sum > 0 || ratio > 0; }
  bool any() const { return rank > 0 || by_values(); }
};
/// At least 1. `values` as singular_values gives them. Throws: Error{config} for a rule without any limit.
int64_t kept(const Tensor& values, const RankRule& rule);

/// The nearest update of the rank that the rule gives (Eckart and Young 1936). Keeps the scale.
LowRankUpdate resized(const LowRankUpdate& update, const RankRule& rule);
/// The same for a whole matrix [out, in].
LowRankUpdate low_rank(const Tensor& matrix, const RankRule& rule);

/// weight[0] * updates[0] + ...: exactly, the ranks added. Throws: Error{shape} if they are for layers of different sizes.
LowRankUpdate sum(const std::vector<LowRankUpdate>& updates, const std::vector<double>& weights, const std::string& layer);

/// All layers that any file has, and all words: of one in several files the first's. Throws: Error{format} for files of different naming.
LoraFile sum(const std::vector<LoraFile>& files, const std::vector<double>& weights);

}  // namespace emulsion::weights
