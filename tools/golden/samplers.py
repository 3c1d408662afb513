"""Makes samplers.safetensors: trajectories of diffusers' samplers with an analytic function in the U-Net's place, and of
k-diffusion's other ones in float64."""

import importlib
import sys
import types

import diffusers  # noqa: F401  (before torchsde is stood in for: it looks at what is installed)
import numpy as np
import torch
from golden_file import normal, save, seeded

import k_formulas

SD = dict(
    num_train_timesteps=1000, beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1
)
DPM = dict(SD, solver_order=2, solver_type="midpoint", lower_order_final=True)
KARRAS, EXPONENTIAL, BETA = "karras", "exponential", "beta"
ALL = (None, KARRAS, EXPONENTIAL, BETA)
ZERO_SNR = "zero_snr"
# id: module in diffusers.schedulers, class, config, the ways to re-space its sigmas
SAMPLERS = {
    "ddim": ("ddim", "DDIMScheduler", dict(SD, clip_sample=False, set_alpha_to_one=False), (None,)),
    "ddpm": ("ddpm", "DDPMScheduler", dict(SD, clip_sample=False), (None,)),
    "plms": ("pndm", "PNDMScheduler", dict(SD, skip_prk_steps=True, set_alpha_to_one=False), (None,)),
    "lcm": ("lcm", "LCMScheduler", SD, (None,)),
    "euler": ("euler_discrete", "EulerDiscreteScheduler", SD, (*ALL, ZERO_SNR)),
    "euler_ancestral": ("euler_ancestral_discrete", "EulerAncestralDiscreteScheduler", SD, (None, ZERO_SNR)),
    "heun": ("heun_discrete", "HeunDiscreteScheduler", SD, ALL),
    "dpm_2": ("k_dpm_2_discrete", "KDPM2DiscreteScheduler", SD, ALL),
    "dpm_2_ancestral": ("k_dpm_2_ancestral_discrete", "KDPM2AncestralDiscreteScheduler", SD, ALL),
    "lms": ("lms_discrete", "LMSDiscreteScheduler", SD, ALL),
    "dpmpp_2m": ("dpmsolver_multistep", "DPMSolverMultistepScheduler", dict(DPM, algorithm_type="dpmsolver++"),
                 (*ALL, ZERO_SNR)),
    "dpmpp_2m_sde": ("dpmsolver_multistep", "DPMSolverMultistepScheduler", dict(DPM, algorithm_type="sde-dpmsolver++"),
                     (*ALL, ZERO_SNR)),
    "dpmpp_sde": ("dpmsolver_sde", "DPMSolverSDEScheduler", SD, ALL),
    "uni_pc": ("unipc_multistep", "UniPCMultistepScheduler", dict(SD, solver_order=2, solver_type="bh2"),
               (*ALL, ZERO_SNR)),
    "deis": ("deis_multistep", "DEISMultistepScheduler", dict(SD, solver_order=2), ALL),
}  # fmt: skip
SPACINGS = ("leading", "linspace", "trailing")
STEPS = (5, 20)
PREDICTIONS = {"epsilon": "eps", "v_prediction": "v"}
# DPMSolverSDEScheduler imports torchsde for its Brownian tree, which the recorded noise replaces.
sys.modules.setdefault("torchsde", types.ModuleType("torchsde"))


def denoiser(x, t):
    """Stands for the U-Net: x is what scale_model_input returns, t the (perhaps fractional) timestep."""
    return 0.3 * x * torch.cos(torch.as_tensor(t).to(x.dtype) / 1000 * 3) + 0.1 * torch.sin(x)


class RecordedPath:
    """For DPMSolverSDEScheduler.noise_sampler: one Brownian path, its increments made from the recorded noise."""

    def __init__(self, draw):
        self.draw, self.at, self.value = draw, None, None

    def __call__(self, start, end):
        start, end = float(start), float(end)
        if self.at is None:  # the first half of a step
            self.at, self.value = end, self.draw() * (start - end) ** 0.5
            return self.value / (start - end) ** 0.5
        whole = self.value + self.draw() * (self.at - end) ** 0.5
        self.at = None
        return whole / (start - end) ** 0.5


def drawn_from(noise):
    values = iter(noise)
    return lambda *_, **__: next(values)


def options(respacing):
    if respacing is None:
        return {}
    return {"rescale_betas_zero_snr" if respacing == ZERO_SNR else f"use_{respacing}_sigmas": True}


def scheduler_of(sampler, respacing, spacing, prediction, draw):
    module, kind, config, _ = SAMPLERS[sampler]
    module = importlib.import_module(f"diffusers.schedulers.scheduling_{module}")
    module.randn_tensor = lambda shape, **_: draw().reshape(shape)
    config = dict(config, timestep_spacing=spacing, prediction_type=prediction, **options(respacing))
    return getattr(module, kind)(**config)


