#include "generate/source.h"

#include <cmath>

#include "core/error.h"
#include "io/image.h"

namespace emulsion::generate {
namespace {

constexpr double kStrength = 0.75;        // as A1111's web UI
constexpr double kMostDistortion = 0.02;  // of the proportions when resizing
constexpr int kDrawn = 128;               // mask values from here on are drawn

std::string size_text(int64_t width, int64_t height) { return fmt::format("{}x{}", width, height); }

/// Sides of the picture's proportions, divisible by `factor`, near the size that was asked for.
std::string fitting_size(int64_t width, double proportion, int64_t factor) {
  const auto rounded = [&](double side) {
    return std::max<int64_t>(1, std::llround(side / static_cast<double>(factor))) * factor;
  };
  return size_text(width, rounded(static_cast<double>(width) / proportion));
}

void check_mask(const Source& source) {
  if (!source.mask.defined()) return;
  EMULSION_CHECK(source.given(), config, "[generate] a mask without a picture; give --init-image too");
  const int64_t width = source.picture.size(1), height = source.picture.size(0);
  EMULSION_CHECK(source.mask.size(0) == height && source.mask.size(1) == width, shape,
                 "[generate] mask: expected {}, the size of the picture, got {}; resize one of them",
                 size_text(width, height), size_text(source.mask.size(1), source.mask.size(0)));
}

Tensor resized(const Tensor& image, int64_t width, int64_t height) {
  return image.size(1) == width && image.size(0) == height ? image : io::resize_image(image, width, height);
}

void fit(Source& source, int64_t& width, int64_t& height, int64_t factor) {
  const int64_t own_width = source.picture.size(1), own_height = source.picture.size(0);
  if (width == 0) width = own_width;
  if (height == 0) height = own_height;
  const double proportion = static_cast<double>(own_width) / static_cast<double>(own_height);
  const double asked = static_cast<double>(width) / static_cast<double>(height);
  EMULSION_CHECK(std::abs(asked / proportion - 1) <= kMostDistortion, shape,
                 "[generate] size {}: expected the proportions of the picture, which is {}; crop the picture first, or ask "
                 "for {}",
                 size_text(width, height), size_text(own_width, own_height), fitting_size(width, proportion, factor));
  source.picture = resized(source.picture, width, height);
  if (source.mask.defined()) source.mask = resized(source.mask.unsqueeze(-1), width, height).squeeze(-1);
}

/// uint8 [H, W, 3] -> [1, 3, H', W'] in [-1, 1]; the sides are made divisible by repeating the last row and column.
Tensor to_pixels(const Tensor& picture, int64_t factor) {
  const Tensor pixels = picture.permute({2, 0, 1}).unsqueeze(0).to(at::kFloat) / 127.5 - 1;
  const int64_t right = latent_size(picture.size(1), factor) * factor - picture.size(1);
  const int64_t bottom = latent_size(picture.size(0), factor) * factor - picture.size(0);
  return right + bottom == 0 ? pixels : at::replication_pad2d(pixels, {0, right, 0, bottom});
}

}  // namespace

void resolve_source(Source& source, int64_t& width, int64_t& height, const models::Model& model) {
  check_mask(source);
  EMULSION_CHECK(source.strength >= 0 && source.strength <= 1, config,
                 "[generate] strength: expected above 0 and up to 1, got {}", source.strength);
  if (!source.given()) {
    EMULSION_CHECK(source.strength == 0, config,
                   "[generate] a strength says how much of a picture is drawn anew, and there is none; give --init-image too");
    return;
  }
  const int64_t factor = model.need_vae("drawing").config().factor();
  fit(source, width, height, factor);
  if (source.strength == 0) source.strength = source.mask.defined() && is_inpainting(model) ? 1 : kStrength;
  EMULSION_CHECK(!source.mask.defined() || latent_mask(source.mask, factor).any().item<bool>(), config,
                 "[generate] the mask leaves nothing to draw: expected white, {} pixels wide or more, where to draw", factor);
}

bool is_inpainting(const models::Model& model) {
  return model.unet->net.config().in_channels == 2 * model.vae->net.config().latent_channels + 1;
}

int64_t latent_size(int64_t pixels, int64_t factor) { return (pixels + factor - 1) / factor; }

Tensor picture_latents(const models::Model& model, const Source& source, const Tensor& eps, Tiling tiling) {
  return encode_pixels(model, to_pixels(source.picture, model.vae->net.config().factor()), eps, tiling);
}

Tensor latent_mask(const Tensor& mask, int64_t factor) {
  const Tensor corners = mask.slice(0, 0, at::nullopt, factor).slice(1, 0, at::nullopt, factor);
  return corners.ge(kDrawn).to(at::kFloat).unsqueeze(0).unsqueeze(0);
}

Tensor inpainting_channels(const models::Model& model, const Source& source, int64_t width, int64_t height,
                           const Tensor& eps) {
  const int64_t factor = model.vae->net.config().factor();
  const int64_t rows = latent_size(height, factor), columns = latent_size(width, factor);
  Tensor mask = at::ones({1, 1, rows, columns}), pixels = at::zeros({1, 3, rows * factor, columns * factor});
  if (source.given() && source.mask.defined()) {
    mask = latent_mask(source.mask, factor);
    const Tensor kept = source.mask.lt(kDrawn).to(at::kByte).unsqueeze(-1);
    // Grey, 0 among [-1, 1], lies between two bytes; so the mask is applied to the pixels.
    pixels = to_pixels(source.picture, factor);
    pixels = pixels * (to_pixels(kept.expand({-1, -1, 3}) * 255, factor) + 1) / 2;
  }
  const Tensor latents = encode_pixels(model, pixels, eps);
  return at::cat({mask.expand({latents.size(0), -1, -1, -1}).to(latents.device()), latents}, 1);
}

Tensor put_back(const Source& source, const Tensor& pictures) {
  if (!source.given()) return pictures;
  const Tensor drawn = pictures.narrow(1, 0, source.picture.size(0)).narrow(2, 0, source.picture.size(1));
  if (!source.mask.defined()) return drawn.contiguous();
  const Tensor share = (source.mask.to(at::kFloat) / 255).unsqueeze(-1);  // [H, W, 1]
  return (share * drawn + (1 - share) * source.picture).round().to(at::kByte);
}

}  // namespace emulsion::generate
