"""Makes keys_<part>.txt: every tensor of the published models, in diffusers' and in LDM's names, with shapes.

The models are built on PyTorch's meta device (no weights) from their published configs. LDM's names come from diffusers'
own converters convert_diffusers_to_original_{stable_diffusion,sdxl}.py, which its package does not contain: point
DIFFUSERS_SCRIPTS at the folder scripts/ of a checkout of github.com/huggingface/diffusers. The way back is then checked
with the converters that the package has (diffusers.loaders.single_file_utils).

A line: diffusers name, shape, LDM name, shape, and how the first lies in the second: "=", "T" (transposed), or "1/3" (the
first third of its rows).
"""

import importlib.util
import os
import pathlib
import sys

from golden_file import OUT

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.loaders import single_file_utils
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

DOWN = ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",)
UP = ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3
SD2 = dict(attention_head_dim=[5, 10, 20, 20], cross_attention_dim=1024, use_linear_projection=True)
SDXL = dict(
    sample_size=128, block_out_channels=(320, 640, 1280), layers_per_block=2, use_linear_projection=True,
    down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"), attention_head_dim=[5, 10, 20],
    transformer_layers_per_block=[1, 2, 10], cross_attention_dim=2048, addition_embed_type="text_time",
    addition_time_embed_dim=256, projection_class_embeddings_input_dim=2816,
)  # fmt: skip
UNETS = {
    "unet_sd1": dict(attention_head_dim=8, cross_attention_dim=768),
    "unet_sd2": SD2,
    "unet_sdxl": SDXL,
}
VAE = dict(
    down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
    block_out_channels=(128, 256, 512, 512), layers_per_block=2, latent_channels=4,
)  # fmt: skip
CLIP_L = dict(hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12, projection_dim=768)
CLIP_H = dict(hidden_size=1024, intermediate_size=4096, num_hidden_layers=23, num_attention_heads=16, projection_dim=512)
CLIP_G = dict(hidden_size=1280, intermediate_size=5120, num_hidden_layers=32, num_attention_heads=20, projection_dim=1280)


def script(name):
    """One of diffusers' scripts as a module."""
    folder = os.environ.get("DIFFUSERS_SCRIPTS")
    if not folder:
        raise SystemExit("keys.py: set DIFFUSERS_SCRIPTS to the folder scripts/ of a checkout of huggingface/diffusers")
    path = pathlib.Path(folder, f"convert_diffusers_to_original_{name}.py")
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def numbered(shapes):
    """A stand-in per tensor that says which it is, and for matrices whether it was transposed."""
    made = {}
    for index, (name, shape) in enumerate(shapes.items()):
        if len(shape) == 2:
            made[name] = torch.tensor([[index, index + 0.25], [index + 0.5, index + 0.75]], device="cpu")
        else:
            made[name] = torch.full((1,) * len(shape), float(index), device="cpu")
    return made


def rows(shapes, convert):
    """Lines of the table, by way of `convert`: a state dict in diffusers' names -> one in LDM's."""
    names = list(shapes)
    sizes = convert({name: torch.empty(shape, device="meta") for name, shape in shapes.items()})
    for theirs, value in convert(numbered(shapes)).items():
        numbers = value.flatten().tolist()
        width = 4 if len(shapes[names[int(numbers[0])]]) == 2 else 1
        pieces = [numbers[i : i + width] for i in range(0, len(numbers), width)]
        for place, piece in enumerate(pieces):
            name = names[int(piece[0])]
            how = f"{place + 1}/{len(pieces)}" if len(pieces) > 1 else "="
            if width == 4 and piece[1] - piece[0] == 0.5:
                how = "T"
            yield name, shapes[name], theirs, tuple(sizes[theirs].shape), how


def write(part, shapes, convert, back):
    """Writes the table once the package's own converter finds the way back through it."""
    table = list(rows(shapes, convert))
    assert sorted(row[0] for row in table) == sorted(shapes), part
    ldm = convert({name: torch.empty(shape, device="meta") for name, shape in shapes.items()})
    returned = {name: tuple(value.shape) for name, value in back(ldm).items()}
    assert returned == shapes, (part, set(returned) ^ set(shapes))
    size = lambda shape: "x".join(map(str, shape)) or "scalar"
    lines = [" ".join((ours, size(a), theirs, size(b), how)) for ours, a, theirs, b, how in table]
    (OUT / f"keys_{part}.txt").write_text("\n".join(sorted(lines)) + "\n")
    print(f"keys_{part}.txt: {len(shapes)} tensors of diffusers, {len(ldm)} of LDM")


def shapes_of(model):
    return {name: tuple(value.shape) for name, value in model.state_dict().items() if "position_ids" not in name}


def bare(shapes):
    return {name.removeprefix("text_model."): shape for name, shape in shapes.items()}


def unets(sd, sdxl):
    for part, config in UNETS.items():
        config = dict(down_block_types=DOWN, up_block_types=UP) | config
        shapes = shapes_of(UNet2DConditionModel(**config))
        convert = (sdxl if part == "unet_sdxl" else sd).convert_unet_state_dict

        def back(ldm):
            full = {"model.diffusion_model." + name: value for name, value in ldm.items()}
            return single_file_utils.convert_ldm_unet_checkpoint(full, {"layers_per_block": 2} | config)

        write(part, shapes, convert, back)


def vae(sd):
    def back(ldm):
        full = {"first_stage_model." + name: value for name, value in ldm.items()}
        return single_file_utils.convert_ldm_vae_checkpoint(full, VAE)

    write("vae", shapes_of(AutoencoderKL(**VAE)), sd.convert_vae_state_dict, back)


def clips(sd, sdxl):
    """Ours are without "text_model.", as transformers' own class has them since 5.6; LDM's always with it."""
    prefixed = lambda state: {name if "text_projection" in name else "text_model." + name: v for name, v in state.items()}

    def back_open_clip(model, prefix):
        def run(ldm):
            full = {prefix + name: value for name, value in ldm.items()}
            return bare_dict(single_file_utils.convert_open_clip_checkpoint(model, full, prefix))

        return run

    def bare_dict(state):
        return {name.removeprefix("text_model."): value for name, value in state.items()}

    def open_clip_h(state):
        marked = {"transformer." + name: value for name, value in prefixed(state).items()}
        return sd.convert_text_enc_state_dict_v20(marked)

    def open_clip_g(state):
        made = sdxl.convert_openclip_text_enc_state_dict(prefixed(state))
        made["text_projection"] = made.pop("text_projection.weight").T.contiguous()
        return made

    model = CLIPTextModel(CLIPTextConfig(**CLIP_L))
    write("clip_l", bare(shapes_of(model)), prefixed, bare_dict)
    model = CLIPTextModel(CLIPTextConfig(**CLIP_H, hidden_act="gelu"))
    write("open_clip_h", bare(shapes_of(model)), open_clip_h, back_open_clip(model, "cond_stage_model.model."))
    model = CLIPTextModelWithProjection(CLIPTextConfig(**CLIP_G, hidden_act="gelu"))
    write("open_clip_bigg", bare(shapes_of(model)), open_clip_g, back_open_clip(model, "conditioner.embedders.1.model."))


if __name__ == "__main__":
    sys.stdout.reconfigure(line_buffering=True)
    original, original_xl = script("stable_diffusion"), script("sdxl")
    with torch.device("meta"):
        unets(original, original_xl)
        vae(original)
        clips(original, original_xl)
