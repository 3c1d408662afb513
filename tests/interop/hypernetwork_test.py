"""Hypernetworks: our file in torch and, through hooks, in diffusers; files as the web UI's torch.save writes them in Emulsion."""

import unittest

import peers
import tiny_runs
import torch
from program import Same, draw, generate
from torch import nn

PROMPTS = ["a unicorn, noto style", "twemoji style unicorn"]
START = torch.randn(2, 4, 16, 16, generator=torch.Generator().manual_seed(8))


def sequential(width, structure, activation=None, activate_output=False, layer_norm=False, dropout=()):
    """The parts in the order that the file format prescribes."""
    parts = []
    for i in range(len(structure) - 1):
        parts.append(nn.Linear(int(width * structure[i]), int(width * structure[i + 1])))
        if activation is not None and (activate_output or i < len(structure) - 2):
            parts.append(activation())
        if layer_norm:
            parts.append(nn.LayerNorm(int(width * structure[i + 1])))
        if dropout and dropout[i + 1] > 0:
            parts.append(nn.Dropout(dropout[i + 1]))
    return nn.Sequential(*parts).eval()


def randomise(network, seed):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in network.parameters():
            p.copy_(torch.randn(p.shape, generator=generator) * (0.5 * p[0].numel() ** -0.5 if p.dim() > 1 else 0.3))
    return network


def names(state, old=False):
    """The tensors' names in a file; in old ones the layers are called linear1 and linear2."""
    if old:
        return {f"linear{int(k.split('.')[0]) + 1}.{k.split('.')[1]}": v for k, v in state.items()}
    return {f"linear.{k}": v for k, v in state.items()}


def attach(pipe, pairs, strength=1.0):
    """Keys and values of every attention see x + strength * network(x)."""
    for name, module in pipe.unet.named_modules():
        side = {"to_k": 0, "to_v": 1}.get(name.rsplit(".", 1)[-1])
        if side is not None and module.in_features in pairs:
            network = pairs[module.in_features][side]
            module.register_forward_pre_hook(lambda _, given, n=network: (given[0] + strength * n(given[0]),))


class HypernetworkTest(Same, unittest.TestCase):
    def ours(self, name, *files):
        options = {"hypernetwork": files[0]} if files else {}
        return generate(tiny_runs.model("epsilon"), PROMPTS, tiny_runs.FOLDER / "hypernetwork" / name, latents=START, **options)

    def theirs(self, pairs, strength=1.0):
        pipe = peers.load(tiny_runs.model("epsilon"))[0]
        attach(pipe, pairs, strength)
        return draw(pipe, PROMPTS, START)

    def test_our_file_opens_in_torch_and_draws_our_picture_in_diffusers(self):
        file = tiny_runs.run("hypernetwork") / "hypernetwork.pt"
        state = torch.load(file, weights_only=True)
        self.assertEqual(state["layer_structure"], [1, 2, 1])
        self.assertEqual((state["name"], state["step"], state["activation_func"]), ("hypernetwork", 5, "relu"))
        self.assertEqual((state["use_dropout"], state["dropout_structure"], state["last_layer_dropout"]), (True, [0, 0.2, 0], False))
        self.assertEqual((state["is_layer_norm"], state["activate_output"], state["weight_initialization"]), (True, False, "KaimingNormal"))
        pairs = {}
        for width, sides in ((k, v) for k, v in state.items() if isinstance(k, int)):
            pairs[width] = []
            for side in sides:
                network = sequential(width, state["layer_structure"], nn.ReLU, layer_norm=True, dropout=state["dropout_structure"]).eval()
                network.load_state_dict({k.removeprefix("linear."): v for k, v in side.items()})  # strict
                pairs[width].append(network)
        self.assertEqual(set(pairs), {16, 32})
        drawn = self.ours("trained", file)
        self.assert_same_drawing(drawn, self.theirs(pairs))
        self.assert_same_drawing(self.ours("half", f"{file}:0.5"), self.theirs(pairs, 0.5))
        self.assert_other_drawing(self.ours("none"), drawn)

    def test_files_of_torch_save_draw_the_same_picture(self):
        cases = {
            "plain": dict(structure=(1, 2, 1)),
            "deep": dict(structure=(1, 1.5, 2, 1), activation=nn.Hardswish, activate_output=True),
            "dropout": dict(structure=(1, 2, 1), activation=nn.Mish, layer_norm=True, dropout=(0, 0.3, 0)),
        }
        spoken = {nn.Hardswish: "swish", nn.Mish: "mish", None: None}
        for name, case in cases.items():
            with self.subTest(name):
                pairs = {w: [randomise(sequential(w, **case), w + side) for side in (0, 1)] for w in (16, 32)}
                state = {w: tuple(names(n.state_dict(), old=name == "plain") for n in pair) for w, pair in pairs.items()}
                state |= dict(step=3, name=name, sd_checkpoint=None, sd_checkpoint_name=None)
                if name != "plain":  # the oldest files say nothing
                    state |= dict(layer_structure=list(case["structure"]), activation_func=spoken[case.get("activation")],
                                  is_layer_norm=case.get("layer_norm", False), activate_output=case.get("activate_output", False))
                file = tiny_runs.FOLDER / f"{name}.pt"
                torch.save(state, file)
                self.assert_same_drawing(self.ours(name, file), self.theirs(pairs))


if __name__ == "__main__":
    unittest.main()
