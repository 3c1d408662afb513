"""Judges a base model: does it draw what it is asked for? By a classifier that knows real pictures only.

usage: judge.py MODEL CLASSIFIER.pt DATA OUT [options]

Draws with the program itself, writes OUT/report.json, OUT/report.md and OUT/grid.png (fixed prompts and seeds).
With --style NAME it judges an adapter instead: the share of pictures in that style, and of right subjects, without and
with --lora; --minimum and --maximum (shares) make the exit status 1 where they are not met.
"""

import argparse
import json
import math
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from classifier import STYLES, load
from make_data import COLOURS, NAMED, Thing
from PIL import Image, ImageDraw

GRID = (
    "a tiger, twemoji style", "a tiger, noto style", "a frog, twemoji style", "a penguin, noto style", "an apple, noto style",
    "a hamburger, twemoji style", "a rocket, noto style", "a castle, twemoji style", "a guitar, noto style", "a butterfly, twemoji style",
    "a fox on a blue background, twemoji style", "a banana on a purple background, noto style", "a car on a green background, twemoji style",
    "a small octopus, noto style", "a big lion, twemoji style", "two mushrooms, noto style", "two cats on a pink background, twemoji style",
    "a cat left of a dog, twemoji style", "a pizza right of a carrot, noto style", "a house left of a tree, noto style",
)  # fmt: skip
HALVES = {"left": (0, 16), "right": (32, 16)}  # corner of the 32 x 32 pixels that hold each part of a pair


