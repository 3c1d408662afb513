"""Makes vae_<variant>.safetensors: moments, latents, pictures, loss and every gradient of tiny diffusers VAEs."""

import torch
import torch.nn.functional as F
from golden_file import config_text, grads, normal, params, randomise, save, seeded

from diffusers import AutoencoderKL

VARIANTS = {
    "sd": (dict(block_out_channels=(8, 12, 16), layers_per_block=1, norm_num_groups=4), 201),
    "noattn": (
        dict(block_out_channels=(8, 8, 12), layers_per_block=2, norm_num_groups=4, mid_block_add_attention=False),
        202,
    ),
}
KL_WEIGHT = 1e-6


def make(name, config, seed):
    blocks = len(config["block_out_channels"])
    vae = randomise(
        AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * blocks,
            up_block_types=("UpDecoderBlock2D",) * blocks,
            latent_channels=4,
            sample_size=16,
            **config,
        ),
        seed,
    ).train()
    generator = seeded(seed + 1000)
    pixels = (torch.rand((2, 3, 16, 16), generator=generator) * 2 - 1).requires_grad_()
    side = 16 // 2 ** (blocks - 1)
    eps = normal((2, 4, side, side), generator)

    distribution = vae.encode(pixels).latent_dist
    mean, logvar = distribution.mean, distribution.logvar
    latent = mean + distribution.std * eps
    decoded = vae.decode(latent).sample
    kl = distribution.kl().mean()
    by_hand = 0.5 * (mean**2 + logvar.exp() - 1 - logvar).sum(dim=(1, 2, 3)).mean()
    torch.testing.assert_close(kl, by_hand)
    loss = F.mse_loss(decoded, pixels) + KL_WEIGHT * kl
    loss.backward()
    tensors = params(vae) | {
        "input.pixels": pixels,
        "input.eps": eps,
        "output.moments": distribution.parameters,
        "output.latent": latent,
        "output.decoded": decoded,
        "kl": kl,
        "loss": loss,
        "grad.input.pixels": pixels.grad,
    }
    save(
        f"vae_{name}", tensors | grads(vae), ["diffusers"], config_text(vae),
        zero_by_symmetry=("to_k.bias",) if config.get("mid_block_add_attention", True) else (),
        loss="mean((decoded - pixels)^2) + 1e-6 * kl; kl = mean over the batch of "
        "0.5 * sum(mean^2 + var - 1 - logvar); latent = mean + std * eps, not scaled",
    )  # fmt: skip


if __name__ == "__main__":
    for name, (config, seed) in VARIANTS.items():
        make(name, config, seed)
