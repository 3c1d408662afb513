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
from families import SCHEDULE, UNETS, VAE, filled
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

CLIP_L = dict(hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12, projection_dim=768)
BIG_G = dict(
    hidden_size=1280, intermediate_size=5120, num_hidden_layers=32, num_attention_heads=20, projection_dim=1280,
    hidden_act="gelu",
)  # fmt: skip


def clip(kind, config):
    return lambda: kind(CLIPTextConfig(**config))


FAMILIES = {
    "sd1": ("StableDiffusionPipeline", {
        "unet": lambda: UNet2DConditionModel(**UNETS["sd1"]),
        "vae": lambda: AutoencoderKL(**VAE),
        "text_encoder": clip(CLIPTextModel, CLIP_L),
    }),
    "sdxl": ("StableDiffusionXLPipeline", {
        "unet": lambda: UNet2DConditionModel(**UNETS["sdxl"]),
        "vae": lambda: AutoencoderKL(**(VAE | dict(sample_size=1024, scaling_factor=0.13025))),
        "text_encoder": clip(CLIPTextModel, CLIP_L),
        "text_encoder_2": clip(CLIPTextModelWithProjection, BIG_G),
    }),
}  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("family", choices=FAMILIES)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--dtype", choices=["float16", "bfloat16", "float32"], default="float16")
    args = parser.parse_args()
    pipeline, parts = FAMILIES[args.family]
    for name, make in parts.items():
        filled(make, getattr(torch, args.dtype)).save_pretrained(args.folder / name)
    EulerDiscreteScheduler(**SCHEDULE, steps_offset=1).save_pretrained(args.folder / "scheduler")
    (args.folder / "model_index.json").write_text(f'{{"_class_name": "{pipeline}"}}\n')


if __name__ == "__main__":
    main()
