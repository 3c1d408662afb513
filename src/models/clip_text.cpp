#include "models/clip_text.h"

#include "core/error.h"
#include "nn/attention.h"
#include "nn/kernels.h"

namespace emulsion::models {

using nn::Scope;

ClipText::Layer::Layer(const Scope& scope, const ClipTextConfig& c)
    : activation_(c.hidden_act),
      heads_(c.num_attention_heads),
      layer_norm1_(scope / "layer_norm1", c.hidden_size, c.layer_norm_eps),
      q_(scope / "self_attn" / "q_proj", c.hidden_size, c.hidden_size),
      k_(scope / "self_attn" / "k_proj", c.hidden_size, c.hidden_size),
      v_(scope / "self_attn" / "v_proj", c.hidden_size, c.hidden_size),
      out_(scope / "self_attn" / "out_proj", c.hidden_size, c.hidden_size),
      layer_norm2_(scope / "layer_norm2", c.hidden_size, c.layer_norm_eps),
      fc1_(scope / "mlp" / "fc1", c.hidden_size, c.intermediate_size),
      fc2_(scope / "mlp" / "fc2", c.intermediate_size, c.hidden_size) {}

Tensor ClipText::Layer::operator()(const Tensor& x) const {
  const Tensor normed = layer_norm1_(x);
  const Tensor h = x + out_(nn::attention(q_(normed), k_(normed), v_(normed), heads_, {.causal = true}));
  const Tensor inner = fc1_(layer_norm2_(h));
  // quick_gelu in OpenAI's release; gelu, exact, in OpenCLIP.
  return h + fc2_(activation_ == Activation::quick_gelu ? nn::kernels::quick_gelu(inner) : at::gelu(inner));
}

ClipText::ClipText(const Scope& scope, ClipTextConfig config)
    : config_(config),
      token_embedding_(scope / "embeddings" / "token_embedding", config.vocab_size, config.hidden_size),
      position_embedding_(scope / "embeddings" / "position_embedding", config.max_position_embeddings,
                          config.hidden_size),
      final_layer_norm_(scope / "final_layer_norm", config.hidden_size, config.layer_norm_eps) {
  for (int64_t i = 0; i < config.num_hidden_layers; ++i) {
    layers_.emplace_back(scope / "encoder" / "layers" / i, config_);
  }
  if (config.with_projection) {
    text_projection_.emplace(scope / "text_projection", config.hidden_size, config.projection_dim, false);
  }
}

TextStates ClipText::forward(const Tensor& ids) const {
  const int64_t length = ids.size(1);
  EMULSION_CHECK(length <= config_.max_position_embeddings, shape,
                 "[text encoder] expected at most {} tokens, got {}; split the prompt into chunks",
                 config_.max_position_embeddings, length);
  const Tensor positions = at::arange(length, ids.options()).unsqueeze(0);
  const Tensor h = token_embedding_(ids) + position_embedding_(positions);
  TextStates states;
  states.hidden.push_back(h);
  for (const Layer& layer : layers_) states.hidden.push_back(layer(states.hidden.back()));
  states.last = final_layer_norm_(states.hidden.back());
  // The first end-of-text token. Models whose config says eos_token_id 2 (an old transformers mistake) mean the largest id
  // of the vocabulary instead; ids beyond it are learned embeddings.
  const Tensor end = config_.eos_token_id == 2 ? ids.masked_fill(ids >= config_.vocab_size, 0).argmax(-1)
                                               : ids.eq(config_.eos_token_id).to(at::kInt).argmax(-1);
  states.pooled = states.last.index({at::arange(ids.size(0), ids.options()), end});
  if (text_projection_) states.pooled = (*text_projection_)(states.pooled);
  return states;
}

}  // namespace emulsion::models
