// Names of tensors in checkpoints of other software, as data that is made from a model's config and read both ways.
//
// Canonical names are ours, and those of diffusers and transformers (without "text_model."). A foreign name stands without
// the prefix that a file puts before a whole part ("model.diffusion_model."); weights/single_file.h has those.
#pragma once

#include <string>
#include <vector>

#include "core/tensor.h"
#include "models/clip_text.h"
#include "models/unet_config.h"
#include "models/vae.h"

namespace emulsion::weights {

/// How a foreign tensor becomes ours. Each can be undone.
enum class Transform {
  none,
  conv1x1_as_linear,  // foreign [out, in, 1, 1], ours [out, in]; a foreign [out, in] is taken too
  transpose,          // foreign [in, out], ours [out, in]
  rows_1_of_3,        // ours is the first third of the foreign rows: the query of "in_proj_weight"
  rows_2_of_3,
  rows_3_of_3,
};

struct NameRule {
  std::string canonical;  // "down_blocks.0.resnets.0.conv1.weight"
  std::string foreign;    // "input_blocks.1.0.in_layers.2.weight"
  Transform transform = Transform::none;
  std::vector<int64_t> shape;  // of ours

  /// Of the foreign tensor.
  std::vector<int64_t> foreign_shape() const;
};
using NameRules = std::vector<NameRule>;

/// One rule per tensor, in the order in which the model declares them. The layout is that of CompVis' latent-diffusion and
/// Stability's generative-models, known as LDM. Throw: Error{unsupported} for a tensor that the layout has no name for.
NameRules ldm_names(const models::UNetConfig& config);
NameRules ldm_names(const models::VaeConfig& config);

/// The text model of OpenCLIP (open_clip/model.py). Its `text_projection` is used as x @ P and ours as x @ W^T, hence the
/// transpose; `transpose_projection` false reads and writes it as it lies, as kohya's sd-scripts do for SDXL.
NameRules open_clip_names(const models::ClipTextConfig& config, bool transpose_projection = true);

/// transformers' names before 5.6 and in published files: "text_model." before everything but the projection.
NameRules prefixed_clip_names(const models::ClipTextConfig& config);
/// transformers' names since.
NameRules bare_clip_names(const models::ClipTextConfig& config);

/// diffusers' names, and those that it first used for the autoencoder's attention: query, key, value, proj_attn.
NameRules diffusers_names(const models::UNetConfig& config);
NameRules diffusers_names(const models::VaeConfig& config);
NameRules old_diffusers_names(const models::VaeConfig& config);

/// Views `foreign` as ours where that is possible. The shape is the caller's to check.
Tensor to_canonical(const NameRule& rule, const Tensor& foreign);

/// The foreign tensor from ours: one, or with rows_*_of_3 the three in order.
Tensor to_foreign(Transform transform, const std::vector<Tensor>& ours);

}  // namespace emulsion::weights
