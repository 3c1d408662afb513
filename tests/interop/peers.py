"""Small models made by diffusers and transformers, and what they say while loading."""

import contextlib
import logging
import os
import warnings

os.environ["TRANSFORMERS_VERBOSITY"] = "error"  # while importing: it asks for torchvision

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from diffusers.utils import logging as diffusers_logging
from transformers import CLIPTextConfig, CLIPTextModel
from transformers.utils import logging as transformers_logging

for log in (diffusers_logging, transformers_logging):
    log.disable_progress_bar()
    log.disable_default_handler()  # `complaints` listens instead
    log.set_verbosity_warning()

SCHEDULE = dict(
    num_train_timesteps=1000, beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False,
    set_alpha_to_one=False, steps_offset=1,
)  # fmt: skip


def randomise(model, seed):
    """Values at which nothing vanishes or explodes: kernels 1/sqrt(fan in), scales about 1, small biases."""
    generator = torch.Generator().manual_seed(seed)
    tables = {id(m.weight) for m in model.modules() if isinstance(m, torch.nn.Embedding)}
    with torch.no_grad():
        for name, p in model.named_parameters():
            value = torch.randn(p.shape, generator=generator)
            if id(p) in tables:
                p.copy_(value * 0.5)
            elif p.dim() > 1:
                p.copy_(value * p[0].numel() ** -0.5)
            else:
                p.copy_(value * 0.1 + name.endswith("weight"))
    return model.eval()


def text_encoder(tokenizer, seed, **sizes):
    config = CLIPTextConfig(
        vocab_size=len(tokenizer), bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id, max_position_embeddings=77, **sizes,
    )  # fmt: skip
    return randomise(CLIPTextModel(config), seed)


def tiny_vae(seed, **changes):
    config = dict(
        block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4, latent_channels=4, sample_size=16,
        down_block_types=["DownEncoderBlock2D"] * 2, up_block_types=["UpDecoderBlock2D"] * 2,
    )  # fmt: skip
    return randomise(AutoencoderKL(**(config | changes)), seed)


def pipeline(unet, vae, encoder, tokenizer, scheduler=None):
    pipe = StableDiffusionPipeline(
        unet=unet, vae=vae, text_encoder=encoder, tokenizer=tokenizer, safety_checker=None, feature_extractor=None,
        scheduler=scheduler or DDIMScheduler(**SCHEDULE), requires_safety_checker=False,
    )  # fmt: skip
    pipe.set_progress_bar_config(disable=True)
    return pipe


def unet_of(config, seed):
    return randomise(UNet2DConditionModel(**config), seed)


@contextlib.contextmanager
def complaints():
    """Collects what diffusers, transformers and peft warn about meanwhile."""
    heard = []

    class Listener(logging.Handler):
        def emit(self, record):
            heard.append(record.getMessage())

    listener = Listener(logging.WARNING)
    loggers = [logging.getLogger(name) for name in ("diffusers", "transformers", "peft", "huggingface_hub")]
    for logger in loggers:
        logger.addHandler(listener)
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", UserWarning)
            yield heard
        heard += [str(w.message) for w in caught if issubclass(w.category, UserWarning)]
    finally:
        for logger in loggers:
            logger.removeHandler(listener)


def load(folder):
    """Our folder as a pipeline, and what the loaders complained about."""
    with complaints() as heard:
        pipe = StableDiffusionPipeline.from_pretrained(folder, safety_checker=None, local_files_only=True)
    pipe.set_progress_bar_config(disable=True)
    return pipe, heard
