"""Makes samplers.safetensors: trajectories of diffusers' samplers with an analytic function in the U-Net's place."""

import diffusers.schedulers.scheduling_euler_ancestral_discrete as euler_ancestral
import torch
from golden_file import normal, save, seeded

from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
)

SD = dict(
    num_train_timesteps=1000, beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1
)
SAMPLERS = {
    "ddim": (DDIMScheduler, dict(SD, clip_sample=False, set_alpha_to_one=False)),
    "euler": (EulerDiscreteScheduler, SD),
    "euler_ancestral": (EulerAncestralDiscreteScheduler, SD),
    "dpmpp_2m": (
        DPMSolverMultistepScheduler,
        dict(SD, algorithm_type="dpmsolver++", solver_order=2, solver_type="midpoint", lower_order_final=True),
    ),
    "euler_karras": (EulerDiscreteScheduler, dict(SD, use_karras_sigmas=True)),
    "dpmpp_2m_karras": (
        DPMSolverMultistepScheduler,
        dict(SD, algorithm_type="dpmsolver++", solver_order=2, solver_type="midpoint", lower_order_final=True,
             use_karras_sigmas=True),
    ),
}  # fmt: skip
SPACINGS = ("leading", "linspace", "trailing")
STEPS = (5, 20)
PREDICTIONS = {"epsilon": "eps", "v_prediction": "v"}


def denoiser(x, t):
    """Stands for the U-Net: x is what scale_model_input returns, t the (perhaps fractional) timestep."""
    return 0.3 * x * torch.cos(t.to(torch.float32) / 1000 * 3) + 0.1 * torch.sin(x)


def trajectory(scheduler, steps, x, noise):
    """timesteps, sigmas, init_noise_sigma and the samples after every step, from the standard normal start x."""
    drawn = []

    def recorded(shape, **_):
        drawn.append(len(drawn))
        return noise[drawn[-1]].reshape(shape)

    euler_ancestral.randn_tensor = recorded
    scheduler.set_timesteps(steps)
    out = {"timesteps": scheduler.timesteps.to(torch.float32)}
    if hasattr(scheduler, "sigmas"):
        out["sigmas"] = scheduler.sigmas.to(torch.float32)
    out["init_noise_sigma"] = torch.as_tensor(scheduler.init_noise_sigma, dtype=torch.float32)
    x = x * scheduler.init_noise_sigma
    samples, inputs = [], []
    for t in scheduler.timesteps:
        model_input = scheduler.scale_model_input(x, t)
        inputs.append(model_input)
        x = scheduler.step(denoiser(model_input, t), t, x).prev_sample
        samples.append(x)
    out["steps"] = torch.stack(samples)
    if steps == STEPS[0]:
        out["model_inputs"] = torch.stack(inputs)
    return out


if __name__ == "__main__":
    generator = seeded(501)
    x = normal((1, 4, 4, 4), generator)
    noise = normal((max(STEPS), 1, 4, 4, 4), generator)
    tensors = {"input.x": x} | {f"noise.{i}": noise[i] for i in range(len(noise))}
    for name, (kind, config) in SAMPLERS.items():
        for spacing in SPACINGS:
            for steps in STEPS:
                for prediction, short in PREDICTIONS.items():
                    scheduler = kind(**config, timestep_spacing=spacing, prediction_type=prediction)
                    for key, value in trajectory(scheduler, steps, x, noise).items():
                        tensors[f"{name}.{spacing}.{steps}.{short}.{key}"] = value
    save(
        "samplers", tensors, ["diffusers"],
        samplers={name: dict(config, _class_name=kind.__name__) for name, (kind, config) in SAMPLERS.items()},
        denoiser="f(x, t) = 0.3 * x * cos(t / 1000 * 3) + 0.1 * sin(x), where x is the scaled model input "
        "(scale_model_input) and t the timestep as given in timesteps; taken as epsilon (.eps) or as v (.v)",
        start="x = input.x * init_noise_sigma",
        noise="euler_ancestral adds noise.{i} in step i (i from 0)",
        eta="0 for ddim",
    )  # fmt: skip
