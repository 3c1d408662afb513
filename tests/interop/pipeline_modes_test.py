"""The ways of drawing, beside diffusers' own pipelines on tiny random models: seeds, prompts that change, and so on."""

import functools
import unittest

import numpy as np
import peers
import tiny_runs
import torch
from diffusers import (
    DDIMScheduler, DPMSolverMultistepScheduler, EulerAncestralDiscreteScheduler, EulerDiscreteScheduler,
    StableDiffusionImg2ImgPipeline, StableDiffusionInpaintPipeline, StableDiffusionXLImg2ImgPipeline,
    StableDiffusionXLPipeline,
)  # fmt: skip
from PIL import Image
from program import Same, emulsion, generate
from transformers import CLIPTextConfig, CLIPTextModelWithProjection, CLIPTokenizer

FOLDER = tiny_runs.FOLDER / "modes"
UNET = dict(
    sample_size=16, in_channels=4, out_channels=4, block_out_channels=(16, 32), layers_per_block=1, norm_num_groups=8,
    attention_head_dim=4, cross_attention_dim=32, down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
    up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
)  # fmt: skip


@functools.cache
def words():
    return CLIPTokenizer.from_pretrained(tiny_runs.model("epsilon") / "tokenizer")


def encoder(seed, **changes):
    sizes = dict(hidden_size=32, intermediate_size=64, num_hidden_layers=3, num_attention_heads=4, hidden_act="gelu")
    return peers.text_encoder(words(), seed, **(sizes | changes))


def saved(name, pipe):
    pipe.set_progress_bar_config(disable=True)
    pipe.save_pretrained(FOLDER / name, safe_serialization=True)
    return FOLDER / name, pipe


def scheduler(**changes):
    return DDIMScheduler(**(peers.SCHEDULE | dict(timestep_spacing="leading") | changes))


@functools.cache
def plain():
    """A tiny Stable Diffusion 1."""
    return saved("plain", peers.pipeline(peers.unet_of(UNET, 51), peers.tiny_vae(52), encoder(53), words(), scheduler()))


@functools.cache
def like_sd2():
    """A tiny Stable Diffusion 2.1: v prediction, linear projections, the penultimate layer cut off."""
    unet = UNET | dict(use_linear_projection=True, attention_head_dim=[4, 8])
    pipe = peers.pipeline(
        peers.unet_of(unet, 61), peers.tiny_vae(62), encoder(63, num_hidden_layers=2), words(),
        scheduler(prediction_type="v_prediction"),
    )  # fmt: skip
    return saved("like_sd2", pipe)


def with_inpainting_unet(unet):
    """Noisy latents, mask, masked latents."""
    return peers.unet_of(unet | dict(in_channels=9), 71)


@functools.cache
def inpainting():
    return saved("inpainting", peers.pipeline(with_inpainting_unet(UNET), peers.tiny_vae(72), encoder(73), words(), scheduler()))


@functools.cache
def sdxl():
    """A tiny SDXL: two text encoders, the second with a projection, size and crop told to the U-Net."""
    width = 24 + 6 * 8
    unet = UNET | dict(
        cross_attention_dim=56, addition_embed_type="text_time", addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=width, transformer_layers_per_block=[2, 1], use_linear_projection=True,
    )  # fmt: skip
    tokenizer = words()
    config = CLIPTextConfig(
        vocab_size=len(tokenizer), bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
        pad_token_id=0, max_position_embeddings=77, hidden_size=24, intermediate_size=48, num_hidden_layers=3,
        num_attention_heads=4, hidden_act="gelu", projection_dim=24,
    )  # fmt: skip
    second = peers.randomise(CLIPTextModelWithProjection(config), 84)
    pipe = StableDiffusionXLPipeline(
        vae=peers.tiny_vae(82, scaling_factor=0.13025), text_encoder=encoder(83, hidden_act="quick_gelu"),
        text_encoder_2=second, tokenizer=tokenizer, tokenizer_2=tokenizer, unet=peers.unet_of(unet, 81),
        scheduler=EulerDiscreteScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1, timestep_spacing="leading",
        ), add_watermarker=False, force_zeros_for_empty_prompt=True,
    )  # fmt: skip
    return saved("sdxl", pipe)


