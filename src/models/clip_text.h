// CLIP's text encoder (Radford et al. 2021, arXiv:2103.00020), at any config; also OpenCLIP's in the same names.
//
// Names are those of transformers' CLIPTextModel and CLIPTextModelWithProjection without the leading "text_model.".
#pragma once

#include <optional>
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
  bool with_projection = false;  // CLIPTextModelWithProjection: `pooled` goes through text_projection
  Activation hidden_act = Activation::quick_gelu;
  double layer_norm_eps = 1e-5;
  int64_t bos_token_id = 49406;
  int64_t eos_token_id = 49407;

  bool operator==(const ClipTextConfig&) const = default;
};

ClipTextConfig clip_text_config_from_json(const std::string& text, const std::string& file);
std::string to_json(const ClipTextConfig& config);

struct TextStates {
  /// [B, L, D] each, none of them normed: the embeddings, then the output of every layer (transformers' hidden_states).
  /// hidden[size - n] is the state that "clip skip n" means.
  std::vector<Tensor> hidden;
  Tensor last;    // [B, L, D]: the last of `hidden` after the final layer norm
  Tensor pooled;  // [B, D]: `last` at the first end-of-text token; with projection [B, projection_dim]
};

class ClipText {
 public:
  ClipText(const nn::Scope& scope, ClipTextConfig config);

  /// ids [B, L] int64, L <= max_position_embeddings.
  TextStates forward(const Tensor& ids) const;

  /// The final layer norm, for a state of `TextStates::hidden`.
  Tensor final_norm(const Tensor& hidden) const { return final_layer_norm_(hidden); }

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
  std::optional<nn::Linear> text_projection_;
};

}  // namespace emulsion::models
