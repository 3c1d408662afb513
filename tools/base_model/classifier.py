"""Trains the classifier that judges the base model: which subject, in which style.

usage: classifier.py PACKAGES DATA OUT.pt [--seconds N] [--threads N]

It sees real pictures only, never the model's: every subject of DATA/subjects.json in all three styles, held-out ones too,
at random sizes, places, backgrounds and softness, now and then beside another. A small residual network (He et al. 2015,
arXiv:1512.03385) on 64 x 64 pixels with two heads.
"""

import argparse
import json
import math
import sys
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "pictures"))
from make_data import COLOURS, NAMED  # noqa: E402
from make_pictures import FLUENT, NOTO, TWEMOJI, Sources  # noqa: E402

STYLES = (TWEMOJI, NOTO, FLUENT)
SIZE = 64
BATCH = 64


class Block(nn.Module):
    def __init__(self, channels, out, stride):
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(channels, out, 3, stride, 1, bias=False), nn.BatchNorm2d(out), nn.ReLU())
        self.second = nn.Sequential(nn.Conv2d(out, out, 3, 1, 1, bias=False), nn.BatchNorm2d(out))
        self.skip = nn.Identity() if stride == 1 and channels == out else nn.Conv2d(channels, out, 1, stride, bias=False)

    def forward(self, x):
        return F.relu(self.second(self.first(x)) + self.skip(x))


class Classifier(nn.Module):
    """Pictures [B, 3, 64, 64] in [0, 1] to logits of subjects and styles; `features` are what the heads read, [B, 256]."""

    def __init__(self, subjects):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 32, 5, 2, 2, bias=False), nn.BatchNorm2d(32), nn.ReLU())
        widths = (32, 64, 128, 256)
        self.blocks = nn.Sequential(*[Block(widths[max(i - 1, 0)], width, 1 if i == 0 else 2) for i, width in enumerate(widths)])
        self.subject, self.style = nn.Linear(256, subjects), nn.Linear(256, len(STYLES))

    def features(self, pictures):
        return self.blocks(self.stem(2 * pictures - 1)).mean((2, 3))

    def forward(self, pictures):
        features = self.features(pictures)
        return self.subject(features), self.style(features)


def originals(packages, table):
    """All pictures there are: premultiplied RGBA [N, 4, 64, 64] in [0, 1], with the numbers of subject and style."""
    sources, pictures, subjects, styles = Sources(packages), [], [], []
    for number, row in enumerate(table):
        for style_number, style in enumerate(STYLES):
            try:
                image = sources.picture(type("Row", (), row), style)
            except FileNotFoundError:
                continue
            image = image.convert("RGBa").resize((SIZE, SIZE), 3)
            pictures.append(torch.from_numpy(np.array(image)).permute(2, 0, 1))
            subjects.append(number)
            styles.append(style_number)
    return torch.stack(pictures).float() / 255, torch.tensor(subjects), torch.tensor(styles)


def backgrounds(count, random):
    """White every second time, otherwise near a named colour or any colour. [count, 3, 1, 1]"""
    any_colour = torch.rand(count, 3, generator=random)
    named = torch.tensor(NAMED)[torch.randint(len(COLOURS), (count,), generator=random)] + 0.04 * torch.randn(count, 3, generator=random)
    choice = torch.rand(count, 1, generator=random)
    return torch.where(choice < 0.5, torch.ones(1, 3), torch.where(choice < 0.85, named, any_colour)).clamp(0, 1)[..., None, None]


def placed(pictures, scale, x, y):
    """`pictures` at `scale` of the side with their centre at (x, y), each in [-1, 1] of the canvas."""
    theta = torch.zeros(len(pictures), 2, 3)
    theta[:, 0, 0] = theta[:, 1, 1] = 1 / scale
    theta[:, 0, 2], theta[:, 1, 2] = -x / scale, -y / scale
    return F.grid_sample(pictures, F.affine_grid(theta, pictures.shape, align_corners=False), align_corners=False)


def over(canvas, picture):
    return picture[:, :3] + canvas * (1 - picture[:, 3:])


