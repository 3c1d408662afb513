"""The project's small models in diffusers and transformers: the quickstart's, with the sizes of src/models/architecture.h, and the
base model's, with those of configs/base."""

import json
import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch  # noqa: E402
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel  # noqa: E402
from transformers import CLIPTextConfig, CLIPTextModel  # noqa: E402

RESOLUTION, LATENT, BATCH, TOKENS = 64, 16, 16, 77
VOCABULARY = 512 + 4000 + 2

UNET = dict(
    sample_size=LATENT, in_channels=4, out_channels=4, block_out_channels=(64, 64, 128), layers_per_block=1,
    norm_num_groups=8, attention_head_dim=(2, 2, 4), cross_attention_dim=128,
    down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
)  # fmt: skip
VAE = dict(
    sample_size=RESOLUTION, latent_channels=4, block_out_channels=(16, 32, 64), layers_per_block=1, norm_num_groups=4,
    mid_block_add_attention=False, scaling_factor=1.0, down_block_types=("DownEncoderBlock2D",) * 3,
    up_block_types=("UpDecoderBlock2D",) * 3,
)  # fmt: skip
TEXT = dict(
    vocab_size=VOCABULARY, hidden_size=128, intermediate_size=512, num_hidden_layers=2, num_attention_heads=4,
    max_position_embeddings=TOKENS, projection_dim=128, bos_token_id=VOCABULARY - 2, eos_token_id=VOCABULARY - 1,
    pad_token_id=VOCABULARY - 1,
)  # fmt: skip
SCHEDULE = dict(num_train_timesteps=1000, beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
ADAMW = dict(lr=1e-4, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01)
EMA_DECAY = 0.9999
CLIP = 1.0


def become_base():
    """From here on everything in this module speaks of the base model."""
    global BATCH, VOCABULARY
    BATCH, VOCABULARY = 32, 49408
    UNET.update(block_out_channels=(64, 128, 192), attention_head_dim=(2, 4, 6))
    VAE.update(block_out_channels=(24, 48, 96))
    TEXT.update(vocab_size=VOCABULARY, bos_token_id=VOCABULARY - 2, eos_token_id=VOCABULARY - 1, pad_token_id=VOCABULARY - 1)


def networks(seed=0):
    """U-Net, autoencoder and text encoder with the random weights that diffusers gives them."""
    torch.manual_seed(seed)
    return UNet2DConditionModel(**UNET), AutoencoderKL(**VAE), CLIPTextModel(CLIPTextConfig(**TEXT))


def byte_vocabulary():
    """A tokenizer of single bytes, in the letters that CLIP's vocabulary writes bytes with."""
    plain = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    letters = [chr(b) for b in plain] + [chr(256 + i) for i in range(256 - len(plain))]
    words = [*letters, *(letter + "</w>" for letter in letters)]
    words += [f"unused{i}" for i in range(VOCABULARY - 2 - len(words))] + ["<|startoftext|>", "<|endoftext|>"]
    return {word: i for i, word in enumerate(words)}


def save(folder, unet, vae, text_encoder):
    """A model folder. Its tokenizer is a mere stand-in, for recorded inputs hold token ids."""
    (folder / "tokenizer").mkdir(parents=True)
    (folder / "tokenizer/vocab.json").write_text(json.dumps(byte_vocabulary()))
    (folder / "tokenizer/merges.txt").write_text("#version: 0.2\n")
    unet.save_pretrained(folder / "unet")
    vae.save_pretrained(folder / "vae")
    text_encoder.save_pretrained(folder / "text_encoder")
    DDIMScheduler(**SCHEDULE, clip_sample=False, set_alpha_to_one=False, steps_offset=1).save_pretrained(
        folder / "scheduler"
    )


def record(generator):
    """Inputs of one training step."""
    return {
        "latents": torch.randn(BATCH, 4, LATENT, LATENT, generator=generator),
        "noise": torch.randn(BATCH, 4, LATENT, LATENT, generator=generator),
        "timesteps": torch.randint(0, 1000, (BATCH,), generator=generator),
        "input_ids": torch.randint(0, VOCABULARY - 2, (BATCH, TOKENS), generator=generator),
    }
