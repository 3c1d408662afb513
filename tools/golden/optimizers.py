"""Makes optimizers.safetensors: ten steps of optimizers by their own packages, on the tensors and gradients of one file."""

import json
from unittest import mock

import bitsandbytes
import dadaptation
import lion_pytorch
import optimi
import prodigyopt
import pytorch_optimizer
import torch
from came_pytorch import CAME
from golden_file import normal, save, seeded
from schedulefree import AdamWScheduleFreeReference
from transformers.optimization import Adafactor


class Muon:
    """torch.optim.Muon for matrices, for convolutions as matrices [out, in kh kw], and AdamW for the rest. Its iterations in
    float32: in bfloat16 the last digits are the machine's."""

    def __init__(self, params, **settings):
        self._pairs = [(p, torch.nn.Parameter(p.data.flatten(1))) for p in params if p.dim() > 1]
        self._muon = torch.optim.Muon([flat for _, flat in self._pairs], **settings)
        rest = [p for p in params if p.dim() <= 1]
        self._adamw = torch.optim.AdamW(rest, lr=settings["lr"], betas=(0.9, 0.95), weight_decay=settings["weight_decay"], foreach=False)

    def step(self):
        for p, flat in self._pairs:
            flat.grad = p.grad.flatten(1)
        with mock.patch.object(torch.Tensor, "bfloat16", torch.Tensor.clone):
            self._muon.step()
        self._adamw.step()


def in_train_mode(optimizer):
    optimizer.train()
    return optimizer


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
    "came": (lambda p: CAME(p, lr=1e-2), dict(type="came", lr=1e-2)),
    "came_settings": (lambda p: CAME(p, lr=1e-2, betas=(0.8, 0.99, 0.999), clip_threshold=0.5, weight_decay=0.1),
                      dict(type="came", lr=1e-2, beta1=0.8, beta2=0.99, beta3=0.999, clip_threshold=0.5, weight_decay=0.1)),
    "adan": (lambda p: pytorch_optimizer.Adan(p, lr=1e-2, weight_decay=0.1, foreach=False), dict(type="adan", lr=1e-2, weight_decay=0.1)),
    "adan_decoupled": (lambda p: pytorch_optimizer.Adan(p, lr=1e-2, weight_decay=0.1, weight_decouple=True, foreach=False),
                       dict(type="adan", lr=1e-2, weight_decay=0.1, proximal=False)),
    "stable_adamw": (lambda p: optimi.StableAdamW(p, lr=1e-2, weight_decay=0.1, foreach=False, triton=False),
                     dict(type="stable_adamw", lr=1e-2, weight_decay=0.1)),
    "muon": (lambda p: Muon(p, lr=1e-2, weight_decay=0.1, adjust_lr_fn="match_rms_adamw"), dict(type="muon", lr=1e-2)),
    "muon_original": (lambda p: Muon(p, lr=1e-2, weight_decay=0.0, momentum=0.9, nesterov=False, ns_steps=3),
                      dict(type="muon", lr=1e-2, weight_decay=0, momentum=0.9, nesterov=False, iterations=3, rate="original")),
    "schedule_free": (lambda p: in_train_mode(AdamWScheduleFreeReference(p, lr=1e-2)), dict(type="schedule_free_adamw", lr=1e-2)),
    "schedule_free_decay": (lambda p: in_train_mode(AdamWScheduleFreeReference(p, lr=1e-2, weight_decay=0.1, r=1.0, betas=(0.95, 0.99))),
                            dict(type="schedule_free_adamw", lr=1e-2, weight_decay=0.1, r=1.0, beta1=0.95, beta2=0.99)),
    "dadapt_adam": (lambda p: dadaptation.DAdaptAdam(p, weight_decay=0.01), dict(type="dadapt_adam", weight_decay=0.01)),
    "dadapt_adam_decoupled": (lambda p: dadaptation.DAdaptAdam(p, lr=0.5, weight_decay=0.01, decouple=True, use_bias_correction=True,
                                                               growth_rate=1.5, d0=1e-4),
                              dict(type="dadapt_adam", lr=0.5, weight_decay=0.01, decoupled=True, bias_correction=True,
                                   growth_rate=1.5, d0=1e-4)),
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
    if name.startswith("schedule_free"):
        optimizer.eval()
        tensors |= {f"{name}.average.{i}": v.detach().clone() for i, v in enumerate(values)}

def nearest(values, code, absmax, codes, blocksize):
    """Their generic rounding, to the nearest number; their fast one for float32 on CPUs takes a neighbour in 1 to 3 % of cases."""
    found, scales = torch.ops.bitsandbytes.quantize_blockwise(values.double(), code, blocksize)
    codes.copy_(found)
    absmax.copy_(scales)


# Large enough for 8 bits: 17 blocks of 256 and a part of one.
large = torch.nn.Parameter(normal((4, 1100), generator))
tensors["8bit.start"] = large.detach().clone()
optimizer = bitsandbytes.optim.AdamW8bit([large], lr=1e-2, weight_decay=0.1)
for k in range(4):
    large.grad = normal((4, 1100), generator, 0.1 * (k + 1))
    tensors[f"8bit.grad.{k}"] = large.grad.clone()
    with mock.patch("bitsandbytes.backends.cpu.ops._quant_blockwise_fp32_direct", nearest):
        optimizer.step()
    tensors[f"8bit.{k + 1}"] = large.detach().clone()
save("optimizers", tensors, ["transformers"], cases=json.dumps({name: keys for name, (_, keys) in CASES.items()}),
     lion_pytorch="0.2.5", prodigyopt="1.1.2", came_pytorch="0.1.3",
     dadaptation="3.2", schedulefree="1.4.1", pytorch_optimizer="4.1.0 (Adan)", torch_optimi="0.3.3 (StableAdamW)", bitsandbytes="0.50.2",
     keys="start.{i}, grad.{k}.{i}: tensor i and its gradient in step k (0..9); <case>.{k}.{i}: its value after k steps; <case>.average.{i}: what a "
     "schedule-free run ends with; 8bit.*: the same of one larger tensor, AdamW8bit, lr 1e-2, weight decay 0.1")  # fmt: skip
