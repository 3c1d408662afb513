"""Makes lycoris.safetensors: adapters of LyCORIS' kinds on single layers, and DoRA as PEFT has it.

Each case: a layer's weight and bias, an input, the adapter's tensors under the names of files, the output at strength 1 (and at
0.7 where LyCORIS and ComfyUI agree on what that means), and every gradient of sum(output * upstream).
"""

import importlib.metadata
import json

import lycoris.modules as kinds
import torch
import torch.nn.functional as F
from golden_file import normal, save, seeded
from peft import LoraConfig, inject_adapter_in_model

LAYERS = {
    "linear": lambda: torch.nn.Linear(24, 36),
    "conv": lambda: torch.nn.Conv2d(24, 36, 3, stride=2, padding=1),
    "pointwise": lambda: torch.nn.Conv2d(24, 36, 1),
    "layer_norm": lambda: torch.nn.LayerNorm(24),
    "group_norm": lambda: torch.nn.GroupNorm(4, 24),
}
ROWS = ("linear", "layer_norm")  # layers that take [5, 24]; the others take pictures
COMMON = dict(lora_dim=2, alpha=3.0)
# case: layer, module, its arguments
CASES = {
    "locon_tucker.conv": ("conv", kinds.LoConModule, dict(COMMON, use_tucker=True)),
    "locon_dora.linear": ("linear", kinds.LoConModule, dict(COMMON, weight_decompose=True, wd_on_out=True)),
    "locon_dora_in.conv": ("conv", kinds.LoConModule, dict(COMMON, weight_decompose=True, wd_on_out=False)),
    "loha.linear": ("linear", kinds.LohaModule, COMMON),
    "loha.conv": ("conv", kinds.LohaModule, COMMON),
    "loha.pointwise": ("pointwise", kinds.LohaModule, COMMON),
    "loha_tucker.conv": ("conv", kinds.LohaModule, dict(COMMON, use_tucker=True)),
    "loha_dora.linear": ("linear", kinds.LohaModule, dict(COMMON, weight_decompose=True, wd_on_out=True)),
    "lokr.linear": ("linear", kinds.LokrModule, COMMON),
    "lokr_both.linear": ("linear", kinds.LokrModule, dict(COMMON, lora_dim=1, decompose_both=True)),
    "lokr_factor.conv": ("conv", kinds.LokrModule, dict(COMMON, factor=3)),
    "lokr_tucker.conv": ("conv", kinds.LokrModule, dict(COMMON, factor=3, use_tucker=True)),
    "lokr_full.conv": ("conv", kinds.LokrModule, dict(COMMON, full_matrix=True)),
    "ia3.linear": ("linear", kinds.IA3Module, dict(COMMON, train_on_input=False)),
    "ia3_input.linear": ("linear", kinds.IA3Module, dict(COMMON, train_on_input=True)),
    "ia3.conv": ("conv", kinds.IA3Module, dict(COMMON, train_on_input=False)),
    "ia3_input.conv": ("conv", kinds.IA3Module, dict(COMMON, train_on_input=True)),
    "oft.linear": ("linear", kinds.DiagOFTModule, dict(lora_dim=4, constraint=0, rescaled=False)),
    "oft_rescaled.conv": ("conv", kinds.DiagOFTModule, dict(lora_dim=4, constraint=0, rescaled=True)),
    "oft_constraint.linear": ("linear", kinds.DiagOFTModule, dict(lora_dim=4, constraint=0.01, rescaled=False)),
    "glora.linear": ("linear", kinds.GLoRAModule, COMMON),
    "glora.conv": ("conv", kinds.GLoRAModule, COMMON),
    "full.linear": ("linear", kinds.FullModule, {}),
    "full.conv": ("conv", kinds.FullModule, {}),
    "norm.layer_norm": ("layer_norm", kinds.NormModule, {}),
    "norm.group_norm": ("group_norm", kinds.NormModule, {}),
}
# Another strength is no matter of taste where the change is a sum, a factor or a rotation towards the identity.
AGREED = ("loha.", "loha_tucker", "lokr", "locon_tucker", "ia3", "glora", "full", "norm")


def apply(layer, x, weight, bias):
    if isinstance(layer, torch.nn.Linear):
        return F.linear(x, weight, bias)
    return F.conv2d(x, weight, bias, layer.stride, layer.padding)


