"""Shows that Emulsion and diffusers do the same work: one loss and one set of gradients for the same weights and inputs.

Makes random weights with diffusers, saves them as a folder, records inputs, runs `emulsion replay` on them, and compares.
Ends with an error if they differ.
"""

import pathlib
import subprocess
import sys
import tempfile

import quickstart as q
import torch
import torch.nn.functional as F
from diffusers import DDPMScheduler
from diffusers.utils import logging as diffusers_logging
from safetensors.torch import load_file, save_file
from transformers.utils import logging as transformers_logging

ROOT = pathlib.Path(__file__).resolve().parents[2]
LOSS, GRADIENT = 1e-5, 1e-4

RUN = """
name = "equal-work"
[method]
type = "diffusion"
[model]
path = "{folder}"
[[data.sources]]
path = "data/emoji/subject"
"""


def compare(binary, folder):
    """Relative difference of the losses, of the norms of all gradients together, and the number of trained tensors."""
    unet, vae, text_encoder = q.networks()
    unet.train(), text_encoder.train()
    q.save(folder, unet, vae, text_encoder)
    inputs = q.record(torch.Generator().manual_seed(2))
    save_file({f"step.0.{name}": value for name, value in inputs.items()}, folder / "recording.safetensors")
    (folder / "run.toml").write_text(RUN.format(folder=folder))
    command = [binary, "replay", folder / "run.toml", folder / "recording.safetensors", "-o", folder / "ours.safetensors"]
    subprocess.run(command, check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
    ours = load_file(folder / "ours.safetensors")

    scheduler = DDPMScheduler(**q.SCHEDULE)
    noisy = scheduler.add_noise(inputs["latents"], inputs["noise"], inputs["timesteps"])
    context = text_encoder(inputs["input_ids"]).last_hidden_state
    loss = F.mse_loss(unet(noisy, inputs["timesteps"], context).sample, inputs["noise"])
    loss.backward()

    theirs = {n: p.grad for n, p in unet.named_parameters()}
    theirs |= {"text_model." + n.removeprefix("text_model."): p.grad for n, p in text_encoder.named_parameters()}
    prefix = "step.0.grad."
    mine = {n.removeprefix(prefix): v for n, v in ours.items() if n.startswith(prefix)}
    if mine.keys() != theirs.keys():
        sys.exit(f"equal_work: other tensors train: {sorted(mine.keys() ^ theirs.keys())[:5]}")
    difference = sum((mine[n] - g).square().sum() for n, g in theirs.items()).sqrt()
    size = sum(g.square().sum() for g in theirs.values()).sqrt()
    return abs(ours["step.0.loss"].item() / loss.item() - 1), (difference / size).item(), loss.item(), len(theirs)


def main():
    diffusers_logging.disable_progress_bar()
    transformers_logging.disable_progress_bar()
    with tempfile.TemporaryDirectory() as folder:
        loss_difference, gradient_difference, loss, count = compare(sys.argv[1], pathlib.Path(folder))
    if not (loss_difference < LOSS and gradient_difference < GRADIENT):
        sys.exit(f"equal_work: losses differ by {loss_difference:.1e}, gradients by {gradient_difference:.1e}")
    print(
        f"Same weights, same inputs: loss {loss:.6f}, relative difference {loss_difference:.0e}; "
        f"gradients of {count} tensors, relative difference {gradient_difference:.0e}"
    )


if __name__ == "__main__":
    main()