def softened(pictures, random):
    """As an autoencoder leaves pictures: a little less sharp, a little noise, colours a little off."""
    if torch.rand(1, generator=random) < 0.6:
        side = int(torch.randint(30, 60, (1,), generator=random))
        pictures = F.interpolate(F.interpolate(pictures, side, mode="area"), SIZE, mode="bilinear")
    pictures = pictures * (1 + 0.05 * torch.randn(len(pictures), 3, 1, 1, generator=random))
    return (pictures + 0.02 * torch.randn(pictures.shape, generator=random)).clamp(0, 1)


def augmented(pool, which, random, scales=(0.42, 1.3)):
    """Pictures [B, 3, 64, 64] in which `which` is to be seen."""
    count = len(which)
    uniform = lambda low, high: low + (high - low) * torch.rand(count, generator=random)
    scale = torch.exp(uniform(*map(math.log, scales)))
    reach = (1 - scale).clamp(min=0.1).clamp(max=0.5)
    canvas = backgrounds(count, random).expand(-1, -1, SIZE, SIZE)
    x, y = reach * uniform(-1, 1), reach * uniform(-1, 1)
    other = pool[torch.randint(len(pool), (count,), generator=random)]
    side = torch.where(x < 0, 1.0, -1.0)
    beside = placed(other, torch.full((count,), 0.47), x + side * (0.5 * scale + 0.47), 0.2 * uniform(-1, 1))
    shown = (torch.rand(count, generator=random) < 0.3).float()[:, None, None, None]
    return softened(over(over(canvas, beside * shown), placed(pool[which], scale, x, y)), random)


@torch.no_grad()
def accuracy(model, pool, subjects, styles, scales, random):
    """Shares of right subjects per style, and of right styles."""
    model.eval()
    right, style_right = torch.zeros(len(subjects)), torch.zeros(len(subjects))
    for first in range(0, len(subjects), BATCH):
        which = torch.arange(first, min(first + BATCH, len(subjects)))
        subject, style = model(augmented(pool, which, random, scales))
        right[which] = (subject.argmax(1) == subjects[which]).float()
        style_right[which] = (style.argmax(1) == styles[which]).float()
    model.train()
    return [right[styles == s].mean().item() for s in range(len(STYLES))], style_right.mean().item()


def load(path):
    """The classifier, ready to judge, and its subjects' nouns."""
    saved = torch.load(path, weights_only=True)
    model = Classifier(len(saved["subjects"]))
    model.load_state_dict(saved["weights"])  # from half precision
    return model.eval(), saved["subjects"]


def phrases(path):
    """The subjects as prompts say them: {"abacus": "an abacus"}."""
    saved = torch.load(path, weights_only=True)
    return dict(zip(saved["subjects"], saved["phrases"]))


def write(model, table, path):
    halves = {name: value.half() if value.is_floating_point() else value for name, value in model.state_dict().items()}
    torch.save({"weights": halves, "subjects": [row["noun"] for row in table], "phrases": [row["phrase"] for row in table]}, path)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("packages", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(1)
    random = torch.Generator().manual_seed(1)
    table = json.loads((args.data / "subjects.json").read_text())
    pool, subjects, styles = originals(args.packages, table)
    model = Classifier(len(table))
    optimizer = torch.optim.AdamW(model.parameters(), 2e-3, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, args.steps)
    began = time.time()
    for step in range(args.steps):
        which = torch.randint(len(pool), (BATCH,), generator=random)
        subject, style = model(augmented(pool, which, random))
        loss = F.cross_entropy(subject, subjects[which], label_smoothing=0.05) + 0.3 * F.cross_entropy(style, styles[which])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if (step + 1) % 500 == 0:
            print(f"step {step + 1}, {time.time() - began:.0f} s, loss {loss.item():.3f}", flush=True)
    for name, scales in (("whole", (0.9, 1.05)), ("half", (0.42, 0.5))):
        by_style, style = accuracy(model, pool, subjects, styles, scales, random)
        print(f"{name} size: subject " + ", ".join(f"{s.name} {100 * a:.1f} %" for s, a in zip(STYLES, by_style)) + f"; style {100 * style:.1f} %")
    write(model, table, args.out)


if __name__ == "__main__":
    main()
