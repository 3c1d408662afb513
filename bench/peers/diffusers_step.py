"""Times training steps of the quickstart's or the base model as a diffusers training script takes them, on the CPU.

Variants:
  script  as examples/text_to_image/train_text_to_image.py does it: pictures go through the autoencoder in every step
  cached  latents are encoded beforehand
  tuned   cached, with channels_last, a fused AdamW and a vectorised moving average
In all of them U-Net and text encoder train, gradients are clipped, and a moving average is kept, as in
`emulsion bench step`. There is no accelerate, no data loader and no logging: less work than the script has.

Prints one JSON line: seconds_per_step (median, without the first), first_step_seconds (from the start of the process),
peak_memory_bytes, first_loss.
"""

import argparse
import json
import os
import resource
import statistics
import time

os.environ.setdefault("HF_HUB_OFFLINE", "1")


def seconds_since_start_of_process():
    with open("/proc/self/stat") as f:
        began = int(f.read().rsplit(")", 1)[1].split()[19]) / os.sysconf("SC_CLK_TCK")
    return time.clock_gettime(time.CLOCK_BOOTTIME) - began


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=["quickstart", "base"], default="quickstart")
    parser.add_argument("--variant", choices=["script", "cached", "tuned"], default="script")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--threads", type=int, default=0, help="0: what torch chooses")
    return parser.parse_args()


def main():
    args = arguments()
    import quickstart as q
    import torch
    import torch.nn.functional as F
    from diffusers import DDPMScheduler
    from diffusers.training_utils import EMAModel

    if args.threads:
        torch.set_num_threads(args.threads)
    if args.model == "base":
        q.become_base()
    tuned, encodes = args.variant == "tuned", args.variant == "script"
    bfloat16 = args.dtype == "bfloat16"

    unet, vae, text_encoder = q.networks()
    unet.train(), text_encoder.train()
    vae.requires_grad_(False)
    if bfloat16:
        vae.to(torch.bfloat16)  # the script's weight_dtype for what does not train
    if tuned:
        unet.to(memory_format=torch.channels_last)
    trained = [*unet.parameters(), *text_encoder.parameters()]
    optimizer = torch.optim.AdamW(trained, **q.ADAMW, fused=True if tuned else None)
    ema = EMAModel(trained, decay=q.EMA_DECAY, foreach=tuned)
    scheduler = DDPMScheduler(**q.SCHEDULE)

    generator = torch.Generator().manual_seed(1)
    times, first_loss, first_step = [], None, None
    for step in range(args.steps):
        pixels = torch.randn(q.BATCH, 3, q.RESOLUTION, q.RESOLUTION, generator=generator) if encodes else None
        batch = q.record(generator)  # latents: the cached ones; nothing but their shape matters here
        began = time.perf_counter()
        latents = batch["latents"]
        if encodes:
            with torch.no_grad():
                latents = vae.encode(pixels.to(vae.dtype)).latent_dist.sample() * vae.config.scaling_factor
            latents = latents.float()
        if tuned:
            latents = latents.contiguous(memory_format=torch.channels_last)
        noise = torch.randn_like(latents)
        timesteps = torch.randint(0, 1000, (q.BATCH,))
        noisy = scheduler.add_noise(latents, noise, timesteps)
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            context = text_encoder(batch["input_ids"], return_dict=False)[0]
            prediction = unet(noisy, timesteps, context, return_dict=False)[0]
        loss = F.mse_loss(prediction.float(), noise)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, q.CLIP)
        optimizer.step()
        optimizer.zero_grad()
        ema.step(trained)
        value = loss.item()
        if step == 0:
            first_loss, first_step = value, seconds_since_start_of_process()
        else:
            times.append(time.perf_counter() - began)
    print(
        json.dumps(
            {
                "seconds_per_step": statistics.median(times),
                "fastest_step": min(times),
                "first_step_seconds": first_step,
                "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
                "first_loss": first_loss,
            }
        )
    )


if __name__ == "__main__":
    main()
