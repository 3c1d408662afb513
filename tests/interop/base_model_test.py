"""The base model that comes with Emulsion, in diffusers: nothing missing, the same pictures from the same latents."""

import pathlib
import tempfile
import unittest

import peers
import torch
from program import ROOT, Same, draw, generate

MODEL = ROOT / "models/emoji-64"
PROMPTS = ["a tiger, twemoji style", "an apple on a blue background, noto style"]
START = torch.randn(2, 4, 16, 16, generator=torch.Generator().manual_seed(9))


class BaseModelTest(Same, unittest.TestCase):
    def test_diffusers_draws_the_same_pictures(self):
        pipe, heard = peers.load(MODEL)
        self.assertEqual(heard, [])
        pipe.to(torch.float32)
        with tempfile.TemporaryDirectory() as folder:
            ours = generate(MODEL, PROMPTS, pathlib.Path(folder) / "seen", latents=START, steps=20, cfg=2.5)
            other = generate(MODEL, ["a castle, noto style"] * 2, pathlib.Path(folder) / "other", latents=START, steps=20, cfg=2.5)
        theirs = draw(pipe, PROMPTS, START, steps=20, cfg=2.5)
        self.assert_same_drawing(ours, theirs)
        self.assert_other_drawing(other, theirs)

    def test_it_is_small_enough_to_come_with_the_program(self):
        size = sum(file.stat().st_size for file in MODEL.rglob("*.safetensors"))
        self.assertLess(size, 40_000_000)


if __name__ == "__main__":
    unittest.main()