def plan(scheduler):
    """What set_timesteps laid out."""
    out = {"timesteps": scheduler.timesteps.to(torch.float32)}
    if hasattr(scheduler, "sigmas"):
        out["sigmas"] = scheduler.sigmas.to(torch.float32)
    return out


def trajectory(scheduler, x, draw):
    """The end, and what the model saw, from the standard normal x."""
    if hasattr(scheduler, "noise_sampler"):
        scheduler.noise_sampler = RecordedPath(draw)
    x = x * scheduler.init_noise_sigma
    inputs = []
    for t in scheduler.timesteps:
        model_input = scheduler.scale_model_input(x, t)
        inputs.append(model_input)
        x = scheduler.step(denoiser(model_input, t), t, x).prev_sample
    return {"end": x, "model_inputs": torch.stack(inputs)}


def diffusers_cases():
    for sampler, (_, _, _, respacings) in SAMPLERS.items():
        for respacing in respacings:
            for spacing in SPACINGS if respacing != ZERO_SNR else ("trailing",):
                for steps in STEPS:
                    predictions = ["epsilon", "v_prediction"]
                    if respacing == ZERO_SNR or (steps != STEPS[0] and respacing):
                        predictions = ["v_prediction"]
                    if sampler == "plms":
                        predictions = ["epsilon"]
                    for prediction in predictions:
                        yield sampler, respacing, spacing, steps, prediction


def k_model(sigmas):
    """The same function as `denoiser`, taken as eps, in k-diffusion's terms."""

    def model(x, sigma):
        scaled = torch.from_numpy(x / (1 + sigma**2) ** 0.5)
        return x - sigma * denoiser(scaled, k_formulas.timestep_at(sigma, sigmas)).numpy()

    return model


def k_trajectories(start, noise):
    """The samplers that diffusers lacks, with Karras' sigmas, and every schedule that it lacks: float64."""
    model_sigmas = k_formulas.model_sigmas()
    model = k_model(model_sigmas)
    start, noise = start.double().numpy(), noise.double().numpy()
    low, high = model_sigmas[0], model_sigmas[-1]

    def run(function, steps, *settings):
        sigmas = np.append(k_formulas.karras(steps, low, high), 0.0)
        x = start * (1 + sigmas[0] ** 2) ** 0.5
        values = iter(noise)
        return torch.from_numpy(function(model, x, sigmas, lambda: next(values), *settings))

    out = {}
    for steps in STEPS:
        out[f"k.dpmpp_2s_ancestral.{steps}.end"] = run(k_formulas.dpmpp_2s_ancestral, steps)
        out[f"k.dpmpp_3m_sde.{steps}.end"] = run(k_formulas.dpmpp_3m_sde, steps)
    # As A1111 shares out the steps: of 20 nine restart once, of 40 ten restart twice, of fewer none.
    for all_steps, steps, times in ((5, 0, 0), (20, 9, 1), (40, 10, 2)):
        out[f"k.restart.{all_steps}.end"] = run(k_formulas.restart, all_steps - steps * times, steps, times)
    for steps in (1, 2, 7, 10, 20, 30):
        for name, sigmas in k_formulas.schedules(steps, model_sigmas).items():
            out[f"schedule.{name}.{steps}"] = torch.from_numpy(sigmas.copy())
    return out


if __name__ == "__main__":
    generator = seeded(501)
    x = normal((1, 4, 4, 4), generator)
    noise = normal((2 * max(STEPS), 1, 4, 4, 4), generator)
    tensors = {"input.x": x, "input.noise": noise}
    for sampler, respacing, spacing, steps, prediction in diffusers_cases():
        draw = drawn_from(noise)
        scheduler = scheduler_of(sampler, respacing, spacing, prediction, draw)
        name = sampler if respacing is None else f"{sampler}_{respacing}"
        scheduler.set_timesteps(steps)
        tensors |= {f"{name}.{spacing}.{steps}.{key}": value for key, value in plan(scheduler).items()}
        for key, value in trajectory(scheduler, x, draw).items():
            if key == "end" or (respacing is None and steps == STEPS[0]):
                tensors[f"{name}.{spacing}.{steps}.{PREDICTIONS[prediction]}.{key}"] = value
    tensors |= k_trajectories(x, noise)
    save(
        "samplers", tensors, ["diffusers", "scipy"],
        samplers={name: dict(config, _class_name=kind) for name, (_, kind, config, _) in SAMPLERS.items()},
        denoiser="f(x, t) = 0.3 * x * cos(t / 1000 * 3) + 0.1 * sin(x), where x is the scaled model input "
        "(scale_model_input) and t the timestep as given in timesteps; taken as epsilon (.eps) or as v (.v)",
        start="x = input.x * init_noise_sigma",
        noise="the k-th draw is input.noise[k]; dpmpp_sde: one Brownian path over sigma whose increments are these, two a step",
        eta="0 for ddim",
        k="float64, by the formulas of tools/golden/k_formulas.py, with Karras' sigmas over the model's range",
    )  # fmt: skip
