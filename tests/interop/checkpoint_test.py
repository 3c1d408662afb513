"""Tiny models of every family through `emulsion convert`: diffusers' folders in all their forms, single files, and back.

Weights must come through bit for bit, and diffusers must load what was written without a word about keys.
"""

import functools
import json
import pathlib
import unittest

import peers
import tiny_runs
import torch
from diffusers import (
    AutoencoderKL,
    EulerDiscreteScheduler,
    StableDiffusionInpaintPipeline,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
)
from program import Same, emulsion, generate
from safetensors.torch import load_file, save_file
from transformers import CLIPTextConfig, CLIPTextModelWithProjection, CLIPTokenizer

DOWN, UP = ("CrossAttnDownBlock2D", "DownBlock2D"), ("UpBlock2D", "CrossAttnUpBlock2D")
FAMILIES = {  # input channels, prediction type, whether the text encoder is OpenCLIP's
    "sd1": (4, "epsilon", False),
    "sd1_inpaint": (9, "epsilon", False),
    "sd2": (4, "epsilon", True),
    "sd2_v": (4, "v_prediction", True),
    "sd2_inpaint": (9, "epsilon", True),
    "sdxl": (4, "epsilon", False),
}


@functools.cache
def words():
    return CLIPTokenizer.from_pretrained(tiny_runs.model("epsilon") / "tokenizer")


def second_words():
    """As published: the second tokenizer of SDXL pads with "!"."""
    return CLIPTokenizer.from_pretrained(tiny_runs.model("epsilon") / "tokenizer", pad_token="!")


def second_encoder():
    config = CLIPTextConfig(
        vocab_size=len(words()), bos_token_id=words().bos_token_id, eos_token_id=words().eos_token_id,
        pad_token_id=words().pad_token_id, hidden_size=48, intermediate_size=96, num_hidden_layers=2,
        num_attention_heads=4, projection_dim=48, hidden_act="gelu",
    )  # fmt: skip
    return peers.randomise(CLIPTextModelWithProjection(config), 5)


@functools.cache
def model(family):
    """A pipeline of diffusers with random weights, and the folder in which it lies."""
    channels, prediction, open_clip = FAMILIES[family]
    xl = family == "sdxl"
    unet = dict(
        sample_size=16, in_channels=channels, out_channels=4, block_out_channels=(16, 32), layers_per_block=2,
        norm_num_groups=8, attention_head_dim=[2, 4], cross_attention_dim=80 if xl else 32,
        down_block_types=DOWN[::-1] if xl else DOWN, up_block_types=UP[::-1] if xl else UP,
        use_linear_projection=xl or open_clip,
    )  # fmt: skip
    if xl:
        unet |= dict(
            addition_embed_type="text_time", addition_time_embed_dim=8, projection_class_embeddings_input_dim=96,
            transformer_layers_per_block=[1, 2],
        )  # fmt: skip
    encoder = peers.text_encoder(
        words(), 3, hidden_size=32, intermediate_size=64, num_hidden_layers=3, num_attention_heads=4,
        hidden_act="gelu" if open_clip else "quick_gelu",
    )  # fmt: skip
    scheduler = EulerDiscreteScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1, timestep_spacing="leading",
        prediction_type=prediction,
    )  # fmt: skip
    parts = dict(
        unet=peers.unet_of(unet, 1), vae=peers.tiny_vae(2), text_encoder=encoder, tokenizer=words(), scheduler=scheduler
    )
    if xl:
        pipe = StableDiffusionXLPipeline(**parts, text_encoder_2=second_encoder(), tokenizer_2=second_words())
    else:
        kind = StableDiffusionInpaintPipeline if channels == 9 else StableDiffusionPipeline
        pipe = kind(**parts, safety_checker=None, feature_extractor=None, requires_safety_checker=False)
    folder = tiny_runs.FOLDER / f"checkpoint-{family}"
    pipe.save_pretrained(folder)
    return pipe, folder


def networks(pipe):
    names = ["unet", "vae", "text_encoder", "text_encoder_2"]
    return {name: getattr(pipe, name) for name in names if getattr(pipe, name, None) is not None}


