"""`emulsion replay` on recorded inputs: losses, gradients and ten steps, against diffusers, transformers and peft."""

import functools
import json
import math
import unittest

import peers
import tiny_runs
import torch
import torch.nn.functional as F
from diffusers import DDIMScheduler, DDPMScheduler, UNet2DConditionModel
from diffusers.optimization import get_scheduler
from peft import LoraConfig
from peft.utils import set_peft_model_state_dict
from program import GOLDEN, emulsion, json_lines, load_file, relative_difference
from safetensors import safe_open
from safetensors.torch import save_file
from transformers import CLIPTokenizer

STEPS = 10
RECORDING = GOLDEN / "train_trace_unet.safetensors"
ADAMW = dict(lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01)
FOLDER = tiny_runs.FOLDER / "replay"


@functools.cache
def golden(name):
    return load_file(GOLDEN / f"{name}.safetensors")


def golden_unet():
    """The U-Net with the golden file's initial weights."""
    with safe_open(RECORDING, "pt") as f:
        config = json.loads(f.metadata()["config"])
    unet = UNet2DConditionModel.from_config(config)
    prefix = "initial.param."
    values = {n.removeprefix(prefix): v for n, v in golden(RECORDING.stem).items() if n.startswith(prefix)}
    unet.load_state_dict(values)
    return unet.train()


def new_text_encoder(words):
    return peers.text_encoder(
        words, 61, hidden_size=24, intermediate_size=48, num_hidden_layers=2, num_attention_heads=3, hidden_act="gelu"
    ).train()


@functools.cache
def model_folder(prediction):
    """The golden U-Net in a folder with a text encoder and an autoencoder that fit."""
    words = CLIPTokenizer.from_pretrained(tiny_runs.model("epsilon") / "tokenizer")
    scheduler = DDIMScheduler(**peers.SCHEDULE, prediction_type=prediction)
    pipe = peers.pipeline(golden_unet(), peers.tiny_vae(62), new_text_encoder(words), words, scheduler)
    folder = FOLDER / prediction
    pipe.save_pretrained(folder)
    return folder


def replay(name, method, recording=RECORDING, prediction="epsilon", more="", options=()):
    """Runs `emulsion replay`; returns the output's tensors."""
    file, out = FOLDER / f"{name}.toml", FOLDER / f"{name}.safetensors"
    folder = model_folder(prediction)
    file.write_text(
        f'name = "{name}"\nsteps = {STEPS}\nclip = 1.0\nthreads = 1\n[method]\n{method}\n[model]\npath = "{folder}"\n'
        '[[data.sources]]\npath = "data/emoji/subject"\n'
        f"[optimizer]\nlr = 1e-3\nbeta1 = 0.9\nbeta2 = 0.999\neps = 1e-8\nweight_decay = 0.01\ndecay_norms_and_biases = false\n{more}\n"
    )
    printed = emulsion("replay", file, recording, "-o", out, "--json", *options)
    tensors = load_file(out)
    losses = [event["loss"] for event in json_lines(printed) if event["event"] == "loss"]
    assert losses == [tensors[f"step.{k}.loss"].item() for k in range(len(losses))] and losses, printed
    return tensors


def step_inputs(recorded, k):
    return {name: recorded[f"step.{k}.{name}"] for name in ("latents", "noise", "timesteps")}


def loss_of(unet, inputs, context, prediction="epsilon"):
    """The loss of diffusers' training scripts, and the network's output."""
    scheduler = DDPMScheduler(**{k: v for k, v in peers.SCHEDULE.items() if k not in ("set_alpha_to_one",)})
    latents, noise, timesteps = inputs["latents"], inputs["noise"], inputs["timesteps"]
    out = unet(scheduler.add_noise(latents, noise, timesteps), timesteps, context).sample
    v = prediction == "v_prediction"
    target = scheduler.get_velocity(latents, noise, timesteps) if v else noise
    return F.mse_loss(out, target), out


