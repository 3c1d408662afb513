"""Times drawing with diffusers on the CPU, as `emulsion bench generate` does: Stable Diffusion 1's sizes, random weights.

With --model a folder of diffusers is loaded, and its text encoder reads two prompts.
Prints one JSON line: start_seconds (from the process' start to the first step), seconds_per_step (median without the first),
first_step, decode_seconds, peak_memory_bytes.
"""

import argparse
import json
import os
import resource
import statistics
import time

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from diffusers import AutoencoderKL, EulerDiscreteScheduler, UNet2DConditionModel
from families import SCHEDULE, UNETS, VAE, filled
from transformers import CLIPTextModel


def process_age():
    """Seconds since this process began: the interpreter's own start and the imports count."""
    with open("/proc/self/stat") as stat:
        ticks = int(stat.read().rsplit(")", 1)[1].split()[19])
    return time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")


def parts(model, dtype):
    """U-Net, autoencoder, scheduler, text states [2, 77, 768]."""
    if model:
        load = lambda kind, part: kind.from_pretrained(model, subfolder=part, torch_dtype=dtype)
        context = load(CLIPTextModel, "text_encoder")(torch.randint(49408, (2, 77)))[0]
        return load(UNet2DConditionModel, "unet"), load(AutoencoderKL, "vae"), EulerDiscreteScheduler(**SCHEDULE), context
    unet, vae = filled(lambda: UNet2DConditionModel(**UNETS["sd1"]), dtype), filled(lambda: AutoencoderKL(**VAE), dtype)
    return unet, vae, EulerDiscreteScheduler(**SCHEDULE), torch.randn(2, 77, 768).to(dtype)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="folder; without it random weights")
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--cfg", type=float, default=7.0)
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--threads", type=int, default=0, help="0: what torch chooses")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    dtype = getattr(torch, args.dtype)
    with torch.no_grad():
        unet, vae, scheduler, context = parts(args.model, dtype)
    scheduler.set_timesteps(args.steps)
    latents = torch.randn(1, 4, args.size // 8, args.size // 8).to(dtype) * scheduler.init_noise_sigma
    start, times = process_age(), []
    with torch.no_grad():
        for t in scheduler.timesteps:
            began = time.perf_counter()
            x = scheduler.scale_model_input(torch.cat([latents] * 2), t)
            uncond, cond = unet(x, t, encoder_hidden_states=context).sample.chunk(2)
            latents = scheduler.step(uncond + args.cfg * (cond - uncond), t, latents).prev_sample
            times.append(time.perf_counter() - began)
        began = time.perf_counter()
        vae.decode(latents.nan_to_num().clamp(-4, 4) / vae.config.scaling_factor)
        decoding = time.perf_counter() - began
    print(json.dumps({
        "start_seconds": start, "seconds_per_step": statistics.median(times[1:] or times), "first_step": times[0], "decode_seconds": decoding,
        "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }))  # fmt: skip


if __name__ == "__main__":
    main()
