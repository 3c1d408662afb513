#include "models/unet.h"

#include <cmath>

#include "core/error.h"
#include "nn/attention.h"
#include "nn/kernels.h"
#include "nn/recompute.h"

namespace emulsion::models {

using nn::Scope;

namespace {

int64_t depth_of(const Depths& depths, int64_t layer) {
  return depths.size() == 1 ? depths.front() : depths.at(static_cast<size_t>(layer));
}

}  // namespace

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

Conditioning Conditioning::to(const at::TensorOptions& options) const {
  const auto cast = [&](const Tensor& tensor) { return tensor.defined() ? tensor.to(options) : tensor; };
  const auto move = [&](const Tensor& tensor) { return tensor.defined() ? tensor.to(options.device()) : tensor; };
  return {cast(context), cast(pooled), move(size_ids), cast(guidance)};
}

Tensor guidance_embedding(const Tensor& scales, int64_t width) {
  // As sinusoidal_embedding, but with the last frequency reached: exponents 0 .. 1.
  return sinusoidal_embedding(1000.0 * (scales - 1), width, /*flip_sin_to_cos=*/false, /*freq_shift=*/1);
}

// --- blocks --------------------------------------------------------------------------------------

TimestepMlp::TimestepMlp(const Scope& scope, int64_t in, int64_t width, int64_t condition_width)
    : linear_1_(scope / "linear_1", in, width), linear_2_(scope / "linear_2", width, width) {
  if (condition_width > 0) cond_proj_.emplace(scope / "cond_proj", condition_width, in, false);
}

Tensor TimestepMlp::operator()(const Tensor& x, const Tensor& condition) const {
  const bool conditioned = cond_proj_ && condition.defined();
  return linear_2_(at::silu(linear_1_(conditioned ? x + (*cond_proj_)(condition) : x)));
}

ResnetBlock::ResnetBlock(const Scope& scope, int64_t in, int64_t out, const ResnetOptions& options)
    : scale_shift_(options.scale_shift),
      output_scale_(options.output_scale),
      norm1_(scope / "norm1", options.groups, in, options.eps),
      conv1_(scope / "conv1", in, out, 3, 1, 1),
      norm2_(scope / "norm2", options.groups, out, options.eps),
      conv2_(scope / "conv2", out, out, 3, 1, 1) {
  if (options.time_width > 0) {
    time_emb_proj_.emplace(scope / "time_emb_proj", options.time_width, scale_shift_ ? 2 * out : out);
  }
  if (in != out) conv_shortcut_.emplace(scope / "conv_shortcut", in, out, 1);
}

Tensor ResnetBlock::operator()(const Tensor& x, const Tensor& time) const {
  return nn::block([this](const Tensor& input, const Tensor& told) { return forward(input, told); }, x, time);
}

Tensor ResnetBlock::forward(const Tensor& x, const Tensor& time) const {
  Tensor h = conv1_(norm1_.then_silu(x));
  Tensor t;
  if (time_emb_proj_) t = (*time_emb_proj_)(time).unsqueeze(-1).unsqueeze(-1);
  if (t.defined() && scale_shift_) {
    const auto halves = t.chunk(2, 1);
    h = at::silu(norm2_(h) * (1 + halves[0]) + halves[1]);
  } else {
    h = norm2_.then_silu(t.defined() ? h + t : h);
  }
  h = (conv_shortcut_ ? (*conv_shortcut_)(x) : x) + conv2_(h);
  return output_scale_ == 1 ? h : h / output_scale_;
}

Attention::Attention(const Scope& scope, int64_t width, int64_t context_width, int64_t heads, bool upcast)
    : heads_(heads),
      upcast_(upcast),
      to_q_(scope / "to_q", width, width, false),
      to_k_(scope / "to_k", context_width, width, false),
      to_v_(scope / "to_v", context_width, width, false),
      to_out_(scope / "to_out" / 0, width, width) {}

Tensor Attention::operator()(const Tensor& x, const Tensor& context) const {
  const Tensor q = to_q_(x), k = to_k_(context), v = to_v_(context);
  if (!upcast_ || !at::isReducedFloatingType(q.scalar_type())) return to_out_(nn::attention(q, k, v, heads_));
  return to_out_(nn::attention(q.to(at::kFloat), k.to(at::kFloat), v.to(at::kFloat), heads_).to(q.scalar_type()));
}

TransformerBlock::TransformerBlock(const Scope& scope, int64_t width, const TransformerOptions& o)
    : only_cross_attention_(o.only_cross_attention),
      norm1_(scope / "norm1", width),
      attn1_(scope / "attn1", width, o.only_cross_attention ? o.context_width : width, o.heads, o.upcast_attention),
      norm2_(scope / "norm2", width),
      attn2_(scope / "attn2", width, o.context_width, o.heads, o.upcast_attention),
      norm3_(scope / "norm3", width),
      ff_in_(scope / "ff" / "net" / 0 / "proj", width, 8 * width),
      ff_out_(scope / "ff" / "net" / 2, 4 * width, width) {}

Tensor TransformerBlock::operator()(const Tensor& x, const Tensor& context) const {
  return nn::block([this](const Tensor& input, const Tensor& told) { return forward(input, told); }, x, context);
}

Tensor TransformerBlock::forward(const Tensor& x, const Tensor& context) const {
  const Tensor normed = norm1_(x);
  Tensor h = x + attn1_(normed, only_cross_attention_ ? context : normed);
  h = h + attn2_(norm2_(h), context);
  return h + ff_out_(nn::kernels::geglu(ff_in_(norm3_(h))));
}

SpatialTransformer::SpatialTransformer(const Scope& scope, int64_t channels, const TransformerOptions& options,
                                       int64_t depth)
    : norm_(scope / "norm", options.groups, channels, 1e-6) {
  if (options.linear_projection) {
    linear_in_.emplace(scope / "proj_in", channels, channels);
  } else {
    conv_in_.emplace(scope / "proj_in", channels, channels, 1);
  }
  for (int64_t i = 0; i < depth; ++i) {
    blocks_.emplace_back(scope / "transformer_blocks" / i, channels, options);
  }
  if (options.linear_projection) {
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
      time_width_(config_.time_embedding_dim > 0 ? config_.time_embedding_dim : 4 * config_.block_out_channels.front()),
      conv_in_(scope / "conv_in", config_.in_channels, config_.block_out_channels.front(), config_.conv_in_kernel, 1,
               (config_.conv_in_kernel - 1) / 2),
      time_embedding_(scope / "time_embedding", config_.block_out_channels.front(), time_width_,
                      config_.time_cond_proj_dim),
      conv_norm_out_(scope / "conv_norm_out", config_.norm_num_groups, config_.block_out_channels.front(),
                     config_.norm_eps),
      conv_out_(scope / "conv_out", config_.block_out_channels.front(), config_.out_channels, config_.conv_out_kernel, 1,
                (config_.conv_out_kernel - 1) / 2) {
  if (config_.text_time_conditioning) {
    add_embedding_.emplace(scope / "add_embedding", config_.projection_class_embeddings_input_dim,
                           time_width_);
  }
  const size_t levels = config_.block_out_channels.size();
  for (size_t i = 0; i < levels; ++i) {
    const int64_t in = config_.block_out_channels[i == 0 ? 0 : i - 1];
    down_.push_back(down_level(scope / "down_blocks" / static_cast<int64_t>(i), i, in));
  }
  mid_ = middle(scope / "mid_block");
  for (size_t i = 0; i < levels; ++i) {
    up_.push_back(up_level(scope / "up_blocks" / static_cast<int64_t>(i), i));
  }
}

ResnetOptions UNet::resnet_options() const {
  return {.time_width = time_width_,
          .groups = config_.norm_num_groups,
          .eps = config_.norm_eps,
          .scale_shift = config_.scale_shift};
}

TransformerOptions UNet::transformer_options(size_t level) const {
  return {.heads = config_.heads[level],
          .context_width = config_.cross_attention_dim,
          .groups = config_.norm_num_groups,
          .linear_projection = config_.use_linear_projection,
          .only_cross_attention = config_.only_cross_attention[level],
          .upcast_attention = config_.upcast_attention};
}

UNet::Level UNet::middle(const Scope& scope) const {
  Level made;
  if (config_.mid_block_type == MidBlock::none) return made;
  const int64_t width = config_.block_out_channels.back();
  ResnetOptions options = resnet_options();
  options.output_scale = config_.mid_block_scale_factor;
  made.resnets.emplace_back(scope / "resnets" / 0, width, width, options);
  if (config_.mid_block_type == MidBlock::UNetMidBlock2D) return made;
  TransformerOptions transformer = transformer_options(config_.heads.size() - 1);
  transformer.only_cross_attention = false;  // as in diffusers, where this block does not know it
  made.attentions.emplace_back(scope / "attentions" / 0, width, transformer,
                               depth_of(config_.transformer_layers_per_block.back(), 0));
  made.resnets.emplace_back(scope / "resnets" / 1, width, width, options);
  return made;
}

UNet::Level UNet::down_level(const Scope& scope, size_t level, int64_t in) const {
  Level made;
  const int64_t out = config_.block_out_channels[level];
  for (int64_t j = 0; j < config_.layers_per_block[level]; ++j) {
    made.resnets.emplace_back(scope / "resnets" / j, j == 0 ? in : out, out, resnet_options());
    if (config_.down_block_types[level] == "CrossAttnDownBlock2D") {
      made.attentions.emplace_back(scope / "attentions" / j, out, transformer_options(level),
                                   depth_of(config_.transformer_layers_per_block[level], j));
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
  const auto& reversed = config_.reverse_transformer_layers_per_block;
  const Depths& depths = reversed.empty() ? config_.transformer_layers_per_block[level] : reversed[position];
  Level made;
  for (int64_t j = 0; j < count; ++j) {
    const int64_t in = (j == 0 ? below : out) + (j == count - 1 ? skip_last : out);
    made.resnets.emplace_back(scope / "resnets" / j, in, out, resnet_options());
    if (config_.up_block_types[position] == "CrossAttnUpBlock2D") {
      made.attentions.emplace_back(scope / "attentions" / j, out, transformer_options(level), depth_of(depths, j));
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
      sinusoidal_embedding(timesteps, width, config_.flip_sin_to_cos, config_.freq_shift).to(dtype),
      conditioning.guidance);
  if (add_embedding_) {
    const Tensor &pooled = conditioning.pooled, &ids = conditioning.size_ids;
    EMULSION_CHECK(pooled.defined() && ids.defined(), shape,
                   "[unet] expected pooled text states and size ids for this model, got none; is text_encoder_2 missing?");
    EMULSION_CHECK(pooled.dim() == 2 && pooled.size(1) == config_.pooled_dim() && ids.dim() == 2 && ids.size(1) == 6, shape,
                   "[unet] expected pooled text states [B, {}] and size ids [B, 6], got [{}] and [{}]",
                   config_.pooled_dim(), fmt::join(pooled.sizes(), ", "), fmt::join(ids.sizes(), ", "));
    const Tensor sizes = sinusoidal_embedding(conditioning.size_ids.flatten(), config_.addition_time_embed_dim,
                                              config_.flip_sin_to_cos, config_.freq_shift)
                             .reshape({conditioning.size_ids.size(0), -1});
    time = time + (*add_embedding_)(at::cat({pooled.to(dtype), sizes.to(dtype)}, -1));
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
  const Tensor input = config_.center_input_sample ? 2 * x - 1 : x;
  Tensor h = conv_in_(input.contiguous(at::MemoryFormat::ChannelsLast));
  std::vector<Tensor> skips = {h};
  for (const Level& level : down_) {
    for (size_t j = 0; j < level.resnets.size(); ++j) {
      h = level.resnets[j](h, time);
      if (!level.attentions.empty()) h = level.attentions[j](h, context);
      skips.push_back(h);
    }
    if (level.resample) {
      // Without padding: a row and a column at the bottom and right only, as in the autoencoder.
      h = (*level.resample)(config_.downsample_padding == 0 ? at::constant_pad_nd(h, {0, 1, 0, 1}) : h);
      skips.push_back(h);
    }
  }

  for (size_t j = 0; j < mid_.resnets.size(); ++j) {
    if (j > 0) h = mid_.attentions.front()(h, context);
    h = mid_.resnets[j](h, time);
  }

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