class Program:
    """Draws pictures: [N, 3, 64, 64] in [0, 1], one per prompt, seeds counting up."""

    def __init__(self, args):
        self._args = args

    def command(self):
        return [self._args.emulsion, "generate"]

    def draw(self, prompts, name, seed=1000, lora=None):
        folder = self._args.out / name
        folder.mkdir(parents=True, exist_ok=True)
        pictures = []
        for first in range(0, len(prompts), 64):
            part = prompts[first : first + 64]
            command = [*self.command(), self._args.model, *part, "--steps", str(self._args.steps), "--cfg", str(self._args.cfg),
                       "--seed", str(seed + first), "--json", "-o", str(folder / f"{first:04d}.png")]  # fmt: skip
            done = subprocess.run(command + (["--lora", lora] if lora else []), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            if done.returncode != 0:
                sys.exit(f"judge.py: drawing failed: {done.stderr[-2000:]}")
            events = [json.loads(line) for line in done.stdout.splitlines()]
            pictures += [pixels(event["path"]) for event in events if event.get("event") == "picture"]
        return torch.stack(pictures)


def pixels(path):
    return torch.from_numpy(np.array(Image.open(path).convert("RGB"))).permute(2, 0, 1).float() / 255


def rows_of(folder):
    return [json.loads(line) for line in (folder / "metadata.jsonl").read_text().splitlines()]


def real(folder, rows):
    return torch.stack([pixels(folder / row["file_name"]) for row in rows])


class Judge:
    """The classifier's opinions."""

    def __init__(self, path):
        self._model, nouns = load(path)
        self._number = {noun: i for i, noun in enumerate(nouns)}

    @torch.no_grad()
    def features(self, pictures):
        return torch.cat([self._model.features(part) for part in pictures.split(64)])

    @torch.no_grad()
    def subjects(self, pictures):
        return torch.cat([self._model(part)[0] for part in pictures.split(64)])

    def right(self, pictures, nouns, top):
        best = self.subjects(pictures).topk(top).indices
        return (best == torch.tensor([self._number[noun] for noun in nouns])[:, None]).any(1).float()

    @torch.no_grad()
    def in_style(self, pictures, names):
        best = torch.cat([self._model(part)[1] for part in pictures.split(64)]).argmax(1)
        order = [style.name for style in STYLES]
        return (best == torch.tensor([order.index(name) for name in names])).float()

    def score(self, pictures, nouns):
        return self.subjects(pictures).gather(1, torch.tensor([self._number[noun] for noun in nouns])[:, None])[:, 0]


def percent(values):
    return round(100 * values.mean().item(), 1)


def agreement(judge, pictures, nouns, styles):
    return {"pictures": len(nouns), "top-1 %": percent(judge.right(pictures, nouns, 1)), "top-5 %": percent(judge.right(pictures, nouns, 5)),
            "style %": percent(judge.in_style(pictures, styles))}  # fmt: skip


def halves(pictures):
    cut = {side: pictures[:, :, top : top + 32, left : left + 32] for side, (left, top) in HALVES.items()}
    return {side: F.interpolate(part, 64, mode="bilinear") for side, part in cut.items()}


def pairs_right(judge, pictures, rows):
    """Each half alone; `order`: the left half looks more like the left subject than the right half does."""
    parts, left, right = halves(pictures), [row["subjects"][0] for row in rows], [row["subjects"][1] for row in rows]
    both = judge.right(parts["left"], left, 5) * judge.right(parts["right"], right, 5)
    order = (judge.score(parts["left"], left) + judge.score(parts["right"], right)
             > judge.score(parts["right"], left) + judge.score(parts["left"], right)).float()  # fmt: skip
    return {"pictures": len(rows), "left top-5 %": percent(judge.right(parts["left"], left, 5)),
            "right top-5 %": percent(judge.right(parts["right"], right, 5)), "both top-5 %": percent(both), "order %": percent(order),
            "style %": percent(judge.in_style(pictures, [row["style"] for row in rows]))}  # fmt: skip


def extent(picture):
    """Larger side of the box around what differs from the corners' colour, in pixels; and the box."""
    ground = picture[:, [0, 0, -1, -1], [0, -1, 0, -1]].median(1).values[:, None, None]
    seen = (picture - ground).abs().amax(0) > 0.15
    if not seen.any():
        return 0, (0, 0, 64, 64)
    ys, xs = seen.any(1).nonzero()[:, 0], seen.any(0).nonzero()[:, 0]
    box = xs[0].item(), ys[0].item(), xs[-1].item() + 1, ys[-1].item() + 1
    return max(box[2] - box[0], box[3] - box[1]), box


def enlarged(picture):
    side, (left, top, right, bottom) = extent(picture)
    half, x, y = max(side, 16) / 2 + 1, (left + right) / 2, (top + bottom) / 2
    cut = [max(0, round(y - half)), min(64, round(y + half)), max(0, round(x - half)), min(64, round(x + half))]
    return F.interpolate(picture[None, :, cut[0] : cut[1], cut[2] : cut[3]], (64, 64), mode="bilinear")[0]


def sizes_right(judge, pictures, nouns, kind):
    sides = torch.tensor([extent(picture)[0] for picture in pictures]).float()
    fits = {"small": sides <= 42, "big": sides >= 60, "two": sides >= 44}[kind].float()
    if kind == "two":
        parts = halves(pictures)
        right = judge.right(parts["left"], nouns, 5) * judge.right(parts["right"], nouns, 5)
    else:
        right = judge.right(torch.stack([enlarged(picture) for picture in pictures]) if kind == "small" else pictures, nouns, 5)
    return {"pictures": len(nouns), "top-5 %": percent(right), "size right %": percent(fits)}


def colours_right(pictures, names):
    """Whether the border's median is nearest to the asked colour, of the named ones and white."""
    border = torch.cat([pictures[:, :, 0], pictures[:, :, -1], pictures[:, :, :, 0], pictures[:, :, :, -1]], 2).median(2).values
    known = torch.tensor(NAMED + [(1.0, 1.0, 1.0)])
    nearest = torch.cdist(border, known).argmin(1)
    return percent((nearest == torch.tensor([list(COLOURS).index(name) for name in names])).float())


def frechet(a, b):
    """Fréchet distance of two clouds of features as normal distributions (Heusel et al. 2017, arXiv:1706.08500)."""
    a, b = a.double(), b.double()
    cov = [x.T.cov() + 1e-6 * torch.eye(x.shape[1], dtype=torch.float64) for x in (a, b)]
    values, vectors = torch.linalg.eigh(cov[0])
    root = vectors @ torch.diag(values.clamp(min=0).sqrt()) @ vectors.T
    cross = torch.linalg.eigvalsh(root @ cov[1] @ root).clamp(min=0).sqrt().sum()
    return ((a.mean(0) - b.mean(0)).square().sum() + cov[0].trace() + cov[1].trace() - 2 * cross).item()


def kernel_distance(a, b):
    """Squared maximum mean discrepancy with (x.y / d + 1)^3, unbiased (Binkowski et al. 2018, arXiv:1801.01401)."""
    kernel = lambda x, y: (x.double() @ y.double().T / x.shape[1] + 1) ** 3
    inside = lambda k: (k.sum() - k.trace()) / (len(k) * (len(k) - 1))
    return (inside(kernel(a, a)) + inside(kernel(b, b)) - 2 * kernel(a, b).mean()).item()


def nearest(pictures, others):
    """Mean over pictures of the smallest root mean square difference to any of the others, in grey levels of 255."""
    return round(255 * (torch.cdist(pictures.flatten(1), others.flatten(1)).min(1).values / math.sqrt(pictures[0].numel())).mean().item(), 1)


@torch.no_grad()
def reconstruction(model, pictures):
    """Mean PSNR in dB of the autoencoder, by diffusers, from the posterior's mean."""
    from diffusers import AutoencoderKL

    vae = AutoencoderKL.from_pretrained(Path(model) / "vae").eval()
    again = torch.cat([vae.decode(vae.encode(2 * part - 1).latent_dist.mean).sample for part in pictures.split(32)])
    return round((-10 * ((again + 1) / 2).clamp(0, 1).sub(pictures).square().mean((1, 2, 3)).log10()).mean().item(), 2)


def write_grid(program, path, seeds=3):
    columns = [program.draw(list(GRID), f"grid-{k}", seed=10 + k * len(GRID)) for k in range(seeds)]
    side, label, per_row = 64, 26, 5
    rows = math.ceil(len(GRID) / per_row)
    sheet = Image.new("RGB", (per_row * (seeds * side + 12), rows * (side + label)), "white")
    for i, prompt in enumerate(GRID):
        x, y = i % per_row * (seeds * side + 12), i // per_row * (side + label)
        ImageDraw.Draw(sheet).text((x + 2, y + side + 2), prompt.replace(" background", "").replace(" style", ""), fill="black", font_size=9)
        for k in range(seeds):
            picture = (255 * columns[k][i]).byte().permute(1, 2, 0).numpy()
            sheet.paste(Image.fromarray(picture), (x + k * side, y))
    sheet.save(path)


def base_report(args, program, judge):
    chance, data = random.Random(1), args.data
    subjects = json.loads((data / "subjects.json").read_text())
    phrase = {row["noun"]: row["phrase"] for row in subjects}
    share = 0.1 if args.quick else 1
    some = lambda rows, count: chance.sample(rows, min(len(rows), max(2, round(share * count))))
    report = {}

    plain = {style.name: some([r["noun"] for r in subjects if style.name in r["trained"]], 200) for style in STYLES[:2]}
    drawn_seen = []
    for style, nouns in plain.items():
        pictures = program.draw([f"{phrase[n]}, {style} style" for n in nouns], f"seen-{style}")
        report[f"seen subject, {style}"] = agreement(judge, pictures, nouns, [style] * len(nouns))
        drawn_seen.append(pictures)
    held = some(rows_of(data / "validation/plain"), 1000)
    drawn_held = program.draw([row["text"][0] for row in held], "held-out")
    report["held-out subject and style"] = agreement(judge, drawn_held, [r["subjects"][0] for r in held], [r["style"] for r in held])

    drawn_pairs, pairs = {}, {}
    for name, folder in (("seen pair", "train/pairs"), ("held-out pair", "validation/pairs")):
        pairs[name] = some(rows_of(data / folder), 120)
        drawn_pairs[name] = program.draw([row["text"][0] for row in pairs[name]], name.replace(" ", "-"))
        report[name] = pairs_right(judge, drawn_pairs[name], pairs[name])

    for kind in ("small", "big", "two"):
        nouns = some([r["noun"] for r in subjects if "noto" in r["trained"]], 60)
        words = [f"two {Thing(n, '', '').plural}" if kind == "two" else f"a {kind} {n}" for n in nouns]
        report[kind] = sizes_right(judge, program.draw([f"{w}, noto style" for w in words], kind), nouns, kind)

    asked = [(noun, colour) for colour in COLOURS for noun in some(plain["twemoji"], 12)]
    pictures = program.draw([f"{phrase[n]} on a{'n' * (c == 'orange')} {c} background, twemoji style" for n, c in asked], "background")
    report["named background"] = {"pictures": len(asked), "colour right %": colours_right(pictures, [c for _, c in asked]),
                                  **agreement(judge, pictures, [n for n, _ in asked], ["twemoji"] * len(asked))}  # fmt: skip

    grounds = some(rows_of(data / "validation/background"), 1000)
    drawn = torch.cat([drawn_held, drawn_pairs["held-out pair"], program.draw([row["text"][0] for row in grounds], "held-out-background")])
    truth = torch.cat([real(data / "validation" / name, rows) for name, rows in
                       (("plain", held), ("pairs", pairs["held-out pair"]), ("background", grounds))])  # fmt: skip
    training = rows_of(data / "train/plain")
    chance.shuffle(training)
    trained = real(data / "train/plain", training)
    a, b = judge.features(drawn), judge.features(truth)
    half = judge.features(trained[: 2 * len(truth)])
    report["distance to held-back pictures"] = {
        "Frechet": round(frechet(a, b), 2), "kernel": round(kernel_distance(a, b), 4), "pictures": len(truth),
        "Frechet between real halves": round(frechet(half[::2], half[1::2]), 2),
        "kernel between real halves": round(kernel_distance(half[::2], half[1::2]), 4)}  # fmt: skip
    report["nearest training picture, grey levels"] = {
        "seen subject": nearest(torch.cat(drawn_seen), trained), "held-out subject and style": nearest(drawn_held, trained),
        "real held-out picture": nearest(real(data / "validation/plain", held), trained)}  # fmt: skip
    unseen = torch.cat([real(data / f"validation/{name}", rows_of(data / f"validation/{name}")) for name in ("plain", "subjects")])
    report["autoencoder"] = {"PSNR dB, unseen pictures": reconstruction(args.model, unseen), "pictures": len(unseen)}
    write_grid(program, args.out / "grid.png")
    return report


def style_report(args, program, judge):
    """Subjects that the adapter's pictures do not show."""
    nouns = [noun for noun in args.subjects.read_text().splitlines() if noun]
    phrase = {row["noun"]: row["phrase"] for row in json.loads((args.data / "subjects.json").read_text())}
    prompts = [f"{phrase[noun]}, {args.style} style" for noun in nouns]
    report = {}
    for name, lora in (("without", None), ("with", args.lora)):
        if name == "with" and not lora:
            continue
        report[f"{args.style} style, {name} the adapter"] = agreement(judge, program.draw(prompts, name, lora=lora), nouns, [args.style] * len(nouns))
    return report


def table_of(report):
    lines = ["| What | Figures |", "|---|---|"]
    for what, figures in report.items():
        lines.append(f"| {what} | " + ", ".join(f"{key.removesuffix(' %')} {value}{' %' if key.endswith(' %') else ''}" for key, value in figures.items()) + " |")
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("classifier", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--emulsion", default="./emulsion", help="the program")
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--cfg", type=float, default=2.5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="a tenth of the pictures")
    parser.add_argument("--style", help="judge an adapter for this style")
    parser.add_argument("--lora", help="FILE[:WEIGHT]")
    parser.add_argument("--subjects", type=Path, help="file with a noun a line, for --style")
    parser.add_argument("--minimum", type=float, default=0, help="least share of pictures in the style, with the adapter")
    parser.add_argument("--maximum", type=float, default=1, help="largest share without it")
    parser.add_argument("--largest-loss", type=float, default=1, help="how far the share of right subjects (top-5) may fall")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    args.out.mkdir(parents=True, exist_ok=True)
    report = (style_report if args.style else base_report)(args, Program(args), Judge(args.classifier))
    (args.out / "report.json").write_text(json.dumps(report, indent=1) + "\n")
    (args.out / "report.md").write_text(table_of(report))
    print(table_of(report), end="")
    if args.style:
        figures = list(report.values())
        met = (figures[0]["style %"] <= 100 * args.maximum and figures[-1]["style %"] >= 100 * args.minimum
               and figures[0]["top-5 %"] - figures[-1]["top-5 %"] <= 100 * args.largest_loss)  # fmt: skip
        sys.exit(0 if met else "judge.py: not what was asked for")


if __name__ == "__main__":
    main()
