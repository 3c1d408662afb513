"""Makes lora_starts.safetensors: where PEFT's PiSSA and OLoRA begin, on two linear layers."""

import torch
from golden_file import normal, save, seeded
from peft import LoraConfig, get_peft_model

RANK, ALPHA = 3, 6
SHAPES = {"wide": (8, 12), "high": (12, 8)}


def start(init, weight):
    """(the adapter's update at scale alpha / r, what is left of the weight), both [out, in]."""
    net = torch.nn.Sequential(torch.nn.Linear(weight.size(1), weight.size(0), bias=False))
    with torch.no_grad():
        net[0].weight.copy_(weight)
    layer = get_peft_model(net, LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=["0"], init_lora_weights=init)).base_model.model[0]
    down, up = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    return ALPHA / RANK * (up @ down), layer.base_layer.weight


if __name__ == "__main__":
    generator = seeded(901)
    tensors = {}
    for name, shape in SHAPES.items():
        weight = normal(shape, generator)
        tensors[f"{name}.weight"] = weight
        for init in ("pissa", "olora"):
            update, rest = start(init, weight.clone())
            tensors |= {f"{name}.{init}.update": update, f"{name}.{init}.rest": rest}
    save("lora_starts", tensors, ["peft"], rank=str(RANK), alpha=str(ALPHA))
