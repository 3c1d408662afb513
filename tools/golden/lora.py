"""Makes lora_peft.safetensors and lora_peft_conv.safetensors: PEFT LoRA on the tiny sd1 U-Net."""

import torch
import torch.nn.functional as F
from golden_file import config_text, grads, normal, save, seeded
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from train_trace import ADAMW, MAX_NORM, SCHEDULE, tiny_unet, train

from diffusers.utils import convert_state_dict_to_diffusers

RANK, ALPHA = 4, 8
ATTENTION = ["to_q", "to_k", "to_v", "to_out.0"]
FILES = {"lora_peft": (ATTENTION, 801), "lora_peft_conv": (ATTENTION + ["conv1"], 802)}


def with_lora(targets, seed):
    """The tiny U-Net with adapters of random down and up matrices, everything else frozen."""
    unet = tiny_unet().requires_grad_(False)
    unet.add_adapter(LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=targets, init_lora_weights=False))
    generator = seeded(seed)
    for name, p in unet.named_parameters():
        if ".lora_" in name:
            with torch.no_grad():
                p.copy_(normal(p.shape, generator, p[0].numel() ** -0.5 * (0.3 if "lora_B" in name else 1.0)))
            assert p.requires_grad
    return unet.train()


def peft_name(name):
    """down_blocks.0...to_q.lora_A.default.weight -> unet.down_blocks.0...to_q.lora_A.weight."""
    return "unet." + name.replace(".default.weight", ".weight")


def kohya(state):
    """kohya's names, by hand: path with '_' for '.', lora_down, lora_up and a scalar alpha per module."""
    out = {}
    for name, value in state.items():
        path, matrix, _ = name.removeprefix("unet.").rsplit(".", 2)
        module = "lora_unet_" + path.replace(".", "_")
        out[f"{module}.{'lora_down' if matrix == 'lora_A' else 'lora_up'}.weight"] = value
        out[f"{module}.alpha"] = torch.tensor(float(ALPHA))
    return out


def adapter(unet):
    """{PEFT name: value}, as PEFT itself collects it."""
    return {f"unet.{n}": p.detach().clone() for n, p in get_peft_model_state_dict(unet).items()}


def merged_weights(unet, state):
    """{parameter: W + (alpha / r) * B A}, by hand, for every module that has an adapter."""
    weights = {}
    for name, p in unet.named_parameters():
        if ".base_layer.weight" not in name:
            continue
        path = name.replace(".base_layer.weight", "")
        down, up = (state[f"unet.{path}.lora_{m}.weight"] for m in "AB")
        delta = (up.flatten(1) @ down.flatten(1)).reshape(p.shape)
        weights[f"{path}.weight"] = p.detach() + ALPHA / RANK * delta
    return weights


def make(name, targets, seed):
    unet = with_lora(targets, seed)
    generator = seeded(seed + 1000)
    inputs = {
        "sample": normal((2, 4, 8, 8), generator),
        "timestep": torch.tensor([13, 642]),
        "context": normal((2, 7, 24), generator),
        "target": normal((2, 4, 8, 8), generator),
    }
    arguments = (inputs["sample"], inputs["timestep"], inputs["context"])
    output = unet(*arguments).sample
    loss = F.mse_loss(output, inputs["target"])
    loss.backward()
    state = adapter(unet)
    base = tiny_unet()
    merged = merged_weights(unet, state)
    base.load_state_dict(merged, strict=False)
    with torch.no_grad():
        output_merged = base(*arguments).sample
        base_output = tiny_unet()(*arguments).sample
    torch.testing.assert_close(output_merged, output, rtol=1e-4, atol=1e-5)
    assert (output - base_output).abs().max() > 0.1

    tensors = {f"input.{k}": v for k, v in inputs.items()}
    tensors |= {"output": output, "output.merged": output_merged, "output.base": base_output, "loss": loss}
    tensors |= {f"grad.{peft_name(n)}": g for n, g in grads(unet, "").items()}
    tensors |= {f"adapter.peft.{n}": v for n, v in state.items()}
    tensors |= {f"adapter.kohya.{n}": v for n, v in kohya(state).items()}
    if targets == ATTENTION:  # diffusers' own names exist for attention only
        tensors |= {f"adapter.diffusers.{n}": v for n, v in convert_state_dict_to_diffusers(state).items()}
    tensors |= {f"merged.param.{n}": v for n, v in merged.items()}

    trained = with_lora(targets, seed)
    losses, norms = train(trained)
    tensors |= {"train.loss": torch.stack(losses), "train.grad_norm": torch.stack(norms)}
    tensors |= {f"train.final.{n}": v for n, v in adapter(trained).items()}
    save(
        name, tensors, ["diffusers", "peft", "transformers"], config_text(tiny_unet()), base="unet_sd1.safetensors",
        rank=str(RANK), alpha=str(ALPHA), targets=targets, adamw=ADAMW, clip=str(MAX_NORM), scheduler=SCHEDULE,
        loss="mean((output - input.target)^2)", training="ten steps from adapter.*, inputs of train_trace_unet.safetensors "
        "(step.{k}.*), epsilon prediction",
    )  # fmt: skip


if __name__ == "__main__":
    for name, (targets, seed) in FILES.items():
        make(name, targets, seed)
