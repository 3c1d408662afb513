"""Tiny models that Emulsion itself trains, once for all tests: an autoencoder, two diffusion models, LoRAs."""

import atexit
import functools
import pathlib
import shutil
import tempfile

from program import emulsion

FOLDER = pathlib.Path(tempfile.mkdtemp(prefix="emulsion-interop-"))
atexit.register(shutil.rmtree, FOLDER, ignore_errors=True)

ARCHITECTURE = """
[model.architecture]
resolution = 32
vae_channels = [8, 16]
vae_groups = 4
unet_channels = [16, 32]
unet_groups = 8
unet_head_width = 8
unet_first_attention_level = 0
text_width = 32
text_layers = 2
text_heads = 4
text_merges = 300
"""

COMMON = f"""
output = "{FOLDER}"
batch_size = 2
threads = 1
[data]
resolution = 32
buckets = false
[[data.sources]]
path = "data/emoji/subject"
[preview]
every = 0
[checkpoint]
every = 0
"""

# Tables must follow the keys of the top level, so every run is: its own keys, COMMON, its own tables.
RUNS = {
    "vae": ("steps = 6", '[method]\ntype = "autoencoder"\n[optimizer]\nlr = 3e-3\n' + ARCHITECTURE),
    "epsilon": (
        "steps = 5\nprediction = 'epsilon'",
        f'[method]\ntype = "diffusion"\n[optimizer]\nlr = 1e-2\n[model]\nvae = "{FOLDER}/vae/model"\n' + ARCHITECTURE,
    ),
    "v_prediction": (
        "steps = 5\nprediction = 'v_prediction'",
        f'[method]\ntype = "diffusion"\n[optimizer]\nlr = 1e-2\n[model]\nvae = "{FOLDER}/vae/model"\n'
        + "[ema]\nenabled = true\ndecay = 0.5\n" + ARCHITECTURE,
    ),  # fmt: skip
    "attention": (
        "steps = 5",
        '[method]\ntype = "lora"\nrank = 4\nalpha = 8\n[optimizer]\nlr = 5e-2\n'
        f'[model]\npath = "{FOLDER}/epsilon/model"\n',
    ),
    "everything": (
        "steps = 5",
        '[method]\ntype = "lora"\nrank = 4\nalpha = 2\nconv_rank = 3\nconv_alpha = 6\n'
        'targets = ["unet.*.attn*.to_*", "unet.*.proj_in", "unet.*.proj_out", "unet.*.ff.net.*", "unet.*.conv1", '
        '"unet.*.downsamplers.*", "text_encoder.*.self_attn.*", "text_encoder.*.fc*"]\n'
        f'[optimizer]\nlr = 5e-2\n[model]\npath = "{FOLDER}/epsilon/model"\n',
    ),
    "hypernetwork": (
        "steps = 5",
        '[method]\ntype = "hypernetwork"\nactivation = "relu"\nlayer_norm = true\ninit = "kaiming_normal"\ndropout = [0, 0.2, 0]\n[optimizer]\nlr = 5e-2\n'
        f'[model]\npath = "{FOLDER}/epsilon/model"\n',
    ),
}
# With captions that hold a word of their own.
ON_EPSILON = f'[optimizer]\nlr = 5e-2\n[model]\npath = "{FOLDER}/epsilon/model"\n'
WORDS = '[[method.words]]\ntoken = "zork"\nvectors = 2\n'
RUNS |= {
    "word": ("steps = 5", '[method]\ntype = "textual_inversion"\ntoken = "zork"\nvectors = 3\n' + ON_EPSILON),
    "bundled": ("steps = 5", '[method]\ntype = "lora"\nrank = 4\n' + WORDS + ON_EPSILON),
    "apart": ("steps = 5", '[method]\ntype = "lora"\nrank = 4\nbundle_words = false\n' + WORDS + ON_EPSILON),
}
NEEDS = {"hypernetwork": ["epsilon"], "word": ["epsilon"], "bundled": ["epsilon"], "apart": ["epsilon"], "epsilon": ["vae"], "v_prediction": ["vae"], "attention": ["epsilon"], "everything": ["epsilon"]}


@functools.cache
def run(name):
    """Trains the run if that has not happened yet; returns its folder."""
    for needed in NEEDS.get(name, []):
        run(needed)
    top, tables = RUNS[name]
    file = FOLDER / f"{name}.toml"
    file.write_text(f'name = "{name}"\nseed = 3\n{top}\n{COMMON}\n{tables}')
    emulsion("train", file, *(["--set", "data.sources.0.trigger=zork"] if "zork" in tables else []))
    return FOLDER / name


def model(name):
    """The model folder of a run."""
    return run(name) / "model"


def lora(name):
    """The LoRA file of a run."""
    return run(name) / f"{name}.safetensors"
