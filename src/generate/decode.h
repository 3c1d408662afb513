// Between pictures and latents.
#pragma once

#include "core/tensor.h"
#include "models/model.h"

namespace emulsion::generate {

/// Pixels [B, 3, H, W] in [-1, 1], clamped -> uint8 [B, H, W, 3].
Tensor to_bytes(const Tensor& pixels);

/// Latents in the scale of the U-Net -> pixels uint8 [B, H, W, 3].
Tensor decode_latents(const models::Model& model, const Tensor& latents);

}  // namespace emulsion::generate