def as_pipeline(kind, pipe):
    """The same model in another pipeline."""
    checker = {} if "text_encoder_2" in pipe.components else {"requires_safety_checker": False}
    other = kind(**pipe.components, **checker)
    other.set_progress_bar_config(disable=True)
    return other


def picture(size=32):
    """Smooth colours."""
    y, x = np.mgrid[0:size, 0:size] / size
    return Image.fromarray((np.stack([x, y, (1 - x) * y], -1) * 255).round().astype(np.uint8))


def mask(size=32):
    """White where to draw; edges lie between latents."""
    grey = np.zeros((size, size), np.uint8)
    grey[8:24, 12:] = 255
    return Image.fromarray(grey)


def files():
    FOLDER.mkdir(parents=True, exist_ok=True)
    picture().save(FOLDER / "picture.png")
    mask().save(FOLDER / "mask.png")
    return {"init-image": FOLDER / "picture.png"}, {"init-image": FOLDER / "picture.png", "mask": FOLDER / "mask.png"}


def generators(seed, count):
    return [torch.Generator().manual_seed(seed + i) for i in range(count)]


class Modes(Same, unittest.TestCase):
    def ours(self, name, model, prompts, **options):
        return generate(model, prompts, FOLDER / "drawings" / name, steps=8, cfg=3.0, **options)

    def theirs(self, pipe, prompts, **options):
        """Final latents and pictures of a diffusers pipeline."""
        changes = options.pop("at_step_end", lambda step, values: values)
        last = {}

        def keep(_pipe, step, _timestep, values):
            values = changes(step, values)
            last["latents"] = values["latents"].clone()
            return values

        names = ["latents", "prompt_embeds"]
        pictures = pipe(
            list(prompts), **(dict(num_inference_steps=8, guidance_scale=3.0) | options), output_type="np",
            callback_on_step_end=keep, callback_on_step_end_tensor_inputs=names,
        ).images  # fmt: skip
        return last["latents"], (pictures * 255).round().astype(np.uint8)

    def assert_same(self, ours, theirs, latents=1e-4):
        self.assert_same_drawing(ours, theirs, latents)
        self.assertLessEqual(np.abs(ours[1].astype(int) - theirs[1].astype(int)).max(), 2, "pictures")


class SeedTest(Modes):
    def test_seeds_of_the_cpu_draw_what_diffusers_draws(self):
        folder, pipe = plain()
        prompts = ["a red apple", "an owl"]
        for name, kind in (("euler", EulerDiscreteScheduler), ("euler_ancestral", EulerAncestralDiscreteScheduler)):
            with self.subTest(name):
                original = pipe.scheduler
                pipe.scheduler = kind.from_config(original.config)
                theirs = self.theirs(pipe, prompts, generator=generators(123, 2))
                pipe.scheduler = original
                ours = self.ours(f"seed {name}", folder, prompts, seed=123, rng="cpu", sampler=name)
                self.assert_same(ours, theirs)
        other = self.ours("seed nv", folder, prompts, seed=123, rng="nv", sampler="euler_ancestral")
        self.assert_other_drawing(ours, other)


class TimelineTest(Modes):
    def test_a_prompt_that_changes_on_the_way(self):
        folder, pipe = plain()
        with torch.no_grad():
            new, old = pipe.encode_prompt("an owl", "cpu", 1, True, "")

        def change(step, values):  # after step 3, so that steps 0 to 3 read the first text
            return values | {"prompt_embeds": torch.cat([old, new])} if step == 3 else values

        theirs = self.theirs(pipe, ["a red apple"], generator=generators(7, 1), at_step_end=change)
        options = dict(seed=7, rng="cpu", syntax="weighted")
        self.assert_same(self.ours("times", folder, ["[a red apple:an owl:3]"], **options), theirs)
        self.assert_other_drawing(self.ours("other times", folder, ["[a red apple:an owl:1]"], **options), theirs)


SOLVERS = {
    "ddim": DDIMScheduler,
    "euler": EulerDiscreteScheduler,
    "dpmpp_2m": DPMSolverMultistepScheduler,
}


