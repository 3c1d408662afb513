"""Every sampler and spacing that diffusers has: its scheduler's own file in the model folder, the same pictures.

The folder's scheduler_config.json is what the class' save_config writes, so this also says that all of them are read.
"""

import contextlib
import importlib
import shutil
import sys
import types
import unittest
from unittest import mock

import addressed_noise
import numpy as np
import peers
import tiny_runs
import torch
from program import Same, draw, emulsion, generate

# DPMSolverSDEScheduler imports torchsde for its Brownian tree, which a path of our noise replaces below.
sys.modules.setdefault("torchsde", types.ModuleType("torchsde"))

PROMPTS = ["a unicorn, noto style"]
START = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(5))
SEED, STEPS = 40, 5  # DDIM and PNDM step to t - 1000 // steps: the next timestep only if nothing is cut off
SPACINGS = ("leading", "linspace", "trailing")
RESPACINGS = ("use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas")
# id: module, class, what the config needs, whether it can space its sigmas again
CLASSES = {
    "ddim": ("ddim", "DDIMScheduler", {}, False),
    "ddpm": ("ddpm", "DDPMScheduler", {}, False),
    "plms": ("pndm", "PNDMScheduler", dict(skip_prk_steps=True), False),
    "lcm": ("lcm", "LCMScheduler", {}, False),
    "euler": ("euler_discrete", "EulerDiscreteScheduler", {}, True),
    "euler_ancestral": ("euler_ancestral_discrete", "EulerAncestralDiscreteScheduler", {}, False),
    "heun": ("heun_discrete", "HeunDiscreteScheduler", {}, True),
    "dpm_2": ("k_dpm_2_discrete", "KDPM2DiscreteScheduler", {}, True),
    "dpm_2_ancestral": ("k_dpm_2_ancestral_discrete", "KDPM2AncestralDiscreteScheduler", {}, True),
    "lms": ("lms_discrete", "LMSDiscreteScheduler", {}, True),
    "dpmpp_2m": ("dpmsolver_multistep", "DPMSolverMultistepScheduler", {}, True),
    "dpmpp_2m_sde": (
        "dpmsolver_multistep", "DPMSolverMultistepScheduler", dict(algorithm_type="sde-dpmsolver++"), True,
    ),
    "dpmpp_sde": ("dpmsolver_sde", "DPMSolverSDEScheduler", {}, True),
    "uni_pc": ("unipc_multistep", "UniPCMultistepScheduler", {}, True),
    "deis": ("deis_multistep", "DEISMultistepScheduler", {}, True),
}  # fmt: skip


def cases():
    for sampler, (_, _, _, respaces) in CLASSES.items():
        for spacing in SPACINGS:
            # In linspace that is not where their next step starts.
            if spacing != "linspace" or sampler not in ("ddim", "plms"):
                yield sampler, spacing, None
        for respacing in RESPACINGS if respaces else ():
            yield sampler, "leading", respacing


class OurDraws:
    """Emulsion's noise for a batch of one, draw after draw; the initial latents are draw 0."""

    def __init__(self):
        self.count = 0

    def __call__(self, shape, **_):
        self.count += 1
        return addressed_noise.normal(SEED, tuple(shape), self.count)


class OurPath:
    """Stands for BrownianTreeNoiseSampler: a path over sigma whose increments are two draws a step."""

    def __init__(self, x, *_, **__):
        self.shape, self.draw, self.at, self.value = x.shape, OurDraws(), None, None

    def __call__(self, start, end):
        start, end = float(start), float(end)
        first_half = self.at is None
        increment = self.draw(self.shape) * (start - end if first_half else self.at - end) ** 0.5
        self.value = increment if first_half else self.value + increment
        self.at = end if first_half else None
        return self.value / (start - end) ** 0.5


class SamplersTest(Same, unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tiny_runs.FOLDER / "samplers"
        shutil.copytree(tiny_runs.model("epsilon"), cls.folder, dirs_exist_ok=True)
        cls.pipe, _ = peers.load(cls.folder)
        cls.original = cls.pipe.scheduler.config

    def schedule_with(self, sampler, spacing, respacing):
        """Puts the scheduler into pipeline and folder; returns what makes its noise ours."""
        name, kind, needs, _ = CLASSES[sampler]
        module = importlib.import_module(f"diffusers.schedulers.scheduling_{name}")
        options = dict(needs, timestep_spacing=spacing)
        if respacing:
            options[respacing] = True
        with mock.patch("diffusers.configuration_utils.logger"):  # names what another class does not have
            self.pipe.scheduler = getattr(module, kind).from_config(self.original, **options)
        self.pipe.scheduler.save_config(self.folder / "scheduler")
        patches = contextlib.ExitStack()
        for target, ours in (("randn_tensor", OurDraws()), ("BrownianTreeNoiseSampler", OurPath)):
            if hasattr(module, target):
                patches.enter_context(mock.patch.object(module, target, ours))
        return patches

    def test_every_class_and_spacing_draws_the_same_picture(self):
        for sampler, spacing, respacing in cases():
            with self.subTest(sampler, spacing=spacing, respacing=respacing):
                with self.schedule_with(sampler, spacing, respacing):
                    theirs = draw(self.pipe, PROMPTS, START, steps=STEPS, cfg=5.0)
                ours = generate(
                    self.folder, PROMPTS, tiny_runs.FOLDER / "drawings/sampler", latents=START, steps=STEPS, cfg=5.0,
                    seed=SEED,
                )  # fmt: skip
                self.assertLessEqual(np.abs(ours[1].astype(int) - theirs[1].astype(int)).max(), 2)
                self.assert_same_drawing(ours, theirs)

    def test_the_sampler_named_by_hand_is_that_of_the_class(self):
        with self.schedule_with("dpmpp_2m", "leading", "use_karras_sigmas"):
            pass
        own = generate(self.folder, PROMPTS, tiny_runs.FOLDER / "drawings/own", latents=START)
        named = generate(
            self.folder, PROMPTS, tiny_runs.FOLDER / "drawings/named", latents=START, sampler="dpmpp_2m", schedule="karras"
        )
        self.assert_same_drawing(named, own, latents=1e-6)
        other = generate(self.folder, PROMPTS, tiny_runs.FOLDER / "drawings/other", latents=START, sampler="euler")
        self.assert_other_drawing(other, own)

    def test_a_class_that_is_not_built_is_refused_by_name(self):
        file = self.folder / "scheduler/scheduler_config.json"
        file.write_text('{"_class_name": "DPMSolverSinglestepScheduler", "beta_schedule": "scaled_linear"}')
        heard = emulsion("generate", self.folder, "a", "-o", tiny_runs.FOLDER / "no.png", fails=True)
        self.assertIn("DPMSolverSinglestepScheduler is not built", heard)
        self.assertIn("--sampler", heard)


if __name__ == "__main__":
    unittest.main()
