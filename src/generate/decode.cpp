#include "generate/decode.h"

#include "core/error.h"

namespace emulsion::generate {

Tensor to_bytes(const Tensor& pixels) {
  return ((pixels.clamp(-1, 1) + 1) * 127.5).round().to(at::kByte).permute({0, 2, 3, 1}).contiguous();
}

Tensor decode_latents(const models::Model& model, const Tensor& latents) {
  at::NoGradGuard no_grad;
  const models::Vae& vae = model.need_vae("decoding");
  const auto options = model.vae->store.params().front().value.options();
  std::vector<Tensor> pictures;
  for (const Tensor& latent : latents.split(8)) {
    const Tensor pixels = vae.decode(models::unscale_latents(vae.config(), latent).to(options)).to(at::kFloat);
    EMULSION_CHECK(pixels.isfinite().all().item<bool>(), numeric,
                   "[generate] the decoded picture holds NaN or infinity; try --dtype float32");
    pictures.push_back(to_bytes(pixels));
  }
  return at::cat(pictures).cpu();
}

}  // namespace emulsion::generate
