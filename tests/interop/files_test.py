"""Other software's readers on what Emulsion writes: safetensors and TensorBoard."""

import json
import struct
import unittest

import tiny_runs
import torch
from program import load_file
from safetensors import safe_open
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator


class SafetensorsTest(unittest.TestCase):
    def test_every_weights_file_opens_with_its_metadata(self):
        files = sorted(tiny_runs.model("epsilon").rglob("*.safetensors"))
        self.assertEqual(len(files), 3)
        for file in files:
            with self.subTest(file.parent.name), safe_open(file, "pt") as f:
                self.assertEqual(f.metadata()["format"], "pt")
                for name in f.keys():
                    value = f.get_tensor(name)
                    self.assertEqual(value.dtype, torch.float32, name)
                    self.assertTrue(torch.isfinite(value).all(), name)

    def test_a_lora_says_in_its_metadata_what_it_is(self):
        with safe_open(tiny_runs.lora("everything"), "pt") as f:
            about = f.metadata()
            alphas = {name: f.get_tensor(name).item() for name in f.keys() if name.endswith(".alpha")}
            shapes = {name: tuple(f.get_slice(name).get_shape()) for name in f.keys()}
        self.assertEqual(about["ss_network_module"], "networks.lora")
        self.assertEqual((about["ss_network_dim"], float(about["ss_network_alpha"])), ("4", 2.0))
        self.assertEqual(json.loads(about["ss_network_args"]), {"conv_dim": "3", "conv_alpha": "6"})
        conv = {name: alpha for name, alpha in alphas.items() if "_conv1." in name or "downsamplers" in name}
        self.assertTrue(conv)
        self.assertEqual(set(conv.values()), {6.0})
        self.assertEqual({alpha for name, alpha in alphas.items() if name not in conv}, {2.0})
        for name in conv:
            self.assertEqual(shapes[name.replace(".alpha", ".lora_down.weight")][0], 3)
            self.assertEqual(shapes[name.replace(".alpha", ".lora_down.weight")][2:], (3, 3))

    def test_checkpoints_open_too(self):
        files = sorted((tiny_runs.run("v_prediction") / "checkpoints").glob("*.safetensors"))
        self.assertTrue(files)
        tensors = load_file(files[-1])
        kinds = {name.split("/")[0] for name in tensors}
        self.assertGreaterEqual(kinds, {"weight", "optimizer", "ema"})
        # The averages are what the run's result holds.
        unet = load_file(tiny_runs.model("v_prediction") / "unet/diffusion_pytorch_model.safetensors")
        for name, value in unet.items():
            self.assertTrue(torch.equal(tensors[f"ema/{name}"].view_as(value), value), name)


class TensorBoardTest(unittest.TestCase):
    def test_it_reads_the_numbers_of_metrics_jsonl(self):
        run = tiny_runs.run("epsilon")
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        self.assertEqual([line["step"] for line in lines], [1, 2, 3, 4, 5])
        events = EventAccumulator(str(run / "tensorboard"))
        events.Reload()
        tags = set(events.Tags()["scalars"])
        self.assertEqual(tags, {"train/loss", "train/grad_norm", "train/lr", "time/seconds_per_step"})
        for key in ("loss", "grad_norm", "lr"):
            scalars = events.Scalars(f"train/{key}")
            self.assertEqual([s.step for s in scalars], [line["step"] for line in lines])
            for scalar, line in zip(scalars, lines):
                single = struct.unpack("f", struct.pack("f", line[key]))[0]  # TensorBoard holds float32
                self.assertEqual(scalar.value, single, key)
        self.assertTrue(all(s.value > 0 for s in events.Scalars("time/seconds_per_step")))
        times = [s.wall_time for s in events.Scalars("train/loss")]
        self.assertEqual(times, sorted(times))


if __name__ == "__main__":
    unittest.main()
