"""Solvers and schedules of k-diffusion, ComfyUI and A1111 that diffusers lacks, written out in float64.

Independent of diffusers and of Emulsion: numbers, numpy, and scipy for the beta distribution. A model is a function
(x, sigma) -> x0; sigmas descend and end with 0.
"""

import math

import numpy as np
import scipy.stats

ALIGN_YOUR_STEPS = {  # Sabour et al. 2024; https://research.nvidia.com/labs/toronto-ai/AlignYourSteps/howto.html
    "sd1": [14.615, 6.475, 3.861, 2.697, 1.886, 1.396, 0.963, 0.652, 0.399, 0.152, 0.029],
    "sdxl": [14.615, 6.315, 3.771, 2.181, 1.342, 0.862, 0.555, 0.380, 0.234, 0.113, 0.029],
}


def model_sigmas(timesteps=1000, start=0.00085, end=0.012):
    """Sigma of every timestep, ascending, float64."""
    betas = np.linspace(start**0.5, end**0.5, timesteps) ** 2
    product = np.cumprod(1 - betas)
    return np.sqrt((1 - product) / product)


def sigma_at(t, sigmas):
    return np.exp(np.interp(t, np.arange(len(sigmas)), np.log(sigmas)))


def timestep_at(sigma, sigmas):
    return np.interp(np.log(sigma), np.log(sigmas), np.arange(len(sigmas)))


def karras(n, low, high, rho=7.0):
    ramp = np.linspace(0, 1, n)
    return (high ** (1 / rho) + ramp * (low ** (1 / rho) - high ** (1 / rho))) ** rho


def polyexponential(n, low, high, rho=1.0):
    return np.exp(np.linspace(1, 0, n) ** rho * (math.log(high) - math.log(low)) + math.log(low))


def align_your_steps(n, table):
    places = np.linspace(0, 1, n + 1)
    values = np.exp(np.interp(places, np.linspace(0, 1, len(table)), np.log(table)))
    return values[:-1]  # 0 takes the place of the last


def schedules(n, sigmas):
    """name -> the sigmas of n steps, without the final 0."""
    low, high, count = sigmas[0], sigmas[-1], len(sigmas)
    return {
        "normal": sigma_at(np.linspace(count - 1, 0, n), sigmas),
        "karras": karras(n, low, high),
        "exponential": np.exp(np.linspace(math.log(high), math.log(low), n)),
        "polyexponential": polyexponential(n, low, high),
        "polyexponential_rho2": polyexponential(n, low, high, 2.0),
        "karras_rho4": karras(n, low, high, 4.0),
        "sgm_uniform": sigma_at(np.linspace(count - 1, 0, n + 1)[:-1], sigmas),
        "simple": np.array([sigmas[-(1 + int(x * count / n))] for x in range(n)]),
        "ddim_uniform": sigmas[1 :: max(count // n, 1)][::-1],
        "beta": low + scipy.stats.beta.ppf(1 - np.linspace(0, 1, n), 0.6, 0.6) * (high - low),
        "align_your_steps": align_your_steps(n, ALIGN_YOUR_STEPS["sd1"]),
        "align_your_steps_sdxl": align_your_steps(n, ALIGN_YOUR_STEPS["sdxl"]),
    }


def ancestral(sigma, to):
    up = min(to, (to**2 * (sigma**2 - to**2) / sigma**2) ** 0.5)
    return (to**2 - up**2) ** 0.5, up


def derivative(x, sigma, x0):
    return (x - x0) / sigma


def dpmpp_2s_ancestral(model, x, sigmas, noise):
    for i in range(len(sigmas) - 1):
        x0 = model(x, sigmas[i])
        down, up = ancestral(sigmas[i], sigmas[i + 1])
        if down == 0:
            x = x + derivative(x, sigmas[i], x0) * (down - sigmas[i])
        else:
            t, t_next = -math.log(sigmas[i]), -math.log(down)
            h = t_next - t
            s = t + h / 2
            x_2 = math.exp(-s) / math.exp(-t) * x - math.expm1(-h / 2) * x0
            x = math.exp(-t_next) / math.exp(-t) * x - math.expm1(-h) * model(x_2, math.exp(-s))
        if sigmas[i + 1] > 0:
            x = x + noise() * up
    return x


def dpmpp_3m_sde(model, x, sigmas, noise):
    older, oldest, h_1, h_2 = None, None, None, None
    for i in range(len(sigmas) - 1):
        x0 = model(x, sigmas[i])
        if sigmas[i + 1] == 0:
            return x0
        h = math.log(sigmas[i]) - math.log(sigmas[i + 1])
        h_eta = 2 * h
        x = math.exp(-h_eta) * x - math.expm1(-h_eta) * x0
        phi_2 = math.expm1(-h_eta) / h_eta + 1
        if h_2 is not None:
            r0, r1 = h_1 / h, h_2 / h
            d1_0, d1_1 = (x0 - older) / r0, (older - oldest) / r1
            d1 = d1_0 + (d1_0 - d1_1) * r0 / (r0 + r1)
            d2 = (d1_0 - d1_1) / (r0 + r1)
            x = x + phi_2 * d1 - (phi_2 / h_eta - 0.5) * d2
        elif h_1 is not None:
            x = x + phi_2 * (x0 - older) / (h_1 / h)
        x = x + noise() * sigmas[i + 1] * math.sqrt(-math.expm1(-2 * h))
        older, oldest, h_1, h_2 = x0, older, h, h_1
    return x


def heun_step(model, x, sigma, to):
    d = derivative(x, sigma, model(x, sigma))
    x_2 = x + d * (to - sigma)
    if to == 0:
        return x_2
    return x + (d + derivative(x_2, to, model(x_2, to))) / 2 * (to - sigma)


def restart(model, x, sigmas, noise, steps, times, low=0.1, high=2.0):
    """Xu et al. 2023, arXiv:2306.14878, alg. 1: Heun, and `times` times back up with `steps` steps down again."""
    first, last = np.abs(sigmas - high).argmin(), np.abs(sigmas - low).argmin()
    for i in range(len(sigmas) - 1):
        x = heun_step(model, x, sigmas[i], sigmas[i + 1])
        if i + 1 != last or first >= last:
            continue
        again = karras(steps + 1, sigmas[last], sigmas[first])
        for _ in range(times):
            x = x + noise() * (again[0] ** 2 - again[-1] ** 2) ** 0.5
            for j in range(steps):
                x = heun_step(model, x, again[j], again[j + 1])
    return x