def train(modules, run_loss, decay_all=False, schedule=None):
    """Ten steps of torch's AdamW; matrices decay, norms and biases do not, unless `decay_all`."""
    params = [p for m in modules for p in m.parameters() if p.requires_grad]
    matrices, vectors = [p for p in params if decay_all or p.dim() > 1], [p for p in params if p.dim() <= 1]
    groups = [{"params": matrices}]
    if not decay_all:
        groups.append({"params": vectors, "weight_decay": 0.0})
    optimizer = torch.optim.AdamW(groups, **ADAMW, foreach=False)
    rates = get_scheduler(schedule[0], optimizer, *schedule[1:]) if schedule else None
    losses, norms = [], []
    for k in range(STEPS):
        loss, _ = run_loss(k)
        optimizer.zero_grad()
        loss.backward()
        norms.append(torch.nn.utils.clip_grad_norm_(params, 1.0).item())
        optimizer.step()
        if rates:
            rates.step()
        losses.append(loss.item())
    return losses, norms


# diffusers' own float32 gradients lie up to 3e-5 from its float64 ones on these networks.
GRADIENT = 5e-5


class Claims(unittest.TestCase):
    def assert_losses(self, ours, losses, norms=None, tolerance=1e-5, norm_tolerance=1e-4):
        for k, loss in enumerate(losses):
            self.assertLess(abs(ours[f"step.{k}.loss"].item() - loss) / loss, tolerance, f"loss of step {k}")
        for k, norm in enumerate(norms or []):
            self.assertLess(abs(ours[f"step.{k}.grad_norm"].item() - norm) / norm, norm_tolerance, f"norm of step {k}")
        self.assertNotIn(f"step.{len(losses)}.loss", ours)

    def assert_tensors(self, ours, theirs, tolerance=GRADIENT):
        """Every tensor of theirs is ours, and nothing else is."""
        self.assertEqual(ours.keys(), theirs.keys())
        worst = max((relative_difference(ours[n], v), n) for n, v in theirs.items())
        self.assertLess(worst[0], tolerance, worst[1])

    def assert_gradients(self, ours, k, theirs):
        """Gradients of step k; those that are zero in exact arithmetic are rounding noise in both."""
        prefix = f"step.{k}.grad."
        mine = {n.removeprefix(prefix): v for n, v in ours.items() if n.startswith(prefix)}
        self.assertEqual(mine.keys(), theirs.keys())
        noise = [n for n in theirs if n.endswith("k_proj.bias")]
        for name in noise:  # keys' biases shift all scores of a row alike
            self.assertLess(mine[name].abs().max().item(), 1e-6, name)
        self.assert_tensors(
            {n: v for n, v in mine.items() if n not in noise}, {n: v for n, v in theirs.items() if n not in noise}
        )


def gradients(module, prefix="", rename=lambda n: n):
    return {prefix + rename(n): p.grad.clone() for n, p in module.named_parameters() if p.grad is not None}


