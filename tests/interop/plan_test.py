"""What `train --dry-run` says that a run will need, against what the run then needs."""

import itertools
import re
import tempfile
import unittest
from pathlib import Path

from program import ROOT, emulsion

METHODS = {
    "lora": 'type = "lora"\ntargets = ["unet.*.attn*.to_*", "text_encoder.*.self_attn.*_proj"]\n',
    "lokr": 'type = "lora"\nalgo = "lokr"\n',
    "whole": 'type = "diffusion"\n',
    "unet": 'type = "diffusion"\ntrain_text_encoder = false\n',
    "word": 'type = "textual_inversion"\ntoken = "zork"\nvectors = 2\n',
    "hypernetwork": 'type = "hypernetwork"\n',
    "autoencoder": 'type = "autoencoder"\n',
}
SIZES = [(64, 16), (128, 4), (192, 1)]  # picture and batch
# One of each pair of method and size, without the first's last, which says nothing that others do not: 20.
CONFIGS = list(itertools.product(METHODS, SIZES))[:-1]


def gigabytes(text):
    return float(re.search(r"([\d.]+) GB of memory at most", text).group(1))


class PlanTest(unittest.TestCase):
    def test_its_memory_is_that_of_the_run(self):
        needs = []
        for i, (method, (size, batch)) in enumerate(CONFIGS):
            with self.subTest(method=method, size=size, batch=batch), tempfile.TemporaryDirectory() as folder:
                file = Path(folder) / "run.toml"
                file.write_text(
                    f'name = "run"\noutput = "{folder}"\nsteps = 2\nbatch_size = {batch}\ndtype = "float32"\n'
                    # Two lanes' peaks meet or do not, as the machine's other work has it.
                    f'accumulate = {1 + i % 2}\nlanes = 1\n[method]\n{METHODS[method]}[model]\npath = "{ROOT}/models/emoji-64"\n'
                    f'[data]\nresolution = {size}\nbuckets = false\n[[data.sources]]\npath = "{ROOT}/data/emoji/subject"\ntrigger = "zork"\n'
                    f"[ema]\nenabled = {str(i % 3 == 0).lower()}\n[preview]\nevery = {2 * (i % 2)}\nsteps = 2\nprompts = ['a zork']\n[checkpoint]\nevery = 0\n"
                )
                planned = gigabytes(emulsion("train", file, "--dry-run", "--json"))
                self.assertEqual([path.name for path in Path(folder).iterdir()], ["run.toml"], "a dry run leaves nothing")
                needed = gigabytes(emulsion("train", file, "--json"))
                self.assertLess(abs(planned / needed - 1), 0.15, f"planned {planned} GB, needed {needed} GB")
                needs.append(needed)
        self.assertGreater(max(needs), 2 * min(needs), "the configurations need the same; the comparison would say nothing")


if __name__ == "__main__":
    unittest.main()