def filled(module, generator):
    """Random numbers in every trained tensor, so that none is zero or one."""
    with torch.no_grad():
        for name, p in module.named_parameters():
            if name == "dora_scale":
                p.mul_(1 + normal(p.shape, generator, 0.2))
            elif name == "rescale":
                p.add_(normal(p.shape, generator, 0.2))
            else:
                p.copy_(normal(p.shape, generator, 0.3))


def file_tensors(module, kind):
    """{name in a file: value}: for FullModule the differences, for others their state."""
    if kind is kinds.FullModule:
        return {"diff": module.weight.detach(), "diff_b": module.bias.detach()}
    return {name: value.detach() for name, value in module.state_dict().items() if name != "scalar"}


def output(module, kind, layer, x, strength):
    """By the module's own forward: LoHa's and LoKr's merged weights have the scale twice."""
    if kind is kinds.FullModule:
        return apply(layer, x, layer.weight + strength * module.weight, layer.bias + strength * module.bias)
    module.multiplier = strength
    return module.forward(x)


def lycoris_case(name, entries, seed):
    layer_name, kind, arguments = CASES[name]
    generator = seeded(seed)
    layer = LAYERS[layer_name]().requires_grad_(False)
    with torch.no_grad():
        for p in layer.parameters():
            p.copy_(normal(p.shape, generator, 0.2))
    module = kind("layer", layer, multiplier=1.0, **arguments)
    filled(module, generator)
    weight, bias = layer.weight.detach().clone(), layer.bias.detach().clone()
    if kind is not kinds.FullModule:
        module.apply_to()
    x = normal((5, 24) if layer_name in ROWS else (2, 24, 7, 5), generator)
    y = output(module, kind, layer, x, 1)
    upstream = normal(y.shape, generator)
    (y * upstream).sum().backward()
    put = lambda key, value: entries.__setitem__(f"{name}.{key}", value.detach().clone().contiguous())
    put("weight", weight), put("bias", bias), put("x", x), put("upstream", upstream), put("y", y)
    if name.startswith(AGREED):
        put("y0.7", output(module, kind, layer, x, 0.7))
    names = {"weight": "diff", "bias": "diff_b"} if kind is kinds.FullModule else {}
    for key, value in file_tensors(module, kind).items():
        put("part." + key, value)
    if "dora" not in name:  # LyCORIS lets gradients through the norm, the paper and PEFT do not
        for key, p in module.named_parameters():
            put("grad." + names.get(key, key), p.grad)
    return {"layer": layer_name}


def peft_case(name, layer_name, entries, seed):
    generator = seeded(seed)
    model = torch.nn.Sequential(LAYERS[layer_name]())
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(normal(p.shape, generator, 0.2))
    weight, bias = (p.detach().clone() for p in model[0].parameters())
    inject_adapter_in_model(LoraConfig(r=2, lora_alpha=3, target_modules=["0"], use_dora=True), model)
    trained = {n: p for n, p in model.named_parameters() if ".lora_" in n}
    with torch.no_grad():
        for n, p in trained.items():
            p.copy_(p * (1 + normal(p.shape, generator, 0.2)) if "magnitude" in n else normal(p.shape, generator, 0.3))
    x = normal((5, 24) if layer_name == "linear" else (2, 24, 7, 5), generator)
    y = model(x)
    upstream = normal(y.shape, generator)
    (y * upstream).sum().backward()
    put = lambda key, value: entries.__setitem__(f"{name}.{key}", value.detach().clone().contiguous())
    put("weight", weight), put("bias", bias), put("x", x), put("upstream", upstream), put("y", y)
    put("part.alpha", torch.tensor(3.0))
    for n, p in trained.items():
        key = n.removeprefix("0.").replace(".default", "")
        put("part." + key, p)
        put("grad." + key, p.grad)
    return {"layer": layer_name}


entries, cases = {}, {}
for index, name in enumerate(CASES):
    cases[name] = lycoris_case(name, entries, 900 + index)
for index, layer in enumerate(("linear", "conv", "pointwise")):
    cases[f"peft_dora.{layer}"] = peft_case(f"peft_dora.{layer}", layer, entries, 950 + index)
save("lycoris", entries, ("peft",), cases=json.dumps(cases), lycoris=importlib.metadata.version("lycoris-lora"))
