// Between pictures and latents: large pictures in tiles, and results that are no picture done again.
#pragma once

#include <array>
#include <functional>
#include <utility>

#include "core/progress.h"
#include "core/tensor.h"
#include "models/model.h"

namespace emulsion::generate {

/// Whether the autoencoder works on overlapping tiles: far less memory, and slightly another picture.
enum class Tiling {
  automatic,  // above 1536 x 1536 pixels
  on,         // above the size that the autoencoder was made for, as diffusers
  off,
};

constexpr auto enum_names(Tiling) {
  return std::to_array<std::pair<Tiling, const char*>>(
      {{Tiling::automatic, "auto"}, {Tiling::on, "on"}, {Tiling::off, "off"}});
}

/// Whether latents of so many rows and columns are decoded, or encoded to, in tiles.
bool uses_tiles(const models::VaeConfig& config, Tiling tiling, int64_t rows, int64_t columns);

/// Pixels [B, 3, H, W] in [-1, 1], clamped -> uint8 [B, H, W, 3].
Tensor to_bytes(const Tensor& pixels);

/// Latents in the scale of the U-Net -> pixels uint8 [B, H, W, 3], on the CPU.
///
/// What an autoencoder in float16 or bfloat16 decodes to NaN, infinity or a single colour is decoded again in float32, and
/// noted. Throws: Error{numeric} if it is no picture even so.
Tensor decode_latents(const models::Model& model, const Tensor& latents, Tiling tiling = Tiling::automatic,
                      Reporter* reporter = nullptr);

/// Pixels [1, 3, H, W] in [-1, 1], sides divisible by the autoencoder's factor -> latents [B or 1, z, h, w] float32 in the
/// scale of the U-Net: mean + std * eps, or the mean where `eps` [B, z, h, w] is undefined.
Tensor encode_pixels(const models::Model& model, const Tensor& pixels, const Tensor& eps = {},
                     Tiling tiling = Tiling::automatic);

/// Applies `f` [B, C, h, w] -> [B, C', h s, w s] to tiles of `tile` x `tile`, a quarter of which overlaps the next, and
/// blends linearly. s = `scale_up / scale_down` must make whole numbers of `tile` / 4. Source: diffusers' AutoencoderKL.
Tensor in_tiles(const Tensor& x, int64_t tile, int64_t scale_up, int64_t scale_down,
                const std::function<Tensor(const Tensor&)>& f);

}  // namespace emulsion::generate
