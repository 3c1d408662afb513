#include "models/unet.h"

#include <cmath>

#include "core/error.h"
#include "nn/kernels.h"

namespace emulsion::models {

using nn::Scope;

Tensor sinusoidal_embedding(const Tensor& timesteps, int64_t width, bool flip_sin_to_cos,
                            double freq_shift) {
  const int64_t half = width / 2;
  const auto options = timesteps.options().dtype(at::kFloat);
  const Tensor exponent =
      at::arange(half, options) * (-std::log(10000.0) / (static_cast<double>(half) - freq_shift));
  const Tensor angle = timesteps.to(at::kFloat).unsqueeze(1) * exponent.exp().unsqueeze(0);
  const Tensor sin = angle.sin(), cos = angle.cos();
  Tensor out = flip_sin_to_cos ? at::cat({cos, sin}, 1) : at::cat({sin, cos}, 1);
  return width % 2 == 0 ? out : at::constant_pad_nd(out, {0, 1});
}

// --- blocks --------------------------------------------------------------------------------------

TimestepMlp::TimestepMlp(const Scope& scope, int64_t in, int64_t width)
    : linear_1_(scope / "linear_1", in, width), linear_2_(scope / "linear_2", width, width) {}

Tensor TimestepMlp::operator()(const Tensor& x) const { return linear_2_(at::silu(linear_1_(x))); }

ResnetBlock::ResnetBlock(const Scope& scope, int64_t in, int64_t out, int64_t time_width, int64_t groups,
                         double eps)
    : norm1_(scope / "norm1", groups, in, eps),
      conv1_(scope / "conv1", in, out, 3, 1, 1),
      norm2_(scope / "norm2", groups, out, eps),
      conv2_(scope / "conv2", out, out, 3, 1, 1) {
  if (time_width > 0) time_emb_proj_.emplace(scope / "time_emb_proj", time_width, out);
  if (in != out) conv_shortcut_.emplace(scope / "conv_shortcut", in, out, 1);
}

Tensor ResnetBlock::operator()(const Tensor& x, const Tensor& time) const {
  Tensor h = conv1_(norm1_.then_silu(x));
  if (time_emb_proj_) h = h + (*time_emb_proj_)(time).unsqueeze(-1).unsqueeze(-1);
  h = conv2_(norm2_.then_silu(h));
  return (conv_shortcut_ ? (*conv_shortcut_)(x) : x) + h;
}

Attention::Attention(const Scope& scope, int64_t width, int64_t context_width, int64_t heads)
    : heads_(heads),
      to_q_(scope / "to_q", width, width, false),
      to_k_(scope / "to_k", context_width, width, false),
      to_v_(scope / "to_v", context_width, width, false),
      to_out_(scope / "to_out" / 0, width, width) {}

Tensor Attention::operator()(const Tensor& x, const Tensor& context) const {
  return to_out_(nn::attention(to_q_(x), to_k_(context), to_v_(context), heads_));
}

TransformerBlock::TransformerBlock(const Scope& scope, int64_t width, int64_t context_width, int64_t heads)
    : norm1_(scope / "norm1", width),
      attn1_(scope / "attn1", width, width, heads),
      norm2_(scope / "norm2", width),
      attn2_(scope / "attn2", width, context_width, heads),
      norm3_(scope / "norm3", width),
      ff_in_(scope / "ff" / "net" / 0 / "proj", width, 8 * width),
      ff_out_(scope / "ff" / "net" / 2, 4 * width, width) {}

Tensor TransformerBlock::operator()(const Tensor& x, const Tensor& context) const {
  const Tensor normed = norm1_(x);
  Tensor h = x + attn1_(normed, normed);
  h = h + attn2_(norm2_(h), context);
  return h + ff_out_(nn::kernels::geglu(ff_in_(norm3_(h))));
}

SpatialTransformer::SpatialTransformer(const Scope& scope, const UNetConfig& config, int64_t channels,
                                       int64_t heads, int64_t depth)
    : norm_(scope / "norm", config.norm_num_groups, channels, 1e-6) {
  if (config.use_linear_projection) {
    linear_in_.emplace(scope / "proj_in", channels, channels);
  } else {
    conv_in_.emplace(scope / "proj_in", channels, channels, 1);
  }
  for (int64_t i = 0; i < depth; ++i) {
    blocks_.emplace_back(scope / "transformer_blocks" / i, channels, config.cross_attention_dim, heads);
  }
  if (config.use_linear_projection) {
    linear_out_.emplace(scope / "proj_out", channels, channels);
  } else {
    conv_out_.emplace(scope / "proj_out", channels, channels, 1);
  }
}

Tensor SpatialTransformer::operator()(const Tensor& x, const Tensor& context) const {
  const auto size = x.sizes();
  const auto to_tokens = [](const Tensor& image) {  // [B,C,h,w] -> [B,h*w,C], a view in channels_last
    return image.permute({0, 2, 3, 1}).reshape({image.size(0), -1, image.size(1)});
  };
  const auto to_image = [&](const Tensor& tokens) {
    return tokens.view({size[0], size[2], size[3], size[1]}).permute({0, 3, 1, 2});
  };
  Tensor h = norm_(x);
  h = linear_in_ ? (*linear_in_)(to_tokens(h)) : to_tokens((*conv_in_)(h));
  for (const TransformerBlock& block : blocks_) h = block(h, context);
  h = linear_out_ ? to_image((*linear_out_)(h)) : (*conv_out_)(to_image(h));
  return h + x;
}

// --- the network -----------------------------------------------------------------------------------

UNet::UNet(const Scope& scope, UNetConfig config)
    : config_(std::move(config)),
      time_width_(4 * config_.block_out_channels.front()),
      conv_in_(scope / "conv_in", config_.in_channels, config_.block_out_channels.front(), 3, 1, 1),
      time_embedding_(scope / "time_embedding", config_.block_out_channels.front(), time_width_),
      mid_first_(scope / "mid_block" / "resnets" / 0, config_.block_out_channels.back(),
                 config_.block_out_channels.back(), time_width_, config_.norm_num_groups, config_.norm_eps),
      mid_attention_(scope / "mid_block" / "attentions" / 0, config_, config_.block_out_channels.back(),
                     config_.heads.back(), config_.transformer_layers_per_block.back()),
      mid_second_(scope / "mid_block" / "resnets" / 1, config_.block_out_channels.back(),
                  config_.block_out_channels.back(), time_width_, config_.norm_num_groups,
                  config_.norm_eps),
      conv_norm_out_(scope / "conv_norm_out", config_.norm_num_groups, config_.block_out_channels.front(),
                     config_.norm_eps),
      conv_out_(scope / "conv_out", config_.block_out_channels.front(), config_.out_channels, 3, 1, 1) {
  if (config_.text_time_conditioning) {
    add_embedding_.emplace(scope / "add_embedding", config_.projection_class_embeddings_input_dim,
                           time_width_);
  }
  const size_t levels = config_.block_out_channels.size();
  for (size_t i = 0; i < levels; ++i) {
    const int64_t in = config_.block_out_channels[i == 0 ? 0 : i - 1];
    down_.push_back(down_level(scope / "down_blocks" / static_cast<int64_t>(i), i, in));
  }
  for (size_t i = 0; i < levels; ++i) {
    up_.push_back(up_level(scope / "up_blocks" / static_cast<int64_t>(i), i));
  }
}

UNet::Level UNet::down_level(const Scope& scope, size_t level, int64_t in) const {
  Level made;
  const int64_t out = config_.block_out_channels[level];
  for (int64_t j = 0; j < config_.layers_per_block[level]; ++j) {
    made.resnets.emplace_back(scope / "resnets" / j, j == 0 ? in : out, out, time_width_,
                              config_.norm_num_groups, config_.norm_eps);
    if (config_.down_block_types[level] == "CrossAttnDownBlock2D") {
      made.attentions.emplace_back(scope / "attentions" / j, config_, out, config_.heads[level],
                                   config_.transformer_layers_per_block[level]);
    }
  }
  if (level + 1 < config_.block_out_channels.size()) {
    made.resample.emplace(scope / "downsamplers" / 0 / "conv", out, out, 3, 2, config_.downsample_padding);
  }
  return made;
}

UNet::Level UNet::up_level(const Scope& scope, size_t position) const {
  const size_t levels = config_.block_out_channels.size();
  const size_t level = levels - 1 - position;  // the down level at the same resolution
  const int64_t out = config_.block_out_channels[level];
  const int64_t below = config_.block_out_channels[std::min(level + 1, levels - 1)];
  const int64_t skip_last = config_.block_out_channels[level == 0 ? 0 : level - 1];
  const int64_t count = config_.layers_per_block[level] + 1;
  Level made;
  for (int64_t j = 0; j < count; ++j) {
    const int64_t in = (j == 0 ? below : out) + (j == count - 1 ? skip_last : out);
    made.resnets.emplace_back(scope / "resnets" / j, in, out, time_width_, config_.norm_num_groups,
                              config_.norm_eps);
    if (config_.up_block_types[position] == "CrossAttnUpBlock2D") {
      made.attentions.emplace_back(scope / "attentions" / j, config_, out, config_.heads[level],
                                   config_.transformer_layers_per_block[level]);
    }
  }
  if (level > 0) made.resample.emplace(scope / "upsamplers" / 0 / "conv", out, out, 3, 1, 1);
  return made;
}

/// -> [B, time_width], with the SiLU that every residual block would apply to it.
Tensor UNet::time_embedding(const Tensor& timesteps, const Conditioning& conditioning,
                            at::ScalarType dtype) const {
  const int64_t width = config_.block_out_channels.front();
  Tensor time = time_embedding_(
      sinusoidal_embedding(timesteps, width, config_.flip_sin_to_cos, config_.freq_shift).to(dtype));
  if (add_embedding_) {
    EMULSION_CHECK(conditioning.pooled.defined() && conditioning.size_ids.defined(), shape,
                   "[unet] expected pooled text states and size ids for this model, got none");
    const Tensor sizes = sinusoidal_embedding(conditioning.size_ids.flatten(), config_.addition_time_embed_dim,
                                              config_.flip_sin_to_cos, config_.freq_shift)
                             .reshape({conditioning.size_ids.size(0), -1});
    time = time + (*add_embedding_)(at::cat({conditioning.pooled, sizes.to(dtype)}, -1));
  }
  return at::silu(time);
}

Tensor UNet::forward(const Tensor& x, const Tensor& timesteps, const Conditioning& conditioning) const {
  const Tensor& context = conditioning.context;
  EMULSION_CHECK(x.dim() == 4 && x.size(1) == config_.in_channels, shape,
                 "[unet] expected latents [B, {}, h, w], got [{}]", config_.in_channels,
                 fmt::join(x.sizes(), ", "));
  EMULSION_CHECK(context.defined() && context.dim() == 3 && context.size(0) == x.size(0) &&
                     context.size(2) == config_.cross_attention_dim,
                 shape, "[unet] expected text states [{}, L, {}], got [{}]; is the text encoder of another model?",
                 x.size(0), config_.cross_attention_dim, fmt::join(context.sizes(), ", "));

  const Tensor time = time_embedding(timesteps, conditioning, x.scalar_type());
  Tensor h = conv_in_(x.contiguous(at::MemoryFormat::ChannelsLast));
  std::vector<Tensor> skips = {h};
  for (const Level& level : down_) {
    for (size_t j = 0; j < level.resnets.size(); ++j) {
      h = level.resnets[j](h, time);
      if (!level.attentions.empty()) h = level.attentions[j](h, context);
      skips.push_back(h);
    }
    if (level.resample) {
      h = (*level.resample)(h);
      skips.push_back(h);
    }
  }

  h = mid_second_(mid_attention_(mid_first_(h, time), context), time);

  for (const Level& level : up_) {
    for (size_t j = 0; j < level.resnets.size(); ++j) {
      h = level.resnets[j](at::cat({h, skips.back()}, 1), time);
      skips.pop_back();
      if (!level.attentions.empty()) h = level.attentions[j](h, context);
    }
    if (level.resample) {
      // To the size of the next skip, so that sizes which do not halve evenly come back exactly.
      const auto size = skips.back().sizes();
      h = (*level.resample)(at::upsample_nearest2d(h, {size[2], size[3]}));
    }
  }
  return conv_out_(conv_norm_out_.then_silu(h));
}

}  // namespace emulsion::models
