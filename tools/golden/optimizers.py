"""Makes optimizers.safetensors: ten steps of optimizers by their own packages, on the tensors and gradients of one file."""

import json

import lion_pytorch
import prodigyopt
import torch
from golden_file import normal, save, seeded
from transformers.optimization import Adafactor

SHAPES = [(3, 5), (7,), (2, 3, 3, 3), (1,)]
STEPS = 10
# case: what makes it, the run file's keys that say the same
CASES = {
    "sgd": (lambda p: torch.optim.SGD(p, lr=1e-2, momentum=0.9, nesterov=True, weight_decay=0.1, foreach=False),
            dict(type="sgd", lr=1e-2, weight_decay=0.1)),
    "sgd_plain": (lambda p: torch.optim.SGD(p, lr=1e-2, foreach=False), dict(type="sgd", lr=1e-2, momentum=0, nesterov=False)),
    "sgd_momentum": (lambda p: torch.optim.SGD(p, lr=1e-2, momentum=0.8, foreach=False),
                     dict(type="sgd", lr=1e-2, momentum=0.8, nesterov=False)),
    "lion": (lambda p: lion_pytorch.Lion(p, lr=1e-3, betas=(0.9, 0.99), weight_decay=0.1),
             dict(type="lion", lr=1e-3, weight_decay=0.1)),
    "adafactor": (lambda p: Adafactor(p, lr=1e-2, scale_parameter=False, relative_step=False, weight_decay=0.1),
                  dict(type="adafactor", lr=1e-2, weight_decay=0.1)),
    "adafactor_scaled": (lambda p: Adafactor(p, lr=1e-2, scale_parameter=True, relative_step=False, beta1=0.9, clip_threshold=0.5),
                         dict(type="adafactor", lr=1e-2, scale_parameter=True, beta1=0.9, clip_threshold=0.5)),
    "adafactor_relative": (lambda p: Adafactor(p, scale_parameter=True, relative_step=True, warmup_init=True),
                           dict(type="adafactor", lr=1.0, scale_parameter=True, relative_step=True, warmup_init=True)),
    "prodigy": (lambda p: prodigyopt.Prodigy(p, lr=1.0, weight_decay=0.01, slice_p=1), dict(type="prodigy", weight_decay=0.01)),
    "prodigy_safe": (lambda p: prodigyopt.Prodigy(p, lr=0.5, use_bias_correction=True, safeguard_warmup=True, d_coef=2.0,
                                                  growth_rate=4.0, slice_p=1),
                     dict(type="prodigy", lr=0.5, bias_correction=True, safeguard_warmup=True, d_coef=2.0, growth_rate=4.0)),
}

generator = seeded(602)
start = [normal(s, generator) for s in SHAPES]
# A slope that stays, so that Prodigy finds a distance, and noise.
slope = [normal(s, generator) for s in SHAPES]
gradients = [[0.3 * m + normal(m.shape, generator, 0.1) for m in slope] for _ in range(STEPS)]
tensors = {f"start.{i}": s for i, s in enumerate(start)}
tensors |= {f"grad.{k}.{i}": g for k, given in enumerate(gradients) for i, g in enumerate(given)}
for name, (make, _) in CASES.items():
    values = [torch.nn.Parameter(s.clone()) for s in start]
    optimizer = make(values)
    for k, given in enumerate(gradients):
        for v, g in zip(values, given):
            v.grad = g.clone()
        optimizer.step()
        tensors |= {f"{name}.{k + 1}.{i}": v.detach().clone() for i, v in enumerate(values)}
save("optimizers", tensors, ["transformers"], cases=json.dumps({name: keys for name, (_, keys) in CASES.items()}),
     lion_pytorch="0.2.5", prodigyopt="1.1.2",
     keys="start.{i}, grad.{k}.{i}: tensor i and its gradient in step k (0..9); <case>.{k}.{i}: its value after k steps")  # fmt: skip