class PictureTest(Modes):
    """Image to image."""

    def test_the_same_picture_at_every_strength_and_solver(self):
        start, _ = files()
        for make, solvers, strengths in ((plain, list(SOLVERS), (0.3, 0.75)), (like_sd2, ["ddim"], (0.6,))):
            folder, base = make()
            for solver in solvers:
                for strength in strengths:
                    with self.subTest(make.__name__, solver=solver, strength=strength):
                        pipe = as_pipeline(StableDiffusionImg2ImgPipeline, base)
                        pipe.scheduler = SOLVERS[solver].from_config(base.scheduler.config)
                        prompts = ["a red apple", "an owl"]
                        theirs = self.theirs(
                            pipe, prompts, image=[picture()] * 2, strength=strength, generator=generators(5, 2)
                        )
                        ours = self.ours(
                            f"img2img {make.__name__} {solver} {strength}", folder, prompts, seed=5, rng="cpu",
                            sampler=solver, strength=strength, **start,
                        )  # fmt: skip
                        self.assert_same(ours, theirs)
        self.assert_other_drawing(ours, self.ours("weaker", folder, prompts, seed=5, rng="cpu", strength=0.3, **start))

    def test_sd2_with_v_prediction_from_noise(self):
        folder, pipe = like_sd2()
        theirs = self.theirs(pipe, ["an owl"], generator=generators(6, 1))
        self.assert_same(self.ours("v", folder, ["an owl"], seed=6, rng="cpu"), theirs)


class InpaintTest(Modes):
    def assert_same_inpainting(self, ours, theirs):
        """Kept pixels are the source's own here; there they went through the autoencoder."""
        self.assertLess(np.abs(ours[0].numpy() - theirs[0].numpy()).max() / np.abs(theirs[0].numpy()).max(), 1e-4)
        drawn = np.asarray(mask()) == 255
        self.assertLessEqual(np.abs(ours[1][0].astype(int) - theirs[1][0].astype(int))[drawn].max(), 2)
        self.assertGreater(theirs[1][0][drawn].std(), 3)
        np.testing.assert_array_equal(ours[1][0][~drawn], np.asarray(picture())[~drawn])

    def test_a_plain_model_blends_at_every_step(self):
        _, start = files()
        folder, base = plain()
        for solver in SOLVERS:
            for strength in (0.5, 0.9):
                with self.subTest(solver, strength=strength):
                    pipe = as_pipeline(StableDiffusionInpaintPipeline, base)
                    pipe.scheduler = SOLVERS[solver].from_config(base.scheduler.config)
                    theirs = self.theirs(
                        pipe, ["a red apple"], image=picture(), mask_image=mask(), height=32, width=32, strength=strength,
                        generator=generators(5, 1),
                    )  # fmt: skip
                    ours = self.ours(
                        f"blend {solver} {strength}", folder, ["a red apple"], seed=5, rng="cpu", sampler=solver,
                        strength=strength, **start,
                    )  # fmt: skip
                    self.assert_same_inpainting(ours, theirs)

    def test_an_inpainting_model_reads_mask_and_masked_picture(self):
        _, start = files()
        folder, base = inpainting()
        pipe = as_pipeline(StableDiffusionInpaintPipeline, base)
        for strength in (0.6, 1.0):
            with self.subTest(strength=strength):
                theirs = self.theirs(
                    pipe, ["a red apple"], image=picture(), mask_image=mask(), height=32, width=32, strength=strength,
                    generator=generators(9, 1),
                )  # fmt: skip
                ours = self.ours(
                    f"nine {strength}", folder, ["a red apple"], seed=9, rng="cpu", strength=strength, **start
                )
                self.assert_same_inpainting(ours, theirs)


