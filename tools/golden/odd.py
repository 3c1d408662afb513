"""Makes odd.safetensors: outputs of diffusers and transformers for configs that no published model has, and for our tiny twins.

The weights are in no file: both sides compute them (`formula`), so that many configs stay small. Computed in float64 on
float32 weights and inputs, as in unet.py. For bfloat16 the metadata holds how far diffusers' own bfloat16 is from that.
"""

import json

import numpy as np
import torch
from golden_file import config_text, save

from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.utils import logging
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

DOWN, UP = "DownBlock2D", "UpBlock2D"
MASK = (1 << 64) - 1


def fnv1a(text):
    """FNV-1a, 64 bits."""
    value = 0xCBF29CE484222325
    for byte in text.encode():
        value = (value ^ byte) * 0x100000001B3 & MASK
    return value


def formula(name, shape, scale=1.0, offset=0.0):
    """float32: offset + scale * u, u uniform with variance 1: SplitMix64 at FNV-1a(name) + flat index, its upper 24 bits."""
    with np.errstate(over="ignore"):
        z = np.arange(int(np.prod(shape)), dtype=np.uint64) + np.uint64(fnv1a(name))
        z = (z + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z ^= z >> np.uint64(31)
    uniform = ((z >> np.uint64(40)).astype(np.float64) / 2**24 - 0.5) * 12**0.5
    return torch.from_numpy((offset + scale * uniform).astype(np.float32)).reshape(tuple(shape))


def weigh(model):
    """Weights by formula: kernels 1 / sqrt(fan in), tables 0.5, norms 1 + 0.1 u, biases 0.1 u."""
    with torch.no_grad():
        for name, p in model.named_parameters():
            name = name.removeprefix("text_model.")
            if name.endswith(("token_embedding.weight", "position_embedding.weight")):
                p.copy_(formula(name, p.shape, 0.5))
            elif p.dim() > 1:
                p.copy_(formula(name, p.shape, p[0].numel() ** -0.5))
            else:
                p.copy_(formula(name, p.shape, 0.1, 1.0 if name.endswith("weight") else 0.0))
    return model.eval()


def crossed(levels, plain=()):
    """Block types with a transformer at every level but those named."""
    down = [DOWN if i in plain else "CrossAttn" + DOWN for i in range(levels)]
    return dict(
        down_block_types=down, up_block_types=["CrossAttn" + UP if "Cross" in d else UP for d in reversed(down)]
    )


def unet(widths, plain=(), groups=4, layers=1, heads=2, cross=12, **more):
    return dict(
        sample_size=8, block_out_channels=widths, norm_num_groups=groups, layers_per_block=layers,
        attention_head_dim=heads, cross_attention_dim=cross, **crossed(len(widths), plain), **more,
    )  # fmt: skip


def text_time(pooled, width=6):
    return dict(
        addition_embed_type="text_time", addition_time_embed_dim=width,
        projection_class_embeddings_input_dim=pooled + 6 * width,
    )  # fmt: skip


# name: config, and what differs from sides (8, 8) and 7 tokens
UNETS = {
    "one_level": dict(config=unet((8,), heads=4)),
    "five_levels": dict(config=unet((4, 8, 8, 12, 12), plain=(1, 4), heads=[1, 2, 2, 3, 4]), size=(16, 32)),
    "only_cross": dict(config=unet((8, 12), only_cross_attention=True)),
    "only_cross_in_part": dict(config=unet((8, 12), only_cross_attention=[True, False], use_linear_projection=True)),
    "upcast": dict(config=unet((8, 12), upcast_attention=True, use_linear_projection=True)),
    "heads_of_one_channel": dict(config=unet((8, 12), heads=[8, 12], cross=5)),
    "one_head": dict(config=unet((8, 24), heads=1, cross=40)),
    "heads_that_are_no_powers": dict(config=unet((9, 15), groups=3, heads=[3, 5], cross=11)),
    "odd_widths": dict(config=unet((7, 13, 21), groups=1, heads=[7, 13, 3])),
    "groups_of_ten": dict(config=unet((20, 30, 50), plain=(0,), groups=10, heads=[2, 3, 5])),
    "depths": dict(config=unet((8, 12), transformer_layers_per_block=[1, 3])),
    "depths_per_layer": dict(
        config=unet((8, 12), layers=2, transformer_layers_per_block=[[1, 2], [2, 1]],
                    reverse_transformer_layers_per_block=[[1, 2, 1], [2, 1, 1]]),
    ),
    "layers_per_level": dict(config=unet((8, 8, 12), layers=[3, 1, 2])),
    "middle_without_attention": dict(config=unet((8, 12), mid_block_type="UNetMidBlock2D")),
    "no_middle": dict(config=unet((8, 12), mid_block_type=None)),
    "attention_in_the_middle_only": dict(config=unet((8, 12), plain=(0, 1))),
    "scale_shift": dict(config=unet((8, 12), resnet_time_scale_shift="scale_shift")),
    "guidance_embedding": dict(config=unet((8, 12), time_cond_proj_dim=10)),
    "other_time": dict(
        config=unet((8, 12), flip_sin_to_cos=False, freq_shift=1, time_embedding_dim=20, center_input_sample=True)
    ),
    "other_convolutions": dict(
        config=unet((8, 12), conv_in_kernel=5, conv_out_kernel=1, downsample_padding=0, mid_block_scale_factor=1.5,
                    norm_eps=1e-6),
    ),
    "nine_channels": dict(config=unet((8, 12), in_channels=9), tokens=154),
    "sides_that_do_not_halve": dict(config=unet((8, 8, 12), plain=(2,)), size=(9, 13)),
    "pooled_only_small": dict(config=unet((8, 12), plain=(0,), **text_time(3), transformer_layers_per_block=[1, 2])),
}  # fmt: skip

TINY4 = dict(widths=(8, 16, 24, 24), plain=(3,), layers=2, cross=16)
TINY2 = dict(TINY4, heads=[1, 2, 2, 2], use_linear_projection=True)
UNETS |= {
    "twin_sd1": dict(config=unet(**TINY4, heads=[1, 2, 2, 2])),
    "twin_sd1_inpaint": dict(config=unet(**TINY4, heads=[1, 2, 2, 2], in_channels=9)),
    "twin_sd2": dict(config=unet(**TINY2)),
    "twin_sd2_v": dict(config=unet(**TINY2, upcast_attention=True)),
    "twin_sd2_inpaint": dict(config=unet(**TINY2, in_channels=9)),
    "twin_sdxl": dict(
        config=unet((8, 16, 24), plain=(0,), layers=2, heads=[1, 2, 2], cross=40, use_linear_projection=True,
                    transformer_layers_per_block=[1, 2, 2], **text_time(24, 8)),
    ),
}  # fmt: skip


def vae(widths, groups, layers=1, channels=3, latent=4, **more):
    return dict(
        block_out_channels=widths, norm_num_groups=groups, layers_per_block=layers, in_channels=channels,
        out_channels=channels, latent_channels=latent, sample_size=16,
        down_block_types=["DownEncoderBlock2D"] * len(widths), up_block_types=["UpDecoderBlock2D"] * len(widths),
        **more,
    )  # fmt: skip


VAES = {
    "one_level": vae((5,), 1, layers=3),
    "sixteen_latents": vae((6, 9), 3, latent=16, use_quant_conv=False, use_post_quant_conv=False, shift_factor=0.1),
    "four_channels": vae((4, 8, 8, 12), 2, channels=4, latent=8, mid_block_add_attention=False),
    "groups_of_seven": vae((14, 21), 7, layers=2, latent=3),
    "twin": vae((8, 12), 4),
}


def clip(width, heads, inner, layers, words=60, **more):
    return dict(
        hidden_size=width, num_attention_heads=heads, intermediate_size=inner, num_hidden_layers=layers,
        vocab_size=words, bos_token_id=words - 2, eos_token_id=words - 1, pad_token_id=1, projection_dim=width, **more,
    )  # fmt: skip


CLIPS = {
    "one_layer": (CLIPTextModel, clip(8, 1, 20, 1, max_position_embeddings=11)),
    "five_layers": (CLIPTextModel, clip(18, 3, 7, 5, hidden_act="gelu", layer_norm_eps=1e-6)),
    "projection": (CLIPTextModelWithProjection, clip(20, 5, 32, 2, hidden_act="quick_gelu") | dict(projection_dim=6)),
    "old_end_of_text": (CLIPTextModel, clip(16, 4, 24, 2) | dict(bos_token_id=0, eos_token_id=2)),
    "twin_l": (CLIPTextModel, clip(16, 2, 32, 3, words=612)),
    "twin_h": (CLIPTextModel, clip(16, 2, 32, 3, words=612, hidden_act="gelu")),
    "twin_big_g": (CLIPTextModelWithProjection, clip(24, 2, 48, 3, words=612, hidden_act="gelu")),
}  # fmt: skip


def compare_bf16(exact, halved):
    """Largest difference of bfloat16's outcome, by the largest value."""
    return float((halved.double() - exact).abs().max() / exact.abs().max())


class Results:
    def __init__(self):
        self.tensors, self.metadata = {}, {}

    def add(self, kind, name, model, outputs, **metadata):
        for key, value in outputs.items():
            value = value.detach()
            self.tensors[f"{kind}.{name}.{key}"] = value.float() if value.is_floating_point() else value
        self.metadata[f"{kind}.{name}"] = json.dumps(json.loads(config_text(model)), separators=(",", ":"))
        self.metadata |= {f"{kind}.{name}.{key}": str(value) for key, value in metadata.items()}


def add_unet(results, name, config, size=(8, 8), tokens=7):
    model = weigh(UNet2DConditionModel(**config))
    sample = formula("input.sample", (2, config.get("in_channels", 4), *size))
    context = formula("input.context", (2, tokens, config["cross_attention_dim"]))
    time = torch.tensor([7, 801])
    more = {}
    if "addition_embed_type" in config:
        width = config["projection_class_embeddings_input_dim"] - 6 * config["addition_time_embed_dim"]
        more["text_embeds"] = formula("input.pooled", (2, width))
        more["time_ids"] = torch.tensor([[64.0, 96, 0, 0, 64, 96], [80, 64, 3, 5, 64, 96]])
    guidance = formula("input.guidance", (2, config["time_cond_proj_dim"])) if "time_cond_proj_dim" in config else None

    def run(dtype, gradients=False):
        cast = lambda x: None if x is None else x.to(dtype)  # noqa: E731
        x, c = cast(sample).requires_grad_(gradients), cast(context).requires_grad_(gradients)
        kwargs = {k: cast(v) if k == "text_embeds" else v for k, v in more.items()}
        with torch.set_grad_enabled(gradients):
            out = model.to(dtype)(x, time, c, timestep_cond=cast(guidance), added_cond_kwargs=kwargs or None).sample
        if gradients:
            (out * formula("input.target", out.shape).to(dtype)).sum().backward()
        return out, x.grad, c.grad

    half = run(torch.bfloat16)[0]
    weigh(model.float())  # bfloat16 has rounded the weights
    out, x_grad, c_grad = run(torch.float64, gradients=True)
    outputs = {"output": out, "gradient.sample": x_grad}
    if c_grad is not None:
        outputs["gradient.context"] = c_grad
    results.add("unet", name, model, outputs, bfloat16=compare_bf16(out, half))


def add_vae(results, name, config):
    model = weigh(AutoencoderKL(**config))
    factor = 2 ** (len(config["block_out_channels"]) - 1)
    pixels = formula("input.pixels", (2, config["in_channels"], 16, 24), 0.5)
    latents = formula("input.latents", (2, config["latent_channels"], 16 // factor, 24 // factor))

    @torch.no_grad()
    def run(dtype):
        model.to(dtype)
        return model.encode(pixels.to(dtype)).latent_dist.parameters, model.decode(latents.to(dtype)).sample

    half = run(torch.bfloat16)
    weigh(model.float())
    exact = run(torch.float64)
    worst = max(compare_bf16(e, h) for e, h in zip(exact, half))
    results.add("vae", name, model, dict(zip(("moments", "decoded"), exact)), bfloat16=worst)


def add_clip(results, name, kind, config):
    model = weigh(kind(CLIPTextConfig(**config)))
    length, words = config.get("max_position_embeddings", 77), config["vocab_size"]
    ids = torch.randint(3, words - 2, (2, length), generator=torch.Generator().manual_seed(5))
    ids[:, 0] = words - 2
    ids[0, 6:] = words - 1
    ids[1, length - 1] = words - 1

    @torch.no_grad()
    def run(dtype):
        out = model.to(dtype)(input_ids=ids, output_hidden_states=True)
        pooled = out.text_embeds if kind is CLIPTextModelWithProjection else out.pooler_output
        return out.last_hidden_state, out.hidden_states[-2], pooled

    half = run(torch.bfloat16)
    weigh(model.float())
    exact = run(torch.float64)
    worst = max(compare_bf16(e, h) for e, h in zip(exact, half))
    results.add("clip", name, model, dict(zip(("last", "penultimate", "pooled"), exact)) | {"ids": ids}, bfloat16=worst)


if __name__ == "__main__":
    logging.set_verbosity_error()  # casting a whole model is what is meant here
    results = Results()
    for name, case in UNETS.items():
        add_unet(results, name, **case)
    for name, config in VAES.items():
        add_vae(results, name, config)
    for name, (kind, config) in CLIPS.items():
        add_clip(results, name, kind, config)
    results.metadata["weights"] = " ".join(weigh.__doc__.split()) + "; " + " ".join(formula.__doc__.split())
    save("odd", results.tensors, ["diffusers", "transformers"], **results.metadata)