class DenoiserReplayTest(Claims):
    METHOD = 'type = "diffusion"\ntrain_text_encoder = false'

    def test_losses_and_every_gradient_of_the_unet(self):
        for prediction in ("epsilon", "v_prediction"):
            with self.subTest(prediction):
                ours = replay(f"gradients-{prediction}", self.METHOD, prediction=prediction)
                recorded = golden(RECORDING.stem)
                for k in (0, STEPS - 1):
                    unet = golden_unet()
                    loss, out = loss_of(unet, step_inputs(recorded, k), recorded[f"step.{k}.context"], prediction)
                    loss.backward()
                    self.assertLess(abs(ours[f"step.{k}.loss"].item() / loss.item() - 1), 1e-5)
                    self.assertLess(relative_difference(ours[f"step.{k}.prediction"], out.detach()), 1e-5)
                    self.assert_gradients(ours, k, gradients(unet))

    def test_ten_steps_of_the_unet(self):
        recorded = golden(RECORDING.stem)
        for prediction, prefix in (("epsilon", ""), ("v_prediction", "v.")):
            with self.subTest(prediction):
                ours = replay(f"steps-{prediction}", self.METHOD, prediction=prediction, options=["--update"])
                unet = golden_unet()

                def run_loss(k):
                    return loss_of(unet, step_inputs(recorded, k), recorded[f"step.{k}.context"], prediction)

                self.assert_losses(ours, *train([unet], run_loss))
                final = {n.removeprefix("final."): v for n, v in ours.items() if n.startswith("final.")}
                self.assert_tensors(final, dict(unet.state_dict()), 2e-4)  # AdamW enlarges rounding
                # The golden trace also lets norms and biases decay, so it is left a little on the way.
                losses = [recorded[f"{prefix}step.{k}.loss"].item() for k in range(STEPS)]
                norms = [recorded[f"{prefix}step.{k}.grad_norm"].item() for k in range(STEPS)]
                self.assert_losses({k: v for k, v in ours.items() if ".0." in k}, losses[:1], norms[:1])
                self.assert_losses(ours, losses, norms, tolerance=1e-4, norm_tolerance=2e-3)

    def test_weightings_and_huber_losses(self):
        recorded = golden(RECORDING.stem)
        inputs = step_inputs(recorded, 0)
        alphas = DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear").alphas_cumprod
        snr = (alphas / (1 - alphas))[inputs["timesteps"]]
        _, out = loss_of(golden_unet(), inputs, recorded["step.0.context"])
        difference = out - inputs["noise"]
        # train_text_to_image.py with --snr_gamma
        weighted = (difference.square().mean((1, 2, 3)) * torch.clamp(snr, max=5.0) / snr).mean().item()
        ours = replay("snr", self.METHOD, more='[objective]\nweighting = "min_snr"\nmin_snr_gamma = 5.0')
        self.assertLess(abs(ours["step.0.loss"].item() / weighted - 1), 1e-5)
        # diffusers' conditional_loss of the "huber" kind
        c = 0.1
        huber = (2 * c * ((difference.square() + c**2).sqrt() - c)).mean().item()
        ours = replay("huber", self.METHOD, more=f'[objective]\nloss = "huber"\nhuber_c = {c}')
        self.assertLess(abs(ours["step.0.loss"].item() / huber - 1), 1e-5)
        # what sd-scripts computes with --loss_type smooth_l1 --huber_schedule snr --debiased_estimation_loss
        turn = ((1 - c) / (1 + snr.rsqrt()) ** 2 + c).view(-1, 1, 1, 1)
        smooth = (2 * ((difference.square() + turn**2).sqrt() - turn)).mean((1, 2, 3))
        debiased = (smooth / snr.clamp(max=1000).sqrt()).mean().item()
        options = f'weighting = "debiased"\nloss = "smooth_l1"\nhuber_c = {c}\nhuber_schedule = "snr"'
        ours = replay("debiased", self.METHOD, more="[objective]\n" + options)
        self.assertLess(abs(ours["step.0.loss"].item() / debiased - 1), 1e-5)

    def test_the_text_encoder_trained_along(self):
        words = CLIPTokenizer.from_pretrained(tiny_runs.model("epsilon") / "tokenizer")
        generator = torch.Generator().manual_seed(63)
        recorded = {}
        for k in range(STEPS):
            recorded |= {f"step.{k}.{n}": v for n, v in step_inputs(golden(RECORDING.stem), k).items()}
            ids = torch.full((2, 77), words.eos_token_id)
            ids[:, 0] = words.bos_token_id
            ids[:, 1:20] = torch.randint(0, len(words) - 2, (2, 19), generator=generator)
            recorded[f"step.{k}.input_ids"] = ids
        model_folder("epsilon")
        recording = FOLDER / "with_ids.safetensors"
        save_file(recorded, recording)
        method = 'type = "diffusion"\ntrain_text_encoder = true'
        schedule = '[schedule]\nshape = "cosine"\nwarmup_steps = 2'
        unet, encoder = golden_unet(), new_text_encoder(words)

        def run_loss(k):
            context = encoder(recorded[f"step.{k}.input_ids"]).last_hidden_state
            return loss_of(unet, step_inputs(recorded, k), context)

        loss, _ = run_loss(0)
        loss.backward()
        still = replay("ids", method, recording)
        theirs = gradients(unet) | gradients(encoder, "text_model.", lambda n: n.removeprefix("text_model."))
        self.assert_gradients(still, 0, theirs)

        unet, encoder = golden_unet(), new_text_encoder(words)
        ours = replay("ids-update", method, recording, more=schedule, options=["--update"])
        self.assert_losses(ours, *train([unet, encoder], run_loss, schedule=("cosine", None, 2, STEPS)))
        # A rate that is never 0 would give other losses: the cosine matters.
        self.assertFalse(math.isclose(ours["step.9.loss"].item(), still["step.9.loss"].item(), rel_tol=1e-4))


