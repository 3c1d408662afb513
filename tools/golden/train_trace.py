"""Makes train_trace_unet.safetensors: ten AdamW steps of the tiny sd1 U-Net on recorded latents and noise."""

import torch
import torch.nn.functional as F
from golden_file import config_text, normal, params, randomise, save, seeded
from unet import VARIANTS

from diffusers import DDPMScheduler, UNet2DConditionModel

STEPS = 10
MAX_NORM = 1.0
ADAMW = dict(lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01)
SCHEDULE = dict(num_train_timesteps=1000, beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")


def tiny_unet():
    """The U-Net of unet_sd1.safetensors, with the same weights."""
    variant = VARIANTS["sd1"]
    return randomise(UNet2DConditionModel(**variant["config"]), variant["seed"]).train()


def recorded_steps():
    """Latents, noise, timesteps and contexts of the ten steps; LoRA training (lora.py) uses the same."""
    generator = seeded(701)
    return [
        {
            "latents": normal((2, 4, 8, 8), generator),
            "noise": normal((2, 4, 8, 8), generator),
            "timesteps": torch.randint(0, 1000, (2,), generator=generator),
            "context": normal((2, 7, 24), generator),
        }
        for _ in range(STEPS)
    ]


def train(unet, prediction_type="epsilon"):
    """Trains what requires a gradient; returns the losses and the gradient norms before clipping."""
    scheduler = DDPMScheduler(**SCHEDULE, prediction_type=prediction_type)
    trained = [p for p in unet.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, **ADAMW, foreach=False)
    losses, norms = [], []
    for step in recorded_steps():
        noisy = scheduler.add_noise(step["latents"], step["noise"], step["timesteps"])
        target = step["noise"]
        if prediction_type == "v_prediction":
            target = scheduler.get_velocity(step["latents"], step["noise"], step["timesteps"])
        loss = F.mse_loss(unet(noisy, step["timesteps"], step["context"]).sample, target)
        optimizer.zero_grad()
        loss.backward()
        norms.append(torch.nn.utils.clip_grad_norm_(trained, MAX_NORM).detach())
        optimizer.step()
        losses.append(loss.detach())
    return losses, norms


if __name__ == "__main__":
    unet = tiny_unet()
    tensors = params(unet, "initial.param.")
    for k, step in enumerate(recorded_steps()):
        tensors |= {f"step.{k}.{name}": value for name, value in step.items()}
    losses, norms = train(unet)
    tensors |= params(unet, "final.param.")
    v_losses, v_norms = train(tiny_unet(), "v_prediction")
    for k in range(STEPS):
        tensors |= {f"step.{k}.loss": losses[k], f"step.{k}.grad_norm": norms[k]}
        tensors |= {f"v.step.{k}.loss": v_losses[k], f"v.step.{k}.grad_norm": v_norms[k]}
    save(
        "train_trace_unet", tensors, ["diffusers"], config_text(unet), adamw=ADAMW, clip=str(MAX_NORM),
        scheduler=SCHEDULE, loss="mean((unet(add_noise(latents, noise, t), t, context) - target)^2), before the step",
        target="noise; get_velocity for v.*", grad_norm="total norm before clipping",
    )  # fmt: skip
