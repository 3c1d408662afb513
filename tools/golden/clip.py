"""Makes clip_<variant>.safetensors: hidden states, loss and every gradient of tiny transformers CLIP text models."""

import pathlib
import tempfile

import torch
from golden_file import config_text, normal, randomise, save, seeded
from safetensors.torch import load_file

from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

BASE = dict(num_hidden_layers=2, num_attention_heads=4, max_position_embeddings=77, pad_token_id=1)
VARIANTS = {
    "quickgelu": dict(
        model=CLIPTextModel, seed=301,
        config=dict(hidden_size=32, intermediate_size=64, vocab_size=1000, hidden_act="quick_gelu",
                    bos_token_id=998, eos_token_id=999),
    ),
    "gelu": dict(
        model=CLIPTextModel, seed=302,
        config=dict(hidden_size=24, intermediate_size=80, vocab_size=300, hidden_act="gelu",
                    bos_token_id=298, eos_token_id=299),
    ),
    "projection": dict(
        model=CLIPTextModelWithProjection, seed=303,
        config=dict(hidden_size=32, intermediate_size=48, vocab_size=200, hidden_act="gelu", projection_dim=16,
                    bos_token_id=198, eos_token_id=199),
    ),
}  # fmt: skip


def on_disk_names(model):
    """{name in the module: name that save_pretrained writes}, found by comparing values."""
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        saved = load_file(pathlib.Path(folder, "model.safetensors"))
    names = {}
    for name, p in model.named_parameters():
        matches = [n for n, v in saved.items() if v.shape == p.shape and torch.equal(v, p)]
        assert len(matches) == 1, (name, matches)
        names[name] = matches[0]
    assert len(names) == len(saved)
    return names


def sequences(config, generator):
    """[3,77]: a short prompt padded with eos (SD1), one that fills all places, and one padded with 0 (SD2)."""
    bos, eos = config["bos_token_id"], config["eos_token_id"]
    words = torch.randint(2, bos, (3, 77), generator=generator)
    words[:, 0] = bos
    words[0, 9:] = eos
    words[1, 76] = eos
    words[2, 20] = eos
    words[2, 21:] = 0
    return words


def make(name, model, config, seed):
    clip = randomise(model(CLIPTextConfig(**BASE, **config)), seed).train()
    generator = seeded(seed + 1000)
    ids = sequences(config, generator)
    weight = normal((3, 77, config["hidden_size"]), generator)
    out = clip(input_ids=ids, output_hidden_states=True)
    loss = (out.last_hidden_state * weight).mean()
    text = "mean(last_hidden_state * input.weight)"
    tensors = {"input.input_ids": ids, "input.weight": weight}
    if "projection_dim" in config:
        tensors["input.pooled_weight"] = normal(out.text_embeds.shape, generator)
        loss = loss + (out.text_embeds * tensors["input.pooled_weight"]).mean()
        text += " + mean(pooled * input.pooled_weight); pooled is text_embeds, after the projection"
        pooled = out.text_embeds
    else:
        pooled = out.pooler_output
    loss.backward()
    names = on_disk_names(clip)
    tensors |= {
        "output.last_hidden_state": out.last_hidden_state,
        "output.penultimate": out.hidden_states[-2],
        "output.pooled": pooled,
        "loss": loss,
    }
    tensors |= {"param." + names[n]: p for n, p in clip.named_parameters()}
    tensors |= {"grad." + names[n]: p.grad for n, p in clip.named_parameters()}
    save(
        f"clip_{name}", tensors, ["transformers"], config_text(clip), zero_by_symmetry=("k_proj.bias",),
        loss=text,
        penultimate="hidden_states[-2], before the last layer and before final_layer_norm",
        names="as save_pretrained of this transformers version writes them",
        module_names="with text_model." if any(n.startswith("text_model.") for n in names) else "without text_model.",
    )  # fmt: skip


if __name__ == "__main__":
    for name, variant in VARIANTS.items():
        make(name, **variant)
