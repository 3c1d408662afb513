"""Times training steps of a Stable Diffusion family with diffusers on the CPU: random weights and inputs.

  python diffusers_family_step.py --model sd1 --method lora --size 256 --variant tuned

What trains is a LoRA of rank 16 on the attention's four projections (peft), or the whole U-Net; AdamW, gradients clipped at 1.
Variants:
  script  as the scripts in diffusers' examples: every step encodes the pictures and the captions (sd1 only)
  cached  latents and text states are given, as in `emulsion bench step --model sd1`
  tuned   with channels_last and a fused AdamW
`--dtype bfloat16`: autocast; the frozen weights of a LoRA are bfloat16, what trains is float32.

Prints one JSON line: seconds_per_step (median, without the first), first_step_seconds (from the start of the process),
peak_memory_bytes.
"""

import argparse
import json
import os
import resource
import statistics
import time

os.environ.setdefault("HF_HUB_OFFLINE", "1")

from diffusers_step import seconds_since_start_of_process  # noqa: E402


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=["sd1", "sdxl"], default="sd1")
    parser.add_argument("--method", choices=["lora", "diffusion"], default="lora")
    parser.add_argument("--variant", choices=["script", "cached", "tuned"], default="cached")
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--threads", type=int, default=0, help="0: what torch chooses")
    return parser.parse_args()


def trained_network(args):
    """The U-Net, and what of it trains."""
    import torch
    from diffusers import UNet2DConditionModel
    from families import UNETS, filled
    from peft import LoraConfig

    frozen = torch.bfloat16 if args.dtype == "bfloat16" and args.method == "lora" else torch.float32
    unet = filled(lambda: UNet2DConditionModel(**UNETS[args.model]), frozen).train()
    if args.method == "lora":
        unet.requires_grad_(False)
        unet.add_adapter(LoraConfig(r=16, lora_alpha=16, init_lora_weights="gaussian",
                                    target_modules=["to_k", "to_q", "to_v", "to_out.0"]))  # fmt: skip
    if args.variant == "tuned":
        unet.to(memory_format=torch.channels_last)
    trained = [p for p in unet.parameters() if p.requires_grad]
    for p in trained:
        p.data = p.data.float()
    return unet, trained


def encoders(args):
    """What the script variant runs in every step: (pictures -> latents, captions -> states)."""
    import torch
    from diffusers import AutoencoderKL
    from families import CLIP, VAE, filled
    from transformers import CLIPTextConfig, CLIPTextModel

    if args.model != "sd1":
        raise SystemExit("diffusers_family_step: the script variant is written for --model sd1; use cached or tuned")
    dtype = torch.bfloat16 if args.dtype == "bfloat16" else torch.float32
    vae = filled(lambda: AutoencoderKL(**VAE), dtype).requires_grad_(False)
    text = filled(lambda: CLIPTextModel(CLIPTextConfig(**CLIP)), dtype).requires_grad_(False)

    def latents(generator):
        pixels = torch.randn(args.batch, 3, args.size, args.size, generator=generator).clamp(-1, 1)
        return vae.encode(pixels.to(dtype)).latent_dist.sample() * vae.config.scaling_factor

    return latents, lambda generator: text(torch.randint(0, 49000, (args.batch, 77), generator=generator))[0]


def inputs_of(args, unet, generator):
    import torch

    def draw(*shape):
        return torch.randn(*shape, generator=generator)

    side = args.size // 8
    added = None
    if args.model == "sdxl":
        sizes = torch.tensor([[args.size, args.size, 0, 0, args.size, args.size]] * args.batch, dtype=torch.float32)
        added = {"text_embeds": draw(args.batch, 1280), "time_ids": sizes}
    latents, noise = (draw(args.batch, 4, side, side) for _ in range(2))
    if args.variant == "tuned":
        latents = latents.contiguous(memory_format=torch.channels_last)
    return latents, noise, draw(args.batch, 77, unet.config.cross_attention_dim), added


def main():
    args = arguments()
    import torch
    import torch.nn.functional as F
    from diffusers import DDPMScheduler
    from families import SCHEDULE

    if args.threads:
        torch.set_num_threads(args.threads)
    unet, trained = trained_network(args)
    optimizer = torch.optim.AdamW(trained, lr=1e-4, fused=True if args.variant == "tuned" else None)
    scheduler = DDPMScheduler(**SCHEDULE)
    generator = torch.Generator().manual_seed(1)
    encode = encoders(args) if args.variant == "script" else None
    times, first_step = [], None
    for step in range(args.steps):
        latents, noise, context, added = inputs_of(args, unet, generator)
        began = time.perf_counter()
        if encode:
            latents, context = (of(generator) for of in encode)
        timesteps = torch.randint(0, 1000, (args.batch,))
        noisy = scheduler.add_noise(latents, noise, timesteps)
        with torch.autocast("cpu", torch.bfloat16, enabled=args.dtype == "bfloat16"):
            prediction = unet(noisy, timesteps, context, added_cond_kwargs=added, return_dict=False)[0]
        loss = F.mse_loss(prediction.float(), noise)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        loss.item()
        if step == 0:
            first_step = seconds_since_start_of_process()
        else:
            times.append(time.perf_counter() - began)
    print(json.dumps({
        "seconds_per_step": statistics.median(times), "fastest_step": min(times), "first_step_seconds": first_step,
        "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }))  # fmt: skip


if __name__ == "__main__":
    main()
