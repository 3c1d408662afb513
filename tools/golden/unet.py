"""Makes unet_<variant>.safetensors: outputs, loss and every gradient of tiny diffusers U-Nets.

Computed in float64 on float32 weights and inputs and rounded once at the end, so that a float32 implementation is
compared with the exact value and not with another one's rounding.
"""

import torch
import torch.nn.functional as F
from golden_file import config_text, grads, normal, params, randomise, save, seeded

from diffusers import UNet2DConditionModel

CROSS_DOWN, DOWN = "CrossAttnDownBlock2D", "DownBlock2D"
CROSS_UP, UP = "CrossAttnUpBlock2D", "UpBlock2D"

# attention_head_dim means the number of heads here, as in every Stable Diffusion config.
VARIANTS = {
    "sd1": dict(
        config=dict(
            sample_size=8, block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4,
            down_block_types=(CROSS_DOWN, DOWN), up_block_types=(UP, CROSS_UP),
            attention_head_dim=2, cross_attention_dim=24,
        ),
        size=(8, 8), tokens=7, seed=101,
    ),
    "sd2": dict(
        config=dict(
            sample_size=12, block_out_channels=(8, 12, 12), layers_per_block=2, norm_num_groups=4,
            down_block_types=(CROSS_DOWN, CROSS_DOWN, DOWN), up_block_types=(UP, CROSS_UP, CROSS_UP),
            attention_head_dim=[1, 2, 2], cross_attention_dim=20, use_linear_projection=True,
        ),
        size=(12, 20), tokens=5, seed=102, odd_size=(9, 11),
    ),
    "quickstart": dict(
        config=dict(
            sample_size=8, block_out_channels=(8, 8, 12), layers_per_block=1, norm_num_groups=4,
            down_block_types=(DOWN, CROSS_DOWN, CROSS_DOWN), up_block_types=(CROSS_UP, CROSS_UP, UP),
            attention_head_dim=[1, 2, 4], cross_attention_dim=24,
        ),
        size=(8, 8), tokens=7, seed=103,
    ),
    "sdxl": dict(
        config=dict(
            sample_size=8, block_out_channels=(8, 12), layers_per_block=1, norm_num_groups=4,
            down_block_types=(DOWN, CROSS_DOWN), up_block_types=(CROSS_UP, UP),
            attention_head_dim=[1, 2], transformer_layers_per_block=[1, 2], cross_attention_dim=24,
            use_linear_projection=True, addition_embed_type="text_time", addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=16 + 6 * 8,
        ),
        size=(8, 12), tokens=7, seed=104,
    ),
}  # fmt: skip


def make(name, config, size, tokens, seed, odd_size=None):
    unet = randomise(UNet2DConditionModel(**config), seed).double().train()
    generator = seeded(seed + 1000)
    inputs = {
        "sample": normal((2, 4, *size), generator).requires_grad_(),
        "timestep": torch.tensor([7, 801]),
        "context": normal((2, tokens, config["cross_attention_dim"]), generator).requires_grad_(),
        "target": normal((2, 4, *size), generator),
    }
    inputs = {k: v.detach().double().requires_grad_(v.requires_grad) if v.is_floating_point() else v for k, v in inputs.items()}
    extra = {}
    if config.get("addition_embed_type") == "text_time":
        inputs["pooled"] = normal((2, 16), generator).double()
        inputs["size_ids"] = torch.tensor([[64.0, 96, 0, 0, 64, 96], [80, 64, 3, 5, 64, 96]])
        extra["added_cond_kwargs"] = {"text_embeds": inputs["pooled"], "time_ids": inputs["size_ids"]}

    def run(sample):
        return unet(sample, inputs["timestep"], inputs["context"], **extra).sample

    output = run(inputs["sample"])
    loss = F.mse_loss(output, inputs["target"])
    loss.backward()
    tensors = params(unet) | {f"input.{k}": v for k, v in inputs.items()}
    tensors |= {"output": output, "loss": loss} | grads(unet)
    tensors |= {f"grad.input.{k}": inputs[k].grad for k in ("sample", "context")}
    if odd_size:  # sides that the downsamplers do not divide: forward only
        with torch.no_grad():
            tensors["odd.input.sample"] = normal((2, 4, *odd_size), generator).double()
            tensors["odd.output"] = run(tensors["odd.input.sample"])
    tensors = {k: v.detach().float() if v.is_floating_point() else v for k, v in tensors.items()}
    save(f"unet_{name}", tensors, ["diffusers"], config_text(unet), loss="mean((output - input.target)^2)")


if __name__ == "__main__":
    for name, variant in VARIANTS.items():
        make(name, **variant)
