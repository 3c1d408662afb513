"""Runs the emulsion program, and the comparisons that the tests share."""

import json
import os
import pathlib
import subprocess
import warnings

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import numpy as np  # noqa: E402
import torch  # noqa: E402
from PIL import Image  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402

torch.set_num_threads(1)  # the networks are tiny; more threads only wait for each other

ROOT = pathlib.Path(__file__).resolve().parents[2]
BINARY = pathlib.Path(os.environ.get("EMULSION_BINARY", ROOT / "build/release/apps/emulsion/emulsion"))
GOLDEN = ROOT / "tests/golden"


def emulsion(*arguments, fails=False):
    """Runs the program from the project's root and returns what it printed on stdout."""
    environment = os.environ | {"OMP_WAIT_POLICY": "passive"}  # the machine may be busy with other tests
    done = subprocess.run(
        [BINARY, *map(str, arguments)], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300
    )
    if (done.returncode != 0) != fails:
        line = " ".join(map(str, arguments))
        raise AssertionError(f"emulsion {line}\nended with {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done.stderr if fails else done.stdout


def json_lines(text):
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


def generate(model, prompts, folder, *, latents=None, loras=(), negative=None, steps=6, cfg=12.0, syntax="plain",
             **options):
    """Draws with Emulsion. Returns the final latents and the pictures [B,H,W,3] uint8."""
    folder.mkdir(parents=True, exist_ok=True)
    arguments = ["generate", model, *prompts, "--prompt-syntax", syntax, "--steps", steps, "--cfg", cfg]
    if latents is not None:
        save_file({"latents": latents.contiguous()}, folder / "start.safetensors")
        arguments += ["--init-latents", folder / "start.safetensors"]
    for lora in loras:
        arguments += ["--lora", lora]
    if negative is not None:
        arguments += ["--negative", negative]
    for name, value in options.items():
        arguments += [f"--{name}", value]
    emulsion(*arguments, "--save-latents", folder / "end.safetensors", "-o", folder / "picture.png")
    files = [folder / "picture.png"]
    if len(prompts) > 1:
        files = [folder / f"picture-{i + 1}.png" for i in range(len(prompts))]
    pictures = np.stack([np.asarray(Image.open(file).convert("RGB")) for file in files])
    return load_file(folder / "end.safetensors")["latents"], pictures


def draw(pipe, prompts, latents, *, negative=None, steps=6, cfg=12.0, **options):
    """The same with a diffusers pipeline."""
    last = {}

    def keep(_pipe, _step, _timestep, values):
        last["latents"] = values["latents"].clone()
        return values

    if "prompt_embeds" not in options:
        options["prompt"] = list(prompts)
        options["negative_prompt"] = [negative or ""] * len(prompts)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # diffusers' use of numpy
        pictures = pipe(
            latents=latents.clone(), num_inference_steps=steps, guidance_scale=cfg, output_type="np",
            callback_on_step_end=keep, **options,
        ).images  # fmt: skip
    return last["latents"], (pictures * 255).round().astype(np.uint8)


def psnr(a, b):
    """Peak signal-to-noise ratio of two arrays of 8-bit pictures, in dB."""
    error = np.mean((a.astype(np.float64) - b.astype(np.float64)) ** 2)
    return float("inf") if error == 0 else 10 * np.log10(255**2 / error)


def relative_difference(ours, theirs):
    """Largest difference, relative to the largest value of `theirs`."""
    ours, theirs = torch.as_tensor(ours).double(), torch.as_tensor(theirs).double()
    if ours.shape != theirs.shape:
        raise AssertionError(f"shapes differ: {tuple(ours.shape)} and {tuple(theirs.shape)}")
    if not torch.isfinite(ours).all():
        raise AssertionError("not finite")
    return ((ours - theirs).abs().max() / theirs.abs().max().clamp_min(1e-30)).item()


class Same:
    """Mixed into test cases: the claims about latents and pictures."""

    def assert_same_drawing(self, ours, theirs, latents=1e-4, decibel=60):
        difference = relative_difference(ours[0], theirs[0])
        self.assertLess(difference, latents, "final latents")
        self.assertGreater(theirs[1].std(), 3, "the picture is blank; the comparison would say nothing")
        self.assertGreater(psnr(ours[1], theirs[1]), decibel, "pictures (dB)")

    def assert_other_drawing(self, a, b, latents=0.01):
        """That the comparison could fail at all: two drawings that should not be the same are not."""
        self.assertGreater(relative_difference(a[0], b[0]), latents, "final latents")
        self.assertLess(psnr(a[1], b[1]), 50, "pictures (dB)")