class XlTest(Modes):
    PROMPTS = ["a red apple", "a small owl, ink drawing"]

    def theirs_xl(self, pipe, prompts, **options):
        options = dict(prompt=list(prompts), num_inference_steps=8, guidance_scale=3.0) | options
        latents = pipe(**options, output_type="latent").images
        if isinstance(options.get("generator"), list):
            options["generator"] = generators(5, len(prompts))
        return latents, (pipe(**options, output_type="np").images * 255).round().astype(np.uint8)

    def test_text_to_image_at_two_sizes(self):
        folder, pipe = sdxl()
        for size in ("32x32", "48x32"):
            width, height = map(int, size.split("x"))
            for negative in (None, "blurry"):  # without one its states are zeros
                with self.subTest(size, negative=negative):
                    theirs = self.theirs_xl(
                        pipe, self.PROMPTS, negative_prompt=negative and [negative] * 2, generator=generators(5, 2),
                        height=height, width=width,
                    )  # fmt: skip
                    ours = self.ours(
                        f"xl {size} {negative}", folder, self.PROMPTS, seed=5, rng="cpu", size=size, negative=negative
                    )
                    self.assert_same(ours, theirs)
        other = self.ours("xl other", folder, self.PROMPTS, seed=5, rng="cpu", size=size, negative="a dog")
        self.assert_other_drawing(ours, other)

    def test_image_to_image(self):
        start, _ = files()
        folder, base = sdxl()
        pipe = as_pipeline(StableDiffusionXLImg2ImgPipeline, base)
        theirs = self.theirs_xl(
            pipe, self.PROMPTS, image=[picture()] * 2, strength=0.75, generator=generators(5, 2), negative_prompt=["no"] * 2
        )
        ours = self.ours("xl picture", folder, self.PROMPTS, seed=5, rng="cpu", negative="no", **start)
        self.assert_same(ours, theirs)


class TilingTest(Modes):
    def test_tiles_blend_as_in_diffusers(self):
        folder, pipe = plain()
        size = 88  # tiles of 16 x 16 pixels, the last ones cut off
        options = dict(height=size, width=56)
        whole = self.theirs(pipe, ["an owl"], generator=generators(3, 1), **options)
        pipe.vae.enable_tiling()
        tiled = self.theirs(pipe, ["an owl"], generator=generators(3, 1), **options)
        pipe.vae.disable_tiling()
        ours = self.ours("tiled", folder, ["an owl"], seed=3, rng="cpu", size=f"56x{size}", **{"vae-tiling": "on"})
        self.assert_same(ours, tiled)
        self.assertGreater(np.abs(whole[1].astype(int) - tiled[1].astype(int)).max(), 4)

    def test_a_picture_is_encoded_in_tiles(self):
        folder, base = plain()
        pipe = as_pipeline(StableDiffusionImg2ImgPipeline, base)
        FOLDER.mkdir(parents=True, exist_ok=True)
        picture(64).save(FOLDER / "large.png")
        pipe.vae.enable_tiling()
        theirs = self.theirs(pipe, ["an owl"], image=picture(64), strength=0.5, generator=generators(3, 1))
        pipe.vae.disable_tiling()
        ours = self.ours(
            "tiled picture", folder, ["an owl"], seed=3, rng="cpu", strength=0.5,
            **{"vae-tiling": "on", "init-image": FOLDER / "large.png"},
        )  # fmt: skip
        self.assert_same(ours, theirs)


class AgainTest(Modes):
    def test_every_format_draws_its_picture_again(self):
        folder, _ = plain()
        first, again = FOLDER / "again/first.png", FOLDER / "again/second.png"
        emulsion(
            "generate", folder, "(a red apple:1.3), [an owl|a cat]", "--negative", "blurry: \"very\"", "--seed", 11, "--rng",
            "nv", "--steps", 5, "--cfg", 4.5, "--sampler", "euler_ancestral", "--schedule", "karras", "--size", "40x32",
            "--clip-skip", 2, "--cfg-rescale", 0.3, "-o", first,
        )  # fmt: skip
        expected = np.asarray(Image.open(first))
        for ending in ("png", "jpg", "webp"):
            with self.subTest(ending):
                source = first.with_suffix(f".{ending}")
                if ending != "png":
                    emulsion("generate", folder, "--from-image", first, "-o", source)
                emulsion("generate", folder, "--from-image", source, "-o", again)
                np.testing.assert_array_equal(np.asarray(Image.open(again)), expected)
        text = Image.open(first).info["parameters"]
        self.assertIn("Sampler: Euler a, Schedule type: Karras, CFG scale: 4.5", text)
        emulsion("generate", folder, "--from-image", first, "--seed", 12, "-o", again)
        self.assertGreater(np.abs(np.asarray(Image.open(again)).astype(int) - expected).max(), 10)


if __name__ == "__main__":
    unittest.main()
