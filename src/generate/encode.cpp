#include "generate/encode.h"

#include <algorithm>

#include "core/error.h"

namespace emulsion::generate {
namespace {

constexpr int64_t kLargest = 1536 * 1536;  // pixels that are not tiled unasked: about 5 GiB in float32
constexpr int64_t kSmallestTile = 8;       // latents

/// Latents per side of a tile.
int64_t tile_size(const models::VaeConfig& config) {
  return std::max(kSmallestTile, config.sample_size / config.factor() / 4 * 4);
}

Tensor decode(const models::Vae& vae, const Tensor& latents, Tiling tiling) {
  const models::VaeConfig& config = vae.config();
  const auto whole = [&](const Tensor& z) { return vae.decode(z).to(at::kFloat); };
  if (!uses_tiles(config, tiling, latents.size(2), latents.size(3))) return whole(latents);
  return in_tiles(latents, tile_size(config), config.factor(), 1, whole);
}

std::unique_ptr<models::Part<models::Vae>> in_float32(const models::Part<models::Vae>& vae) {
  auto copy = std::make_unique<models::Part<models::Vae>>(vae.net.config());
  auto& params = copy->store.params();
  for (size_t i = 0; i < params.size(); ++i) {
    copy->store.assign(params[i], vae.store.params()[i].value.to(at::kFloat));
  }
  return copy;
}

/// What is wrong with decoded pixels [B, 3, H, W]; nullptr: nothing.
const char* fault(const Tensor& pixels) {
  if (!pixels.isfinite().all().item<bool>()) return "NaN or infinity";
  const Tensor colours = to_bytes(pixels).flatten(1, 2);  // [B, H W, 3]
  return (colours.amax(1) == colours.amin(1)).all(1).any().item<bool>() ? "a single colour" : nullptr;
}

/// b with its first rows (or columns) along `dim` faded in from the last ones of a.
Tensor faded(const Tensor& a, const Tensor& b, int64_t dim, int64_t extent) {
  extent = std::min({extent, a.size(dim), b.size(dim)});
  std::vector<int64_t> shape(4, 1);
  shape[static_cast<size_t>(dim)] = extent;
  const Tensor share = (at::arange(extent, at::kFloat) / extent).view(shape).to(b);
  const Tensor seam = a.narrow(dim, a.size(dim) - extent, extent) * (1 - share) + b.narrow(dim, 0, extent) * share;
  return at::cat({seam, b.narrow(dim, extent, b.size(dim) - extent)}, dim);
}

}  // namespace

bool uses_tiles(const models::VaeConfig& config, Tiling tiling, int64_t rows, int64_t columns) {
  const int64_t tile = tile_size(config), factor = config.factor();
  if (tiling == Tiling::off || std::max(rows, columns) <= tile) return false;
  return tiling == Tiling::on || rows * factor * columns * factor > kLargest;
}

Tensor to_bytes(const Tensor& pixels) {
  return ((pixels.clamp(-1, 1) + 1) * 127.5).round().to(at::kByte).permute({0, 2, 3, 1}).contiguous();
}

Tensor in_tiles(const Tensor& x, int64_t tile, int64_t scale_up, int64_t scale_down,
                const std::function<Tensor(const Tensor&)>& f) {
  const int64_t step = tile - tile / 4, keep = step * scale_up / scale_down;
  const int64_t extent = tile / 4 * scale_up / scale_down;
  const auto cut = [&](int64_t dim, const Tensor& from, int64_t at) {
    return from.narrow(dim, at, std::min(tile, from.size(dim) - at));
  };
  std::vector<Tensor> above, bands;
  for (int64_t y = 0; y < x.size(2); y += step) {
    std::vector<Tensor> row, kept;
    for (int64_t column = 0; column < x.size(3); column += step) {
      Tensor out = f(cut(3, cut(2, x, y), column));
      if (!above.empty()) out = faded(above[row.size()], out, 2, extent);
      if (!row.empty()) out = faded(row.back(), out, 3, extent);
      row.push_back(out);
      kept.push_back(out.narrow(2, 0, std::min(keep, out.size(2))).narrow(3, 0, std::min(keep, out.size(3))));
    }
    bands.push_back(at::cat(kept, 3));
    above = std::move(row);
  }
  return at::cat(bands, 2);
}

Tensor decode_latents(const models::Model& model, const Tensor& latents, Tiling tiling, Reporter* reporter) {
  at::NoGradGuard no_grad;
  const models::Vae& vae = model.need_vae("decoding");
  EMULSION_CHECK(latents.isfinite().all().item<bool>(), numeric,
                 "[generate] the latents hold NaN or infinity; try --dtype float32");
  const auto options = model.vae->store.params().front().value.options();
  const bool is_float32 = options.dtype() == at::kFloat;
  std::unique_ptr<models::Part<models::Vae>> exact;
  std::vector<Tensor> pictures;
  for (const Tensor& latent : latents.split(8)) {
    const Tensor z = models::unscale_latents(vae.config(), latent);
    Tensor pixels = decode(vae, z.to(options), tiling);
    const char* wrong = fault(pixels);
    if (wrong != nullptr && !is_float32) {
      if (reporter != nullptr) {
        reporter->note(fmt::format("The autoencoder made {} in {}; decoding again in float32.", wrong,
                                   c10::toString(options.dtype().toScalarType())));
      }
      if (!exact) exact = in_float32(*model.vae);
      pixels = decode(exact->net, z.to(options.dtype(at::kFloat)), tiling);
      wrong = fault(pixels);
    }
    EMULSION_CHECK(pixels.isfinite().all().item<bool>(), numeric,
                   "[generate] the decoded picture holds NaN or infinity, in float32 too; is the autoencoder damaged?");
    if (wrong != nullptr && reporter != nullptr) {
      reporter->note(fmt::format("The autoencoder made {}.", wrong));
    }
    pictures.push_back(to_bytes(pixels));
  }
  return at::cat(pictures).cpu();
}

Tensor encode_pixels(const models::Model& model, const Tensor& pixels, const Tensor& eps, Tiling tiling) {
  at::NoGradGuard no_grad;
  const models::Vae& vae = model.need_vae("encoding");
  const models::VaeConfig& config = vae.config();
  const Tensor x = pixels.to(model.vae->store.params().front().value.options());
  const auto whole = [&](const Tensor& tile) { return vae.encode(tile).to(at::kFloat); };
  const int64_t factor = config.factor();
  const Tensor moments = uses_tiles(config, tiling, x.size(2) / factor, x.size(3) / factor)
                             ? in_tiles(x, tile_size(config) * factor, 1, factor, whole)
                             : whole(x);
  EMULSION_CHECK(moments.isfinite().all().item<bool>(), numeric,
                 "[generate] the encoded picture holds NaN or infinity; try --dtype float32");
  const models::Posterior posterior(moments);
  return models::scale_latents(config, eps.defined() ? posterior.sample(eps.to(moments.device())) : posterior.mean);
}

}  // namespace emulsion::generate
