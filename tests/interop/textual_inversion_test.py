"""Words of textual inversion, alone and beside an adapter: ours in diffusers, the same pictures."""

import unittest

import peers
import tiny_runs
import torch
from program import Same, draw, generate, load_file

PROMPTS = ["a zork", "two zork and a unicorn"]
START = torch.randn(2, 4, 16, 16, generator=torch.Generator().manual_seed(9))


class TextualInversionTest(Same, unittest.TestCase):
    def ours(self, name, loras=(), **options):
        return generate(tiny_runs.model("epsilon"), PROMPTS, tiny_runs.FOLDER / "words" / name, latents=START, loras=loras, **options)

    def theirs(self, word=None, lora=None):
        pipe = peers.load(tiny_runs.model("epsilon"))[0]
        if word is not None:
            pipe.load_textual_inversion(str(word), token="zork")
        if lora is not None:
            pipe.load_lora_weights(str(lora))
        return draw(pipe, PROMPTS, START)

    def test_our_word_draws_our_picture_in_diffusers(self):
        folder = tiny_runs.run("word")
        self.assertEqual(list(load_file(folder / "zork.safetensors")), ["emb_params"])
        theirs = self.theirs(folder / "zork.safetensors")
        self.assert_same_drawing(self.ours("word", embeddings=folder), theirs)
        self.assert_other_drawing(self.ours("none"), theirs)

    def test_a_word_and_its_adapter_draw_our_picture_in_diffusers(self):
        folder = tiny_runs.run("apart")
        lora = folder / "apart.safetensors"
        self.assertFalse([name for name in load_file(lora) if name.startswith("bundle_emb")])
        theirs = self.theirs(folder / "zork.safetensors", lora)
        self.assert_same_drawing(self.ours("apart", [lora], embeddings=folder), theirs)
        self.assert_other_drawing(self.ours("without", [lora]), theirs)
        # Together in one file, whose run was the same.
        bundled = tiny_runs.lora("bundled")
        self.assertEqual([n for n in load_file(bundled) if n.startswith("bundle_emb")], ["bundle_emb.zork.string_to_param.*"])
        self.assert_same_drawing(self.ours("bundled", [bundled]), theirs)


if __name__ == "__main__":
    unittest.main()
