"""LoRA files both ways: ours in diffusers, and those of diffusers, peft and kohya's naming in Emulsion."""

import unittest

import peers
import pipeline_modes_test
import tiny_runs
import torch
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline
from diffusers.training_utils import _collate_lora_metadata
from diffusers.utils import convert_state_dict_to_diffusers
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from program import Same, draw, emulsion, generate, load_file
from safetensors.torch import save_file

PROMPTS = ["a unicorn, noto style", "twemoji style unicorn"]
START = torch.randn(2, 4, 16, 16, generator=torch.Generator().manual_seed(6))


def base_pipe():
    return peers.load(tiny_runs.model("epsilon"))[0]


class LoraTest(Same, unittest.TestCase):
    def ours(self, name, *loras):
        folder = tiny_runs.FOLDER / "lora" / name
        return generate(tiny_runs.model("epsilon"), PROMPTS, folder, latents=START, loras=loras)

    def theirs(self, *files):
        """The picture of diffusers with (file, weight) adapters, and its complaints."""
        pipe = base_pipe()
        with peers.complaints() as heard:
            for i, (file, _) in enumerate(files):
                pipe.load_lora_weights(str(file), adapter_name=f"a{i}")
        if [weight for _, weight in files] != [1.0]:  # what loading sets
            pipe.set_adapters([f"a{i}" for i in range(len(files))], [weight for _, weight in files])
        return draw(pipe, PROMPTS, START), heard

    # --- our files in diffusers ---

    def test_our_attention_lora_draws_our_picture_in_diffusers(self):
        file = tiny_runs.lora("attention")
        theirs, heard = self.theirs((file, 1.0))
        # diffusers says so whenever a file holds nothing for the text encoder.
        self.assertEqual([text for text in heard if "safe to ignore" not in text], [])
        self.assert_same_drawing(self.ours("attention", file), theirs)
        self.assert_other_drawing(self.ours("none"), theirs)

    def test_its_weight_means_the_same(self):
        file = tiny_runs.lora("attention")
        self.assert_same_drawing(self.ours("half", f"{file}:0.5"), self.theirs((file, 0.5))[0])
        self.assert_other_drawing(self.ours("full", file), self.ours("half", f"{file}:0.5"))

    def test_our_lora_on_convolutions_and_text_encoder_draws_our_picture_in_diffusers(self):
        file = tiny_runs.lora("everything")
        names = load_file(file).keys()
        for part in ("lora_te_text_model_", "_ff_net_", "_conv1.", "_downsamplers_", "_proj_in."):
            self.assertTrue(any(part in name for name in names), part)
        theirs, heard = self.theirs((file, 1.0))
        self.assertEqual(heard, [])
        self.assert_same_drawing(self.ours("everything", file), theirs)
        self.assert_other_drawing(self.ours("none"), theirs)

    def test_two_loras_at_once(self):
        a, b = tiny_runs.lora("attention"), tiny_runs.lora("everything")
        theirs, _ = self.theirs((a, 0.7), (b, 0.6))
        self.assert_same_drawing(self.ours("both", f"{a}:0.7", f"{b}:0.6"), theirs)

    # --- other trainers' files here ---

    def trained_elsewhere(self, rank, alpha, targets, text=False):
        """A pipeline with live peft adapters whose matrices are random."""
        pipe = base_pipe()
        config = dict(r=rank, lora_alpha=alpha, init_lora_weights=False)
        pipe.unet.add_adapter(LoraConfig(target_modules=targets, **config))
        if text:
            pipe.text_encoder.add_adapter(LoraConfig(target_modules=["q_proj", "out_proj", "fc1"], **config))
        generator = torch.Generator().manual_seed(12)
        for module in (pipe.unet, pipe.text_encoder):
            for name, p in module.named_parameters():
                if ".lora_" in name:
                    p.data = torch.randn(p.shape, generator=generator) * 0.5 * p[0].numel() ** -0.5
        return pipe

    ATTENTION = ["to_q", "to_k", "to_v", "to_out.0"]

    def test_a_file_of_diffusers_training_script_draws_its_picture(self):
        pipe = self.trained_elsewhere(4, 4, self.ATTENTION)
        folder = tiny_runs.FOLDER / "script_lora"
        layers = convert_state_dict_to_diffusers(get_peft_model_state_dict(pipe.unet))
        StableDiffusionPipeline.save_lora_weights(folder, unet_lora_layers=layers)
        file = folder / "pytorch_lora_weights.safetensors"
        theirs = draw(pipe, PROMPTS, START)
        self.assert_same_drawing(self.ours("script", file), theirs)
        self.assert_other_drawing(self.ours("none"), theirs)

    def test_a_file_of_peft_names_with_text_encoder_draws_its_picture(self):
        pipe = self.trained_elsewhere(3, 3, [*self.ATTENTION, "proj_in", "conv2", "ff.net.0.proj"], text=True)
        folder = tiny_runs.FOLDER / "peft_lora"
        StableDiffusionPipeline.save_lora_weights(
            folder, unet_lora_layers=get_peft_model_state_dict(pipe.unet),
            text_encoder_lora_layers=get_peft_model_state_dict(pipe.text_encoder),
        )  # fmt: skip
        file = folder / "pytorch_lora_weights.safetensors"
        self.assert_same_drawing(self.ours("peft", file), draw(pipe, PROMPTS, START))

    def test_the_alpha_in_the_metadata_of_a_diffusers_file_counts(self):
        pipe = self.trained_elsewhere(4, 12, self.ATTENTION, text=True)
        folder = tiny_runs.FOLDER / "alpha_lora"
        StableDiffusionPipeline.save_lora_weights(
            folder, unet_lora_layers=get_peft_model_state_dict(pipe.unet),
            text_encoder_lora_layers=get_peft_model_state_dict(pipe.text_encoder),
            **_collate_lora_metadata({"unet": pipe.unet, "text_encoder": pipe.text_encoder}),
        )  # fmt: skip
        file = folder / "pytorch_lora_weights.safetensors"
        theirs = draw(pipe, PROMPTS, START)
        # That diffusers itself reads it so, and that the alpha matters.
        self.assert_same_drawing(self.theirs((file, 1.0))[0], theirs)
        self.assert_other_drawing(self.theirs((file, 1 / 3))[0], theirs)
        self.assert_same_drawing(self.ours("alpha", file), theirs)

    def test_a_file_in_kohyas_names_draws_its_picture(self):
        pipe = self.trained_elsewhere(4, 2, [*self.ATTENTION, "proj_in", "conv1"], text=True)
        tensors = {}
        for prefix, module in (("lora_unet_", pipe.unet), ("lora_te_text_model_", pipe.text_encoder)):
            for name, value in get_peft_model_state_dict(module).items():
                path, matrix, _ = name.rsplit(".", 2)
                key = prefix + path.replace(".", "_")
                tensors[f"{key}.{'lora_down' if matrix == 'lora_A' else 'lora_up'}.weight"] = value.contiguous()
                tensors[f"{key}.alpha"] = torch.tensor(2.0)
        file = tiny_runs.FOLDER / "kohya_lora.safetensors"
        save_file(tensors, file)
        self.assert_same_drawing(self.ours("kohya", file), draw(pipe, PROMPTS, START))

    # --- SDXL ---

    def test_our_lora_of_sdxl_and_both_text_encoders_draws_our_picture_in_diffusers(self):
        folder, pipe = pipeline_modes_test.sdxl()
        run = tiny_runs.FOLDER / "xl.toml"
        run.write_text(
            f'name = "xl"\nseed = 3\nsteps = 5\n{tiny_runs.COMMON}\n[method]\ntype = "lora"\nrank = 4\nalpha = 2\n'
            'targets = ["unet.*.attn*.to_*", "unet.*.ff.net.*", "text_encoder.*.self_attn.*", "text_encoder_2.*.self_attn.*"]\n'
            f'[optimizer]\nlr = 5e-2\n[model]\npath = "{folder}"\n'
        )
        emulsion("train", run)
        file = tiny_runs.FOLDER / "xl/xl.safetensors"
        names = load_file(file).keys()
        for part in ("lora_unet_", "lora_te1_text_model_", "lora_te2_text_model_"):
            self.assertTrue(any(name.startswith(part) for name in names), part)

        start = START[:1]
        options = dict(latents=start, negative="blurry")
        ours = generate(folder, PROMPTS[:1], tiny_runs.FOLDER / "lora/xl", loras=[file], size="32x32", **options)
        without = generate(folder, PROMPTS[:1], tiny_runs.FOLDER / "lora/xl-none", size="32x32", **options)
        other = pipeline_modes_test.as_pipeline(StableDiffusionXLPipeline, pipe)
        with peers.complaints() as heard:
            other.load_lora_weights(str(file))
        self.assertEqual(heard, [])
        theirs = draw(other, PROMPTS[:1], start, negative="blurry", height=32, width=32)
        other.unload_lora_weights()
        self.assert_same_drawing(ours, theirs)
        self.assert_other_drawing(without, theirs)


if __name__ == "__main__":
    unittest.main()
