// CLIP's text encoder (Radford et al. 2021, arXiv:2103.00020), at any config; also OpenCLIP's in the same names.
//
// Names are those of transformers' CLIPTextModel without the leading "text_model.".
#pragma once

#include <string>
#include <vector>

#include "core/tensor.h"
#include "nn/layers.h"

namespace emulsion::models {

enum class Activation { quick_gelu, gelu };

/// Field names are those of transformers' CLIPTextModel config.json.
struct ClipTextConfig {
  int64_t vocab_size = 49408;
  int64_t hidden_size = 768;
  int64_t intermediate_size = 3072;
  int64_t num_hidden_layers = 12;
  int64_t num_attention_heads = 12;
  int64_t max_position_embeddings = 77;
  int64_t projection_dim = 768;
  Activation hidden_act = Activation::quick_gelu;
  double layer_norm_eps = 1e-5;
  int64_t bos_token_id = 49406;
  int64_t eos_token_id = 49407;

  bool operator==(const ClipTextConfig&) const = default;
};

ClipTextConfig clip_text_config_from_json(const std::string& text, const std::string& file);
std::string to_json(const ClipTextConfig& config);

struct TextStates {
  Tensor last;         // [B, L, D], after the final layer norm
  Tensor penultimate;  // [B, L, D], input of the last layer, before any final norm
  Tensor pooled;       // [B, D], `last` at the first end-of-text token
};

class ClipText {
 public:
  ClipText(const nn::Scope& scope, ClipTextConfig config);

  /// ids [B, L] int64, L <= max_position_embeddings.
  TextStates forward(const Tensor& ids) const;

  const ClipTextConfig& config() const { return config_; }

 private:
  class Layer {
   public:
    Layer(const nn::Scope& scope, const ClipTextConfig& config);
    Tensor operator()(const Tensor& x) const;

   private:
    Activation activation_;
    int64_t heads_;
    nn::LayerNorm layer_norm1_;
    nn::Linear q_, k_, v_, out_;
    nn::LayerNorm layer_norm2_;
    nn::Linear fc1_, fc2_;
  };

  ClipTextConfig config_;
  nn::Embedding token_embedding_, position_embedding_;
  std::vector<Layer> layers_;
  nn::LayerNorm final_layer_norm_;
};

}  // namespace emulsion::models
