"""Makes optim.safetensors: AdamW steps and gradient clipping of PyTorch, learning-rate curves of diffusers."""

import warnings

import torch
from golden_file import normal, save, seeded

from diffusers.optimization import get_scheduler
from transformers.optimization import get_inverse_sqrt_schedule, get_wsd_schedule

SHAPES = [(3, 5), (7,), (2, 3, 3, 3), (1,)]
STEPS = 5
ADAMW = dict(lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01)
LR = dict(num_warmup_steps=10, num_training_steps=100)
SCHEDULES = {
    "constant": {},
    "constant_with_warmup": {},
    "linear": {},
    "cosine": {},
    "cosine_with_restarts": dict(num_cycles=3),
    "polynomial": dict(power=2.0),
}


def adamw(start, gradients, max_norm=None):
    """Parameters after 0..STEPS steps, the total norms before clipping, and the optimizer."""
    values = [torch.nn.Parameter(s.clone()) for s in start]
    optimizer = torch.optim.AdamW(values, **ADAMW, foreach=False)
    history, norms = [[v.detach().clone() for v in values]], []
    for given in gradients:
        for v, g in zip(values, given):
            v.grad = g.clone()
        if max_norm is not None:
            norms.append(torch.nn.utils.clip_grad_norm_(values, max_norm))
        optimizer.step()
        history.append([v.detach().clone() for v in values])
    return history, norms, [optimizer.state[v] for v in values]


# transformers' own: 10 steps of warm-up, the last 30 of the 90 after it fall.
MORE_SCHEDULES = {
    "inverse_sqrt": lambda optimizer: get_inverse_sqrt_schedule(optimizer, 10),
    "inverse_sqrt_plain": lambda optimizer: get_inverse_sqrt_schedule(optimizer, 0),
    "wsd_cosine": lambda optimizer: get_wsd_schedule(optimizer, num_warmup_steps=10, num_decay_steps=30, num_training_steps=100),
    "wsd_linear": lambda optimizer: get_wsd_schedule(optimizer, num_warmup_steps=10, num_decay_steps=30, num_training_steps=100,
                                                     decay_type="linear", min_lr_ratio=0.1),
    "wsd_sqrt": lambda optimizer: get_wsd_schedule(optimizer, num_warmup_steps=10, num_decay_steps=30, num_training_steps=100,
                                                   decay_type="1-sqrt"),
}  # fmt: skip


def lr_curve(make):
    """Multipliers of the learning rate in steps 0..99 (the value in force while that step updates the weights)."""
    base = 1e-4
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=base)
    schedule = make(optimizer)
    curve = []
    for _ in range(LR["num_training_steps"]):
        curve.append(optimizer.param_groups[0]["lr"] / base)
        optimizer.step()
        schedule.step()
    return torch.tensor(curve, dtype=torch.float64)


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    generator = seeded(601)
    start = [normal(s, generator) for s in SHAPES]
    # Sizes differ by step, so that a clip at 1.0 sometimes applies and sometimes does not.
    gradients = [[normal(s, generator, 0.03 * 4**k) for s in SHAPES] for k in range(STEPS)]
    plain, _, state = adamw(start, gradients)
    clipped, norms, _ = adamw(start, gradients, max_norm=1.0)
    tensors = {f"grad.{k}.{i}": g for k, given in enumerate(gradients) for i, g in enumerate(given)}
    tensors |= {f"param{k}.{i}": p for k, values in enumerate(plain) for i, p in enumerate(values)}
    tensors |= {f"clip.param{k}.{i}": p for k, values in enumerate(clipped) for i, p in enumerate(values)}
    tensors["clip.total_norm"] = torch.stack(norms)
    for i, s in enumerate(state):
        tensors |= {f"exp_avg.{i}": s["exp_avg"], f"exp_avg_sq.{i}": s["exp_avg_sq"]}
    tensors |= {f"lr.{name}": lr_curve(lambda o, n=name, a=arguments: get_scheduler(n, o, **LR, **a)) for name, arguments in SCHEDULES.items()}
    tensors |= {f"lr.{name}": lr_curve(make) for name, make in MORE_SCHEDULES.items()}
    save(
        "optim", tensors, ["diffusers", "transformers"], adamw=ADAMW, clip="1.0",
        keys="grad.{k}.{i}: gradient of tensor i in step k (0..4); param{k}.{i}: value after k steps; clip.*: the same "
        "with clip_grad_norm_(1.0) before each step, total_norm before clipping; exp_avg*: after 5 plain steps",
        lr="float64 multipliers [100] in force in step k; warm-up 10, training steps 100, base 1e-4",
        lr_arguments=SCHEDULES,
    )  # fmt: skip
