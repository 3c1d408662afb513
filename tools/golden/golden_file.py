"""Shared by the scripts of this folder: seeding, non-degenerate random weights, and the golden file writer."""

import json
import os
import pathlib
import platform
import sys
import tempfile

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import torch  # noqa: E402  (after the thread count is set)
from safetensors import safe_open  # noqa: E402
from safetensors.torch import save_file  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parents[2]
OUT = pathlib.Path(os.environ.get("GOLDEN_OUT", ROOT / "tests" / "golden"))

torch.set_num_threads(1)
torch.use_deterministic_algorithms(True)


def versions(*packages):
    """{"torch": "2.13.0+cpu", ...} of the named packages, with Python's own."""
    found = {"python": platform.python_version(), "torch": torch.__version__}
    for name in packages:
        found[name] = __import__(name).__version__
    return found


def normal(shape, generator, scale=1.0):
    """Standard normal float32 values times scale, from the given generator."""
    return torch.randn(tuple(shape), generator=generator, dtype=torch.float32) * scale


def seeded(seed):
    """A CPU generator with the given seed."""
    return torch.Generator("cpu").manual_seed(seed)


def randomise(model, seed):
    """Gives every parameter random values that keep activations near unit size and every gradient non-zero.

    Matrices and kernels: normal with deviation 1/sqrt(fan in). Embedding tables: 0.5. Norm scales: 1 + 0.1 * normal.
    Biases: 0.1 * normal. Nothing is left at zero, so zero-initialised layers cannot hide a wrong gradient.
    """
    generator = seeded(seed)
    tables = {id(m.weight) for m in model.modules() if isinstance(m, torch.nn.Embedding)}
    with torch.no_grad():
        for name, p in model.named_parameters():
            if id(p) in tables:
                p.copy_(normal(p.shape, generator, 0.5))
            elif p.dim() > 1:
                fan_in = p[0].numel()
                p.copy_(normal(p.shape, generator, fan_in**-0.5))
            elif name.endswith("weight"):
                p.copy_(1 + normal(p.shape, generator, 0.1))
            else:
                p.copy_(normal(p.shape, generator, 0.1))
    return model


def config_text(model):
    """The exact text of config.json as save_pretrained writes it."""
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        return pathlib.Path(folder, "config.json").read_text()


def params(model, prefix="param."):
    """{prefix + state-dict name: copy of the parameter}."""
    return {prefix + n: p.detach().clone() for n, p in model.named_parameters()}


def grads(model, prefix="grad."):
    """{prefix + state-dict name: copy of the gradient} of every parameter that needs one."""
    return {prefix + n: p.grad.detach().clone() for n, p in model.named_parameters() if p.requires_grad}


def check(tensors, zero_by_symmetry=()):
    """Refuses values that are not finite, and gradients that are zero everywhere.

    zero_by_symmetry: endings of gradients that are zero in exact arithmetic (the bias of an attention's keys adds the
    same number to every score of a row, which the softmax removes); they hold only rounding noise.
    """
    for name, value in tensors.items():
        if value.is_floating_point() and not torch.isfinite(value).all():
            raise SystemExit(f"{name}: not finite")
        if name.startswith("grad."):
            largest = value.abs().max().item()
            if name.endswith(tuple(zero_by_symmetry)) if zero_by_symmetry else False:
                if largest > 1e-6:
                    raise SystemExit(f"{name}: expected rounding noise only, got {largest}")
            elif largest < 1e-7:
                raise SystemExit(f"{name}: the gradient is zero ({largest})")


def sort_header(path):
    """Writes the header again in sorted order (the library's order of metadata differs from run to run)."""
    raw = path.read_bytes()
    end = 8 + int.from_bytes(raw[:8], "little")
    text = json.dumps(json.loads(raw[8:end]), sort_keys=True, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(len(text).to_bytes(8, "little") + text + raw[end:])


def save(name, tensors, packages, config="{}", zero_by_symmetry=(), **metadata):
    """Checks and writes tests/golden/<name>.safetensors; metadata values are strings."""
    check(tensors, zero_by_symmetry)
    header = {
        "script": "tools/golden/" + os.path.basename(sys.argv[0]),
        "versions": json.dumps(versions(*packages)),
        "config": config,
        **{key: value if isinstance(value, str) else json.dumps(value) for key, value in metadata.items()},
    }
    if zero_by_symmetry:
        header["zero_by_symmetry"] = json.dumps(
            sorted(n for n in tensors if n.startswith("grad.") and n.endswith(tuple(zero_by_symmetry)))
        )
    OUT.mkdir(parents=True, exist_ok=True)
    path = OUT / f"{name}.safetensors"
    save_file({k: v.detach().contiguous().clone() for k, v in tensors.items()}, path, metadata=header)
    sort_header(path)
    with safe_open(path, "pt") as f:
        assert len(f.keys()) == len(tensors)
    print(f"{path.name}: {len(tensors)} tensors, {path.stat().st_size / 1e3:.0f} kB")
