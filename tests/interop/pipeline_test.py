"""Folders that Emulsion trained, in diffusers: nothing missing, every tensor equal, the same pictures."""

import shutil
import unittest
from unittest import mock

import addressed_noise
import peers
import tiny_runs
import torch
from diffusers import (
    AutoencoderKL, DPMSolverMultistepScheduler, EulerAncestralDiscreteScheduler, EulerDiscreteScheduler,
    UNet2DConditionModel,
)  # fmt: skip
from program import Same, draw, emulsion, generate, load_file
from safetensors.torch import save_file
from transformers import CLIPTextModel

PROMPTS = ["a unicorn, noto style", "a small unicorn on a light blue background"]
START = torch.randn(2, 4, 16, 16, generator=torch.Generator().manual_seed(5))
PARTS = {
    "unet": (UNet2DConditionModel, "diffusion_pytorch_model.safetensors"),
    "vae": (AutoencoderKL, "diffusion_pytorch_model.safetensors"),
    "text_encoder": (CLIPTextModel, "model.safetensors"),
}


class LoadingTest(unittest.TestCase):
    def test_every_tensor_of_ours_arrives_and_none_is_missing(self):
        for part, (kind, file) in PARTS.items():
            with self.subTest(part):
                folder = tiny_runs.model("epsilon") / part
                module, info = kind.from_pretrained(folder, output_loading_info=True)
                for what in ("missing_keys", "unexpected_keys", "mismatched_keys", "error_msgs"):
                    self.assertFalse(info[what], what)
                ours = {name.removeprefix("text_model."): value for name, value in load_file(folder / file).items()}
                theirs = {name.removeprefix("text_model."): value for name, value in module.state_dict().items()}
                self.assertEqual(ours.keys(), theirs.keys())
                for name, value in ours.items():
                    self.assertTrue(torch.equal(value, theirs[name]), name)

    def test_the_pipeline_loads_without_a_complaint(self):
        for prediction in ("epsilon", "v_prediction"):
            with self.subTest(prediction):
                pipe, heard = peers.load(tiny_runs.model(prediction))
                self.assertEqual(heard, [])
                self.assertEqual(pipe.scheduler.config.prediction_type, prediction)

    def test_a_missing_tensor_would_be_heard(self):
        broken = tiny_runs.FOLDER / "broken"
        shutil.copytree(tiny_runs.model("epsilon"), broken, dirs_exist_ok=True)
        file = broken / "text_encoder/model.safetensors"
        tensors = load_file(file)
        tensors.pop(sorted(tensors)[0])
        save_file(tensors, file, metadata={"format": "pt"})
        with peers.complaints() as heard:
            CLIPTextModel.from_pretrained(broken / "text_encoder")
        self.assertTrue(heard)

    def test_the_tokenizer_gives_the_same_prompt_to_both(self):
        pipe, _ = peers.load(tiny_runs.model("epsilon"))
        self.assertEqual(len(pipe.tokenizer), pipe.text_encoder.config.vocab_size)
        self.assertEqual(pipe.tokenizer.model_max_length, 77)
        ids = pipe.tokenizer("a unicorn", padding="max_length").input_ids
        self.assertEqual((ids[0], ids[-1]), (pipe.tokenizer.bos_token_id, pipe.tokenizer.eos_token_id))