class LoraReplayTest(Claims):
    """tools/golden/lora.py made the adapters and their ten steps with peft."""

    TARGETS = {"lora_peft": ["unet.*.attn*.to_*"], "lora_peft_conv": ["unet.*.attn*.to_*", "unet.*.conv1"]}

    def run_replay(self, name, options=()):
        model_folder("epsilon")
        adapter = FOLDER / f"{name}-adapter.safetensors"
        prefix = "adapter.kohya."
        save_file({n.removeprefix(prefix): v for n, v in golden(name).items() if n.startswith(prefix)}, adapter)
        method = f'type = "lora"\nrank = 4\nalpha = 8\ntargets = {json.dumps(self.TARGETS[name])}'
        return replay(f"{name}-{len(options)}", method, options=["--adapter", adapter, *options])

    @staticmethod
    def kohya(name):
        """peft's name of a matrix -> kohya's."""
        path, matrix = name.replace(".default", "").removeprefix("unet.").removesuffix(".weight").rsplit(".", 1)
        return f"lora_unet_{path.replace('.', '_')}.lora_{'down' if matrix == 'lora_A' else 'up'}.weight"

    def test_losses_and_gradients_of_the_adapter(self):
        recorded = golden(RECORDING.stem)
        for name in self.TARGETS:
            with self.subTest(name):
                ours = self.run_replay(name)
                unet = golden_unet().requires_grad_(False)
                with safe_open(GOLDEN / f"{name}.safetensors", "pt") as f:
                    targets = json.loads(f.metadata()["targets"])
                unet.add_adapter(LoraConfig(r=4, lora_alpha=8, target_modules=targets))
                prefix = "adapter.peft.unet."
                values = {n.removeprefix(prefix): v for n, v in golden(name).items() if n.startswith(prefix)}
                outcome = set_peft_model_state_dict(unet, values)
                self.assertFalse(outcome.unexpected_keys)
                loss, _ = loss_of(unet, step_inputs(recorded, 0), recorded["step.0.context"])
                loss.backward()
                self.assertLess(abs(ours["step.0.loss"].item() / loss.item() - 1), 1e-5)
                self.assert_gradients(ours, 0, gradients(unet, rename=self.kohya))

    def test_ten_steps_of_the_adapter(self):
        for name in self.TARGETS:
            with self.subTest(name):
                ours = self.run_replay(name, ["--update"])
                theirs = golden(name)
                self.assert_losses(ours, theirs["train.loss"].tolist(), theirs["train.grad_norm"].tolist())
                final = {n.removeprefix("final."): v for n, v in ours.items() if n.startswith("final.")}
                prefix = "train.final."
                expected = {self.kohya(n.removeprefix(prefix)): v for n, v in theirs.items() if n.startswith(prefix)}
                self.assert_tensors(final, expected)


if __name__ == "__main__":
    unittest.main()
