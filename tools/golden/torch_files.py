"""Files of torch.save in both formats, and what is in them.

tests/golden/torch/<file>: written by the real torch.save. tests/golden/torch_files.safetensors: for every tensor
<file>/<name> its bytes in row-major order; metadata <file>/<name> says its dtype and shape, "values <file>/<name>" the
text of a plain value beside the tensors.
"""

import argparse
import collections
import io
import itertools
import json
import re
import sys
import types
import zipfile

import numpy
import torch
from golden_file import OUT, save, seeded

FOLDER = OUT / "torch"
expected, described = {}, {}


def stand_in(module, name, **attributes):
    """A class of a package that is not installed; its instances are pickled by name, as the real ones are."""
    parts = module.split(".")
    for i in range(1, len(parts) + 1):
        sys.modules.setdefault(".".join(parts[:i]), types.ModuleType(".".join(parts[:i])))
    made = type(name, (attributes.pop("base", object),), {"__module__": module, **attributes})
    setattr(sys.modules[module], name, made)
    return made


def is_plain(value):
    return value is None or isinstance(value, (bool, int, float, str))


def note(file, value, path=()):
    """Adds what the reader must find below `value`."""
    name = f"{file}/" + ".".join(path)
    if isinstance(value, torch.nn.ParameterDict):
        value = dict(value.items())
    if isinstance(value, torch.Tensor):
        flat = value.detach().contiguous().reshape(-1)
        expected[name] = (flat.view(torch.uint8) if flat.numel() else torch.empty(0, dtype=torch.uint8)).clone()
        described[name] = f"{str(value.dtype).removeprefix('torch.')} {list(value.shape)}"
    elif isinstance(value, dict):
        for key, child in value.items():
            key = f"{key.__module__}.{key.__name__}" if isinstance(key, type) else str(key)
            note(file, child, (*path, key))
    elif isinstance(value, (list, tuple)):
        if all(is_plain(v) for v in value):
            if value:
                described["value " + name] = str(list(value))
        else:
            for i, child in enumerate(value):
                note(file, child, (*path, str(i)))
    elif is_plain(value) and value is not None:
        described["value " + name] = str(value)


def older_format(value, **options):
    """The older format names storages by their addresses and sorts by them. Here they stand in the order in which the
    object mentions them, under numbers of the same length, so that two runs give the same bytes."""
    torch.serialization.sorted = list
    out = io.BytesIO()
    torch.save(value, out, _use_new_zipfile_serialization=False, **options)
    del torch.serialization.sorted
    raw = out.getvalue()
    keys = re.findall(rb"(?:X[\x0d-\x0f]\0\0\0|\x8c[\x0d-\x0f])(\d{13,15})(?!\d)", raw)
    for i, key in enumerate(dict.fromkeys(keys)):
        raw = raw.replace(key, str(10 ** (len(key) - 1) + i).encode())
    return raw


def write(name, value, legacy=False, **options):
    FOLDER.mkdir(parents=True, exist_ok=True)
    if legacy:
        raw = older_format(value, **options)
    else:
        out = io.BytesIO()
        torch.save(value, out, **options)
        raw = out.getvalue()
    (FOLDER / name).write_bytes(raw)
    torch.load(io.BytesIO(raw), weights_only=False)
    note(name, value)


def write_big_endian(name, value, widths):
    """As a big-endian machine writes it: every number of every storage swapped. Packed by Python, so nothing is aligned."""
    out = io.BytesIO()
    torch.save(value, out)
    packed = io.BytesIO()
    with zipfile.ZipFile(out) as old, zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as new:
        for record in old.namelist():
            data = old.read(record)
            if record.endswith("/byteorder"):
                data = b"big"
            if "/data/" in record:
                width = widths[int(record.rsplit("/", 1)[1])]
                data = numpy.frombuffer(data, f"u{width}").byteswap().tobytes()
            new.writestr(zipfile.ZipInfo(record), data)
    (FOLDER / name).write_bytes(packed.getvalue())
    loaded = torch.load(io.BytesIO(packed.getvalue()))
    assert all(torch.equal(loaded[k], v) for k, v in value.items())
    note(name, value)


def dtypes(legacy):
    names = "float64 float32 float16 bfloat16 int64 int32 int16 int8 uint8 bool complex64 complex128".split()
    newer = "float8_e4m3fn float8_e5m2 float8_e4m3fnuz float8_e5m2fnuz float8_e8m0fnu uint16 uint32 uint64 complex32".split()
    values = {}
    for name in names + ([] if legacy else newer):  # torch.load itself cannot read the newer ones in the older format
        dtype = getattr(torch, name)
        size = 6 * dtype.itemsize
        raw = torch.arange(1, size + 1, dtype=torch.uint8)
        values[name] = (raw % 2).view(torch.bool).reshape(2, 3) if name == "bool" else raw.view(dtype).reshape(2, 3)
    return values


