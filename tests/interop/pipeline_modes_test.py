"""The ways of drawing, beside diffusers' own pipelines on tiny random models: seeds, prompts that change, and so on."""

import functools
import unittest

import numpy as np
import peers
import tiny_runs
import torch
from diffusers import DDIMScheduler, EulerAncestralDiscreteScheduler, EulerDiscreteScheduler
from program import Same, emulsion, generate
from transformers import CLIPTokenizer

FOLDER = tiny_runs.FOLDER / "modes"
UNET = dict(
    sample_size=16, in_channels=4, out_channels=4, block_out_channels=(16, 32), layers_per_block=1, norm_num_groups=8,
    attention_head_dim=4, cross_attention_dim=32, down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
    up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
)  # fmt: skip


@functools.cache
def words():
    return CLIPTokenizer.from_pretrained(tiny_runs.model("epsilon") / "tokenizer")


def encoder(seed, **changes):
    sizes = dict(hidden_size=32, intermediate_size=64, num_hidden_layers=3, num_attention_heads=4, hidden_act="gelu")
    return peers.text_encoder(words(), seed, **(sizes | changes))


def saved(name, pipe):
    pipe.set_progress_bar_config(disable=True)
    pipe.save_pretrained(FOLDER / name, safe_serialization=True)
    return FOLDER / name, pipe


def scheduler(kind=DDIMScheduler, **changes):
    return kind(**(peers.SCHEDULE | dict(timestep_spacing="leading") | changes))


@functools.cache
def plain():
    """A tiny Stable Diffusion 1."""
    return saved("plain", peers.pipeline(peers.unet_of(UNET, 51), peers.tiny_vae(52), encoder(53), words(), scheduler()))


def generators(seed, count):
    return [torch.Generator().manual_seed(seed + i) for i in range(count)]


class Modes(Same, unittest.TestCase):
    def ours(self, name, model, prompts, **options):
        return generate(model, prompts, FOLDER / "drawings" / name, steps=8, cfg=3.0, **options)

    def theirs(self, pipe, prompts, **options):
        """Final latents and pictures of a diffusers pipeline."""
        changes = options.pop("at_step_end", lambda step, values: values)
        last = {}

        def keep(_pipe, step, _timestep, values):
            values = changes(step, values)
            last["latents"] = values["latents"].clone()
            return values

        names = ["latents", "prompt_embeds"]
        pictures = pipe(
            list(prompts), **(dict(num_inference_steps=8, guidance_scale=3.0) | options), output_type="np",
            callback_on_step_end=keep, callback_on_step_end_tensor_inputs=names,
        ).images  # fmt: skip
        return last["latents"], (pictures * 255).round().astype(np.uint8)

    def assert_same(self, ours, theirs, latents=1e-4):
        self.assert_same_drawing(ours, theirs, latents)
        self.assertLessEqual(np.abs(ours[1].astype(int) - theirs[1].astype(int)).max(), 2, "pictures")


class SeedTest(Modes):
    def test_seeds_of_the_cpu_draw_what_diffusers_draws(self):
        folder, pipe = plain()
        prompts = ["a red apple", "an owl"]
        for name, kind in (("euler", EulerDiscreteScheduler), ("euler_ancestral", EulerAncestralDiscreteScheduler)):
            with self.subTest(name):
                original = pipe.scheduler
                pipe.scheduler = kind.from_config(original.config)
                theirs = self.theirs(pipe, prompts, generator=generators(123, 2))
                pipe.scheduler = original
                ours = self.ours(f"seed {name}", folder, prompts, seed=123, rng="cpu", sampler=name)
                self.assert_same(ours, theirs)
        other = self.ours("seed nv", folder, prompts, seed=123, rng="nv", sampler="euler_ancestral")
        self.assert_other_drawing(ours, other)


class TimelineTest(Modes):
    def test_a_prompt_that_changes_on_the_way(self):
        folder, pipe = plain()
        with torch.no_grad():
            new, old = pipe.encode_prompt("an owl", "cpu", 1, True, "")

        def change(step, values):  # after step 3, so that steps 0 to 3 read the first text
            return values | {"prompt_embeds": torch.cat([old, new])} if step == 3 else values

        theirs = self.theirs(pipe, ["a red apple"], generator=generators(7, 1), at_step_end=change)
        options = dict(seed=7, rng="cpu", syntax="weighted")
        self.assert_same(self.ours("times", folder, ["[a red apple:an owl:3]"], **options), theirs)
        self.assert_other_drawing(self.ours("other times", folder, ["[a red apple:an owl:1]"], **options), theirs)


if __name__ == "__main__":
    unittest.main()
