"""Folders that diffusers saved, of odd sizes, in Emulsion: the same latents and pictures."""

import functools
import shutil
import unittest

import peers
import tiny_runs
import torch
from diffusers import DDIMScheduler, EulerDiscreteScheduler, IPNDMScheduler, PNDMScheduler
from program import Same, draw, emulsion, generate
from transformers import CLIPTokenizer

PROMPTS = ["a red apple on a table", "an owl, ink drawing"]
NEGATIVE = "blurry, a dog"


def tokenizer():
    return CLIPTokenizer.from_pretrained(tiny_runs.model("epsilon") / "tokenizer")


def saved(name, pipe):
    folder = tiny_runs.FOLDER / name
    pipe.save_pretrained(folder, safe_serialization=True)
    return folder, pipe


@functools.cache
def like_sd1():
    """Convolutions as projections, one number of heads for all levels, quick GELU, epsilon; sides that differ."""
    unet = dict(
        sample_size=10, in_channels=4, out_channels=4, block_out_channels=(24, 36, 48), layers_per_block=2,
        norm_num_groups=6, attention_head_dim=6, cross_attention_dim=40, use_linear_projection=False,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
    )  # fmt: skip
    vae = dict(
        block_out_channels=(8, 12, 16, 24), layers_per_block=2, norm_num_groups=4, scaling_factor=0.18215,
        sample_size=80, mid_block_add_attention=True, down_block_types=["DownEncoderBlock2D"] * 4,
        up_block_types=["UpDecoderBlock2D"] * 4,
    )  # fmt: skip
    words = tokenizer()
    encoder = peers.text_encoder(
        words, 33, hidden_size=40, intermediate_size=88, num_hidden_layers=3, num_attention_heads=5,
        hidden_act="quick_gelu",
    )  # fmt: skip
    # The scheduler of Stable Diffusion 1.5's own folder; a solver is named at drawing.
    scheduler = PNDMScheduler(
        num_train_timesteps=1000, beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1,
        skip_prk_steps=True, set_alpha_to_one=False,
    )  # fmt: skip
    pipe = peers.pipeline(peers.unet_of(unet, 31), peers.tiny_vae(32, **vae), encoder, words, scheduler)
    return saved("like_sd1", pipe)


@functools.cache
def like_sd2():
    """Linear projections, heads per level, GELU, v prediction, another latent width, no VAE attention."""
    unet = dict(
        sample_size=12, in_channels=3, out_channels=3, block_out_channels=(16, 32), layers_per_block=1,
        norm_num_groups=8, attention_head_dim=[2, 8], cross_attention_dim=48, use_linear_projection=True,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
    )  # fmt: skip
    words = tokenizer()
    encoder = peers.text_encoder(
        words, 43, hidden_size=48, intermediate_size=96, num_hidden_layers=2, num_attention_heads=6,
        hidden_act="gelu", projection_dim=20,
    )  # fmt: skip
    scheduler = DDIMScheduler(
        beta_start=0.0001, beta_end=0.02, beta_schedule="linear", prediction_type="v_prediction", clip_sample=False,
        timestep_spacing="trailing", rescale_betas_zero_snr=True, set_alpha_to_one=True,
        steps_offset=1,
    )  # fmt: skip
    vae = peers.tiny_vae(42, latent_channels=3, mid_block_add_attention=False, scaling_factor=0.7)
    return saved("like_sd2", peers.pipeline(peers.unet_of(unet, 41), vae, encoder, words, scheduler))


def start(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(17))


class ForeignFolderTest(Same, unittest.TestCase):
    def test_a_folder_like_sd1_gives_the_same_latents_at_a_wide_size(self):
        folder, pipe = like_sd1()
        pipe.scheduler = DDIMScheduler.from_pretrained(folder, subfolder="scheduler", clip_sample=False)
        latents = start(2, 4, 8, 12)
        theirs = draw(pipe, PROMPTS, latents, negative=NEGATIVE, cfg=5.0, height=64, width=96)
        ours = generate(
            folder, PROMPTS, folder / "ours", latents=latents, negative=NEGATIVE, cfg=5.0, size="96x64", sampler="ddim"
        )
        self.assert_same_drawing(ours, theirs)
        unguided = draw(pipe, PROMPTS, latents, cfg=1.0, height=64, width=96)
        self.assert_other_drawing(unguided, theirs)

    def test_another_solver_on_the_same_folder(self):
        folder, pipe = like_sd1()
        pipe.scheduler = EulerDiscreteScheduler.from_pretrained(folder, subfolder="scheduler")
        latents = start(2, 4, 10, 10)
        theirs = draw(pipe, PROMPTS, latents, negative=NEGATIVE)
        ours = generate(folder, PROMPTS, folder / "euler", latents=latents, negative=NEGATIVE, sampler="euler")
        self.assert_same_drawing(ours, theirs)

    def test_a_solver_that_is_not_built_is_refused_with_a_remedy(self):
        folder = like_sd1()[0]
        other = shutil.copytree(folder, folder.with_name("with_ipndm"))
        IPNDMScheduler().save_pretrained(other / "scheduler")
        message = emulsion("generate", other, "an owl", "-o", other / "no.png", fails=True)
        self.assertIn("IPNDMScheduler", message)
        self.assertIn("--sampler", message)

    def test_a_folder_like_sd2_gives_the_same_latents_with_its_own_scheduler(self):
        folder, pipe = like_sd2()
        latents = start(2, 3, 12, 12)
        # Numbers of steps that divide 1000: with others DDIMScheduler steps to timesteps that it does not visit.
        options = dict(negative=NEGATIVE, steps=8, cfg=3.0)
        theirs = draw(pipe, PROMPTS, latents, **options)
        ours = generate(folder, PROMPTS, folder / "ours", latents=latents, **options)
        # At zero terminal SNR the solvers' largest sigma is 4096 here and infinite there.
        self.assert_same_drawing(ours, theirs, latents=1e-3)
        self.assert_other_drawing(draw(pipe, PROMPTS, latents, **options | dict(negative="a cat")), theirs)

    def test_a_prompt_over_77_tokens_counts_in_windows_of_75(self):
        folder, pipe = like_sd2()
        text = " ".join(f"{colour} {thing}" for colour in ("red", "blue", "green", "black") for thing in
                        ("owl", "dog", "cat", "tree", "boat", "house", "star", "cup", "hat", "road"))  # fmt: skip
        words = pipe.tokenizer
        ids = words(text, add_special_tokens=False).input_ids
        self.assertGreater(len(ids), 80)
        self.assertNotIn(",", text)  # windows may end early at commas
        windows = [ids[i : i + 75] for i in range(0, len(ids), 75)]
        rows = [
            [words.bos_token_id, *w, words.eos_token_id] + [words.pad_token_id] * (75 - len(w)) for w in windows
        ]
        empty = [words.bos_token_id, words.eos_token_id] + [words.pad_token_id] * 75
        with torch.no_grad():
            states = pipe.text_encoder(torch.tensor(rows)).last_hidden_state.flatten(0, 1)[None]
            none = pipe.text_encoder(torch.tensor([empty])).last_hidden_state.repeat(1, len(rows), 1)
        latents = start(1, 3, 12, 12)
        options = dict(steps=8, cfg=3.0)
        theirs = draw(pipe, [text], latents, prompt_embeds=states, negative_prompt_embeds=none, **options)
        ours = generate(folder, [text], folder / "long", latents=latents, **options)
        self.assert_same_drawing(ours, theirs, latents=1e-3)
        self.assert_other_drawing(draw(pipe, [text], latents, **options), theirs)  # cut after 75


if __name__ == "__main__":
    unittest.main()