def views(generator):
    base = torch.randn(4, 6, generator=generator)
    image = torch.randn(2, 3, 4, 4, generator=generator).contiguous(memory_format=torch.channels_last)
    return collections.OrderedDict(
        base=base, transposed=base.t(), row=base[2], column=base[:, 1], every_second=base[::2, 1::2], same=base,
        expanded=base[0].expand(3, 6), number=base[1, 1], empty=torch.empty(0, 3), empty_part=base[:, 2:2],
        channels_last=image, parameter=torch.nn.Parameter(base[1:3]), tied=torch.nn.Parameter(image),
        diagonal=base.diagonal(), half=base.half().t(),
    )


def lightning(generator):
    """What a trainer's checkpoint holds beside the weights."""
    checkpoint = stand_in("pytorch_lightning.callbacks.model_checkpoint", "ModelCheckpoint")
    config = stand_in("omegaconf.dictconfig", "DictConfig")
    attributes = stand_in("pytorch_lightning.utilities.parsing", "AttributeDict", base=dict)
    model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn(p.shape, generator=generator))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)
    model(torch.randn(4, 3, generator=generator)).sum().backward()
    optimizer.step()
    kept = config()
    kept.__dict__.update({"_content": {"base_learning_rate": 1e-4}, "_metadata": torch.ones(2)})
    value = {
        "epoch": 3, "global_step": 470000, "pytorch-lightning_version": "1.4.2", "done": False, "nothing": None,
        "state_dict": model.state_dict(),
        "callbacks": {checkpoint: {"monitor": "val/loss", "best_model_score": torch.tensor(0.25), "current": numpy.float64(2)}},
        "optimizer_states": [optimizer.state_dict()],
        "lr_schedulers": [{"base_lrs": [1e-5, 1.0], "last_epoch": 3, "lr_lambdas": [None, {}]}],
        "hyper_parameters": attributes(scale_factor=0.18215, monitor="val", big=2**80, steps=collections.Counter({5: 1})),
        "config": kept, "arguments": argparse.Namespace(lr=0.5), "tags": {"a"}, "raw": b"\0\xff",
        "state": collections.defaultdict(dict, {"x": torch.ones(1, dtype=torch.int64)}),
    }
    return value


def skipped(name):
    """Parts of lightning() that the reader leaves out: objects, sets, bytes, NumPy's numbers, integers beyond 64 bits."""
    for place in ("config", "arguments", "tags", "raw", "hyper_parameters.big"):
        for key in [k for k in itertools.chain(expected, described) if k.removeprefix("value ") == f"{name}/{place}"]:
            expected.pop(key, None)
            described.pop(key, None)
    for key in [k for k in described if k.endswith("ModelCheckpoint.current")]:
        described.pop(key)


def embedding(generator, parameter_dict):
    vectors = torch.randn(2, 4, generator=generator)
    params = torch.nn.ParameterDict({"*": torch.nn.Parameter(vectors)}) if parameter_dict else {"*": vectors}
    return {"string_to_token": {"*": 265}, "string_to_param": params, "name": "cat-toy", "step": 499,
            "sd_checkpoint": None, "sd_checkpoint_name": "sd-v1-4"}


def hypernetwork(generator):
    def module():
        return {f"linear.{i}.{n}": torch.randn(s, generator=generator)
                for i, n, s in ((0, "weight", (4, 2)), (0, "bias", (4,)), (1, "weight", (2, 4)), (1, "bias", (2,)))}

    return {2: (module(), module()), "step": 10, "name": "h", "layer_structure": [1, 2, 1], "activation_func": "linear",
            "is_layer_norm": False, "weight_initialization": "Normal", "last_layer_dropout": True}


def main():
    for old in FOLDER.glob("*"):
        old.unlink()
    for legacy, ending in ((False, "zip"), (True, "legacy")):
        generator = seeded(7)
        write(f"dtypes.{ending}.pt", dtypes(legacy), legacy)
        write(f"views.{ending}.pt", views(generator), legacy)
        for protocol in (2, 3, 4, 5):
            name = f"lightning.{protocol}.{ending}.ckpt"
            write(name, lightning(seeded(8)), legacy, pickle_protocol=protocol)
            skipped(name)
        write(f"embedding.{ending}.pt", embedding(generator, False), legacy)
        write(f"parameter_dict.{ending}.pt", embedding(generator, True), legacy)
        write(f"hypernetwork.{ending}.pt", hypernetwork(generator), legacy)
        write(f"list.{ending}.pt", [torch.arange(3), {"a": torch.ones(2)}], legacy)
    generator = seeded(9)
    base = torch.randn(3, 5, generator=generator)
    write_big_endian("big_endian.pt", {"a": base, "t": base.t(), "d": base.double(), "h": base.half(),
                                       "c": torch.complex(base, -base), "b": torch.arange(3, dtype=torch.uint8)}, [4, 8, 2, 4, 1])
    save("torch_files", expected, (), **described)
    print(json.dumps({f.name: f.stat().st_size for f in sorted(FOLDER.glob("*"))}))


if __name__ == "__main__":
    main()
