"""Makes objective.safetensors: signal-to-noise ratios of diffusers, and the weights that its training scripts make of them."""

import torch
from golden_file import save

from diffusers import DDPMScheduler
from diffusers.training_utils import compute_snr

GAMMA = 5.0

if __name__ == "__main__":
    scheduler = DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    snr = compute_snr(scheduler, torch.arange(1000))
    # examples/text_to_image/train_text_to_image.py with --snr_gamma
    least = torch.stack([snr, GAMMA * torch.ones_like(snr)], dim=1).min(dim=1)[0]
    tensors = {"snr": snr, "min_snr.epsilon": least / snr, "min_snr.v": least / (snr + 1)}
    save("objective", tensors, ["diffusers"], gamma=str(GAMMA))