class DrawingTest(Same, unittest.TestCase):
    def ours(self, name, model="epsilon", **options):
        return generate(tiny_runs.model(model), PROMPTS, tiny_runs.FOLDER / "drawings" / name, latents=START, **options)

    def test_the_folders_own_scheduler_draws_the_same_picture(self):
        drawings = []
        for prediction in ("epsilon", "v_prediction"):
            with self.subTest(prediction):
                ours = self.ours(prediction, prediction)
                theirs = draw(peers.load(tiny_runs.model(prediction))[0], PROMPTS, START)
                self.assert_same_drawing(ours, theirs)
                drawings.append(ours)
        self.assert_other_drawing(*drawings)

    def test_a_negative_prompt_and_the_number_of_steps_count_alike(self):
        options = dict(negative="a red apple", steps=11, cfg=7.5)
        ours = self.ours("negative", **options)
        theirs = draw(peers.load(tiny_runs.model("epsilon"))[0], PROMPTS, START, **options)
        self.assert_same_drawing(ours, theirs)

    def test_without_guidance(self):
        ours = self.ours("plain", cfg=1)
        theirs = draw(peers.load(tiny_runs.model("epsilon"))[0], PROMPTS, START, cfg=1.0)
        self.assert_same_drawing(ours, theirs)

    def test_other_solvers_draw_the_same_picture(self):
        cases = {
            "euler": (EulerDiscreteScheduler, {}, {}),
            "euler linspace": (EulerDiscreteScheduler, dict(timestep_spacing="linspace"), dict(schedule="linspace")),
            "dpmpp_2m": (DPMSolverMultistepScheduler, {}, {}),
            "dpmpp_2m karras": (DPMSolverMultistepScheduler, dict(use_karras_sigmas=True), dict(schedule="karras")),
            "dpmpp_2m trailing": (
                DPMSolverMultistepScheduler, dict(timestep_spacing="trailing"), dict(schedule="trailing"),
            ),
        }  # fmt: skip
        for prediction, names in (("epsilon", list(cases)), ("v_prediction", ["euler", "dpmpp_2m"])):
            pipe, _ = peers.load(tiny_runs.model(prediction))
            original = pipe.scheduler.config
            for name in names:
                scheduler, theirs, ours = cases[name]
                with self.subTest(name, prediction=prediction):
                    pipe.scheduler = scheduler.from_config(original, **theirs)
                    sampler = name.split()[0]
                    mine = self.ours(f"{prediction} {name}", prediction, sampler=sampler, **ours)
                    self.assert_same_drawing(mine, draw(pipe, PROMPTS, START))

    def test_the_ancestral_solver_draws_the_same_picture_from_the_same_noise(self):
        pipe, _ = peers.load(tiny_runs.model("epsilon"))
        pipe.scheduler = EulerAncestralDiscreteScheduler.from_config(pipe.scheduler.config)
        calls = iter(range(100))

        def ours_noise(shape, **_):
            step = 1 + next(calls)
            return torch.cat([addressed_noise.normal(40 + i, (1, *shape[1:]), step) for i in range(shape[0])])

        module = "diffusers.schedulers.scheduling_euler_ancestral_discrete.randn_tensor"
        with mock.patch(module, ours_noise):
            theirs = draw(pipe, PROMPTS, START)
        ours = self.ours("ancestral", sampler="euler_ancestral", seed=40)
        self.assert_same_drawing(ours, theirs)
        self.assert_other_drawing(ours, self.ours("ancestral 2", sampler="euler_ancestral", seed=50))

    def test_latents_drawn_from_a_seed_are_those_of_the_documented_generator(self):
        seeded = generate(tiny_runs.model("epsilon"), PROMPTS, tiny_runs.FOLDER / "drawings/seeded", seed=7)
        start = torch.cat([addressed_noise.normal(7 + i, (1, 4, 16, 16), 0) for i in range(2)])
        self.assertLess(abs(start.mean()), 0.1)
        self.assertLess(abs(start.std() - 1), 0.1)
        theirs = draw(peers.load(tiny_runs.model("epsilon"))[0], PROMPTS, start)
        self.assert_same_drawing(seeded, theirs)

    def test_another_prompt_gives_another_picture(self):
        other = generate(
            tiny_runs.model("epsilon"), ["a red apple"] * 2, tiny_runs.FOLDER / "drawings/apple", latents=START
        )
        self.assert_other_drawing(self.ours("unicorn"), other)

    def test_inspect_names_what_diffusers_finds_in_the_folder(self):
        text = emulsion("inspect", tiny_runs.model("epsilon"))
        for part in PARTS:
            self.assertIn(part, text)


if __name__ == "__main__":
    unittest.main()
