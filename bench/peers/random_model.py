"""Writes a model of Stable Diffusion's true sizes with random weights as a diffusers folder, for measurements.

    random_model.py sd1|sdxl FOLDER [--dtype float16]

SD 1.5 takes 2.1 GB in float16, SDXL 6.9 GB. Not a picture can be drawn with it, but every number is a plausible one.
"""

import argparse
import os
import pathlib

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from diffusers import AutoencoderKL, EulerDiscreteScheduler, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

VAE = dict(
    block_out_channels=(128, 256, 512, 512), layers_per_block=2, sample_size=512,
    down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
)  # fmt: skip
CLIP_L = dict(hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12, projection_dim=768)
SCHEDULE = dict(num_train_timesteps=1000, beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1)
SD1_UNET = dict(sample_size=64, cross_attention_dim=768, attention_head_dim=8)
SDXL_UNET = dict(
    sample_size=128, cross_attention_dim=2048, attention_head_dim=[5, 10, 20], block_out_channels=(320, 640, 1280),
    down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    transformer_layers_per_block=[1, 2, 10], use_linear_projection=True, addition_embed_type="text_time",
    addition_time_embed_dim=256, projection_class_embeddings_input_dim=2816,
)  # fmt: skip
BIG_G = dict(
    hidden_size=1280, intermediate_size=5120, num_hidden_layers=32, num_attention_heads=20, projection_dim=1280,
    hidden_act="gelu",
)  # fmt: skip


def clip(kind, config):
    return lambda: kind(CLIPTextConfig(**config))


FAMILIES = {
    "sd1": ("StableDiffusionPipeline", {
        "unet": lambda: UNet2DConditionModel(**SD1_UNET),
        "vae": lambda: AutoencoderKL(**VAE),
        "text_encoder": clip(CLIPTextModel, CLIP_L),
    }),
    "sdxl": ("StableDiffusionXLPipeline", {
        "unet": lambda: UNet2DConditionModel(**SDXL_UNET),
        "vae": lambda: AutoencoderKL(**(VAE | dict(sample_size=1024, scaling_factor=0.13025))),
        "text_encoder": clip(CLIPTextModel, CLIP_L),
        "text_encoder_2": clip(CLIPTextModelWithProjection, BIG_G),
    }),
}  # fmt: skip


def filled(make, dtype):
    """A model without the minutes that its own initialisation takes: kernels N(0, 1 / fan in) from one repeated block."""
    with torch.device("meta"):
        model = make()
    model = model.to(dtype).to_empty(device="cpu")
    block = torch.randn(1 << 20, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for name, p in model.named_parameters():
            if p.dim() == 1:
                p.fill_(0 if name.endswith("bias") else 1)
            else:
                scale = 0.05 if "embedding.weight" in name else p[0].numel() ** -0.5
                p.copy_((block * scale).to(dtype).repeat(p.numel() // len(block) + 1)[: p.numel()].view(p.shape))
        for name, buffer in model.named_buffers():
            if name.endswith("position_ids"):
                buffer.copy_(torch.arange(buffer.shape[-1]).expand_as(buffer))
    return model.eval()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("family", choices=FAMILIES)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--dtype", choices=["float16", "bfloat16", "float32"], default="float16")
    args = parser.parse_args()
    pipeline, parts = FAMILIES[args.family]
    for name, make in parts.items():
        filled(make, getattr(torch, args.dtype)).save_pretrained(args.folder / name)
    EulerDiscreteScheduler(**SCHEDULE).save_pretrained(args.folder / "scheduler")
    (args.folder / "model_index.json").write_text(f'{{"_class_name": "{pipeline}"}}\n')


if __name__ == "__main__":
    main()
