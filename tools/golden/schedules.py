"""Makes schedules.safetensors: noise schedules, noising, velocity targets and signal-to-noise ratios of diffusers."""

import torch
from golden_file import normal, save, seeded

from diffusers import DDPMScheduler
from diffusers.training_utils import compute_snr

SD = dict(beta_start=0.00085, beta_end=0.012)
SCHEDULES = {
    "linear": dict(SD, beta_schedule="linear"),
    "scaled_linear": dict(SD, beta_schedule="scaled_linear"),
    "squaredcos_cap_v2": dict(beta_schedule="squaredcos_cap_v2"),
    "linear_ddpm": dict(beta_start=1e-4, beta_end=0.02, beta_schedule="linear"),
    "scaled_linear_zero_snr": dict(SD, beta_schedule="scaled_linear", rescale_betas_zero_snr=True),
}

if __name__ == "__main__":
    generator = seeded(401)
    timesteps = torch.tensor([0, 1, 499, 500, 998, 999])
    latents = normal((6, 4, 3, 5), generator)
    noise = normal((6, 4, 3, 5), generator)
    tensors = {"input.latents": latents, "input.noise": noise, "input.timesteps": timesteps}
    for name, config in SCHEDULES.items():
        scheduler = DDPMScheduler(num_train_timesteps=1000, **config)
        tensors[f"betas.{name}"] = scheduler.betas
        tensors[f"alphas_cumprod.{name}"] = scheduler.alphas_cumprod
        tensors[f"snr.{name}"] = compute_snr(scheduler, torch.arange(1000))
        tensors[f"add_noise.{name}"] = scheduler.add_noise(latents, noise, timesteps)
        tensors[f"velocity.{name}"] = scheduler.get_velocity(latents, noise, timesteps)
    save(
        "schedules", tensors, ["diffusers"], schedules=SCHEDULES,
        velocity="sqrt(acp) * noise - sqrt(1 - acp) * latents",
        snr="acp / (1 - acp), float32 as diffusers.training_utils.compute_snr gives it",
    )  # fmt: skip