class CheckpointTest(Same, unittest.TestCase):
    def assert_same_weights(self, ours, theirs):
        self.assertEqual(networks(ours).keys(), networks(theirs).keys())
        for part, network in networks(theirs).items():
            mine = networks(ours)[part].state_dict()
            self.assertEqual(mine.keys(), network.state_dict().keys(), part)
            for name, value in network.state_dict().items():
                self.assertTrue(torch.equal(mine[name], value), f"{part} {name}")

    def load(self, kind, source, **options):
        """Loads with diffusers, which must not complain."""
        with peers.complaints() as heard:
            if pathlib.Path(source).is_dir():
                pipe = kind.from_pretrained(source, local_files_only=True, **options)
            else:
                pipe = kind.from_single_file(source, local_files_only=True, **options)
        self.assertEqual([h for h in heard if "key" in h or "weight" in h or "initialized" in h], [], source)
        return pipe

    def test_every_family_goes_to_a_single_file_and_back(self):
        for family in FAMILIES:
            with self.subTest(family):
                pipe, folder = model(family)
                file, back = folder / "out/single.safetensors", folder / "out/back"
                emulsion("convert", folder, file, "--dtype", "float32")
                self.assert_same_weights(self.load(type(pipe), file, config=str(folder)), pipe)
                emulsion("convert", file, back)
                read = self.load(type(pipe), back)
                self.assert_same_weights(read, pipe)
                self.assertEqual(read.scheduler.config.prediction_type, FAMILIES[family][1])

    def test_half_precision_is_rounded_as_torch_rounds(self):
        pipe, folder = model("sdxl")
        for name, dtype in (("float16", torch.float16), ("bfloat16", torch.bfloat16)):
            file = folder / f"out/{name}.safetensors"
            emulsion("convert", folder, file, "--dtype", name)
            self.assertEqual({value.dtype for value in load_file(file).values()}, {dtype})
            read = self.load(StableDiffusionXLPipeline, file, config=str(folder), torch_dtype=dtype)
            for part, network in networks(pipe).items():
                for key, value in network.state_dict().items():
                    self.assertTrue(torch.equal(networks(read)[part].state_dict()[key], value.to(dtype)), key)

    def test_folders_as_they_are_found(self):
        pipe, _ = model("sdxl")
        forms = {
            "variant": dict(variant="fp16"),
            "shards": dict(max_shard_size="20KB"),
            "shards of a variant": dict(max_shard_size="20KB", variant="fp16"),
            "pickles": dict(safe_serialization=False),
        }
        for name, options in forms.items():
            with self.subTest(name):
                folder = tiny_runs.FOLDER / f"form-{name.replace(' ', '-')}"
                pipe.save_pretrained(folder, **options)
                emulsion("convert", folder, folder / "plain")
                self.assert_same_weights(self.load(StableDiffusionXLPipeline, folder / "plain"), pipe)

    def test_checkpoints_of_torch_save(self):
        pipe, folder = model("sd1")
        file = folder / "out/for_torch.safetensors"
        emulsion("convert", folder, file, "--dtype", "float32")
        header = {"config": str(folder)}
        state = load_file(file)
        state["cond_stage_model.transformer.text_model.embeddings.position_ids"] = torch.arange(77)[None]
        state["betas"] = torch.ones(1000, dtype=torch.float64)
        for name, legacy in (("zip", False), ("legacy", True)):
            wrapped = {"state_dict": state, "global_step": 470000, "epoch": 3}
            torch.save(wrapped, folder / f"out/{name}.ckpt", _use_new_zipfile_serialization=not legacy)
            emulsion("convert", folder / f"out/{name}.ckpt", folder / f"out/{name}", "--config", header["config"])
            self.assert_same_weights(self.load(StableDiffusionPipeline, folder / f"out/{name}"), pipe)

    def test_the_projection_is_transposed_unless_kohyas_way_is_asked_for(self):
        pipe, folder = model("sdxl")
        ours = pipe.text_encoder_2.text_projection.weight
        name = "conditioner.embedders.1.model.text_projection"
        for flags, expected in ([], ours.T), (["--kohya-text-projection"], ours):
            file = folder / "out/projection.safetensors"
            emulsion("convert", folder, file, *flags)
            self.assertTrue(torch.equal(load_file(file)[name], expected))

    def test_an_autoencoder_alone_loads_in_diffusers(self):
        pipe, folder = model("sd1")
        file = folder / "out/vae.safetensors"
        emulsion("convert", folder, file, "--component", "vae")
        with peers.complaints() as heard:
            read = AutoencoderKL.from_single_file(str(file), config=str(folder / "vae"), local_files_only=True)
        self.assertEqual([h for h in heard if "key" in h or "weight" in h], [])
        for name, value in pipe.vae.state_dict().items():
            self.assertTrue(torch.equal(read.state_dict()[name], value), name)

    def test_a_single_file_draws_what_its_folder_draws(self):
        for family in ("sd1", "sd2_v", "sdxl"):
            _, folder = model(family)
            file = folder / "out/drawn.safetensors"
            emulsion("convert", folder, file, "--dtype", "float32")
            options = dict(steps=3, cfg=3.0, sampler="euler", size="32x32", seed=4)
            a = generate(folder, ["an owl"], folder / "out/a", **options)
            b = generate(file, ["an owl"], folder / "out/b", **options)
            self.assertTrue(torch.equal(a[0], b[0]), family)
            c = generate(file, ["an owl"], folder / "out/c", vae=folder / "vae", **options)
            self.assertEqual(a[1].tolist(), c[1].tolist(), family)

    def test_verify_finds_what_is_wrong(self):
        _, folder = model("sd2")
        file = folder / "out/verified.safetensors"
        emulsion("convert", folder, file, "--dtype", "float16")
        text = emulsion("verify", file)
        for piece in ("all numbers are finite", "all tensors are there", "the hash that its header says", "short hash"):
            self.assertIn(piece, text)
        emulsion("verify", folder)
        state = load_file(file)
        state["first_stage_model.encoder.conv_in.bias"][2] = float("nan")
        del state["first_stage_model.encoder.conv_out.bias"]
        header = json.loads(file.read_bytes()[8:].split(b"\n", 1)[0][: int.from_bytes(file.read_bytes()[:8], "little")])
        save_file(state, folder / "out/broken.safetensors", header["__metadata__"])
        message = emulsion("verify", folder / "out/broken.safetensors", fails=True)
        self.assertIn("3 things wrong", message)  # a NaN, a missing tensor, another hash

    def test_inspect_says_what_was_told_from_which_tensor(self):
        _, folder = model("sdxl")
        file = folder / "out/inspected.safetensors"
        emulsion("convert", folder, file)
        text = emulsion("inspect", file, "--keys", "*embedders.1*ln_final*")
        self.assertIn("Stable Diffusion XL", text)
        self.assertIn("conditioner.embedders.1.model.token_embedding.weight", text)
        self.assertIn("conditioner.embedders.1.model.ln_final.bias", text)
        self.assertNotIn("input_blocks.0.0.weight  ", text)


if __name__ == "__main__":
    unittest.main()
