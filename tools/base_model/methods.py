"""What each method teaches the base model, in one table.

usage: methods.py MODEL OUT [--again NAME ...] [--emulsion FILE]

Every method learns a style that the base never saw (data/emoji/fluent) and a subject that it never saw (data/emoji/subject-2, a
saxophone), each under a new word. Then a classifier that knows real pictures only says:
  style      share of pictures in that style, of a hundred subjects that the style's pictures do not show
  kept       share of right subjects (top-5) among these
  subject    share of right subjects (top-1) of pictures of the new word
  drift      how far pictures of other prompts move from the base's, same seeds: root mean square, in grey levels of 255
Beside them: numbers that train, the file's size, minutes. Writes OUT/methods.md and OUT/methods.png (fixed prompts and seeds).
Goes on where it stopped: what OUT/METHOD.pt holds is not done again. Exit status 1 if a method whose effect is asked for (MINIMUM) does not show it.
"""

import argparse
import json
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import torch
from classifier import phrases
from judge import Judge, Program
from PIL import Image, ImageDraw

STYLE, WORD = "data/emoji/fluent", "zorkish"
SUBJECT, NAME = "data/emoji/subject-2", "saxophone"
TARGETS = '["unet.*.attn*.to_*", "unet.*.ff.net.*", "text_encoder.*.self_attn.*_proj", "text_encoder.*.mlp.fc*"]'
LORA = f'type = "lora"\nrank = 16\nalpha = 16\ntargets = {TARGETS}\n'
WORDS = f'[[method.words]]\ntoken = "{WORD}"\nvectors = 2\nlr = 10\n'


def lora(extra="", lr=2e-3, **more):
    return {"method": LORA + extra, "lr": lr, **more}


# Learning rates were hardly searched: one or two tries each.
METHODS = {
    "LoRA": lora(),
    "LoRA, convolutions too": lora() | {"method": LORA.replace('["unet', '["unet.*.conv?", "unet')},
    "DoRA": lora("dora = true\n"),
    "PiSSA": lora('init = "pissa"\n', lr=5e-4),
    "OLoRA": lora('init = "olora"\n', lr=5e-4),
    "LoHa": lora('algo = "loha"\n'),
    "LoKr": lora('algo = "lokr"\nfactor = 8\n', lr=5e-3),
    "(IA)^3": lora('algo = "ia3"\n', lr=4e-2),
    "OFT": lora('algo = "oft"\n', lr=2e-3),
    "GLoRA": lora('algo = "glora"\n'),
    "full difference": lora('algo = "full"\n', lr=5e-4),
    "LoRA and a word": lora(WORDS),
    "textual inversion": {"method": f'type = "textual_inversion"\ntoken = "{WORD}"\nvectors = 4\n', "lr": 5e-2},
    "hypernetwork": {"method": 'type = "hypernetwork"\nactivation = "mish"\nlayer_norm = true\n', "lr": 1e-2},
    "whole networks": {"method": 'type = "diffusion"\n', "lr": 5e-4},
    "whole networks, prior preservation": {"method": 'type = "diffusion"\n', "lr": 5e-4, "prior": True},
    "LoRA, prior prediction": lora(prediction=True),
}
MINIMUM = {"LoRA": (0.4, 0.15), "whole networks": (0.4, 0.15)}  # shares of style and subject

PRIORS = '[[priors]]\nprompt = "an animal, twemoji style"\ncount = 32\ncfg = 2.5\n[[priors]]\nprompt = "food, noto style"\ncount = 32\ncfg = 2.5\n'


def with_word(source, folder, old, new):
    """A copy of a data set whose captions say `new` for `old`."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(source, folder)
    meta = folder / "metadata.jsonl"
    rows = [json.loads(line) for line in meta.read_text().splitlines()]
    for row in rows:
        row["text"] = [re.sub(rf"\b{old}\b", new, text) for text in row["text"]]
    meta.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def run_file(path, name, method, model, pictures, steps):
    prediction = "[[data.sources]]\npath = \"data/emoji/class\"\nprior_prediction = true\n" if method.get("prediction") else ""
    path.write_text(
        f'name = "{name}"\noutput = "{path.parent}"\nsteps = {steps}\nbatch_size = 8\nseed = 1\ndtype = "float32"\n'
        f'[method]\n{method["method"]}[model]\npath = "{model}"\n[data]\nresolution = 64\nbuckets = false\n'
        f'[[data.sources]]\npath = "{pictures}"\n{prediction}{PRIORS if method.get("prior") else ""}'
        f'[optimizer]\nlr = {method["lr"]}\n[schedule]\nshape = "cosine"\nwarmup_steps = 20\n[preview]\nevery = 0\n[checkpoint]\nevery = 0\n'
    )
    return path


def trained(args, name, method, pictures, steps):
    """Its result, minutes, and how many numbers trained."""
    slug = slug_of(name) + "-" + pictures.name
    folder = args.out / slug
    shutil.rmtree(folder, ignore_errors=True)
    file = run_file(args.out / f"{slug}.toml", slug, method, model_path(args.model), pictures, steps)
    began = time.time()
    done = subprocess.run([args.emulsion, "train", str(file), "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        sys.exit(f"methods.py: {name}: {done.stderr[-2000:]}")
    said = re.search(r"[\d.]+( M)? numbers train", done.stdout + done.stderr)
    results = [folder / "model", *sorted(folder.glob("*.safetensors"), key=lambda f: f.stat().st_size, reverse=True), *folder.glob("*.pt")]
    return next(r for r in results if r.exists()), (time.time() - began) / 60, said.group(0).replace(" numbers train", "") if said else "?"


def model_path(model):
    return model if Path(model).exists() else f"models/{model}"


class Taught(Program):
    """The program with what a method left; None: the base."""

    def __init__(self, args, result):
        super().__init__(args)
        self._options = []
        if result is None:
            return
        if result.is_dir():
            self._args = argparse.Namespace(**vars(args) | {"model": str(result)})
        elif result.suffix == ".pt":
            self._options = ["--hypernetwork", str(result)]
        elif result.stem == WORD:
            self._options = ["--embeddings", str(result.parent)]
        else:
            self._options = ["--lora", str(result)]

    def command(self):
        return [self._args.emulsion, "generate", *self._options]


def size_of(result):
    files = [f for f in result.rglob("*.safetensors")] if result.is_dir() else [result]
    size = sum(f.stat().st_size for f in files)
    return f"{size / 1e6:.2f} MB" if size >= 10_000 else f"{size / 1e3:.0f} kB"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("out", type=Path)
    parser.add_argument("--classifier", type=Path, default=Path("tools/base_model/classifier.pt"))
    parser.add_argument("--emulsion", default="./emulsion")
    parser.add_argument("--steps", type=int, default=25, help="of drawing")
    parser.add_argument("--cfg", type=float, default=2.5)
    parser.add_argument("--style-steps", type=int, default=240)
    parser.add_argument("--subject-steps", type=int, default=120)
    parser.add_argument("--again", nargs="*", help="names of methods to do again")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(2)
    judge = Judge(args.classifier)

    phrase = phrases(args.classifier)
    nouns = [noun for noun in Path("tools/base_model/style_subjects.txt").read_text().splitlines() if noun]
    styled = [f"{phrase[noun]}, {WORD} style" for noun in nouns]
    backgrounds = ["", " on a blue background", " on a green background", " on a pink background", " on a yellow background", " on a red background"]
    shown = [f"a {WORD}{ground}, {style} style" for ground in backgrounds for style in ("twemoji", "noto")] * 2
    others = [f"{p}, {style} style" for p, style in zip(list(phrase.values())[::30], ("twemoji", "noto") * 20)]
    sets = {"style": with_word(Path(STYLE), args.out / "style-set", "fluent", WORD), "subject": with_word(Path(SUBJECT), args.out / "subject-set", NAME, WORD)}

    unmet, panel, base = [], [], None
    for name in [None, *METHODS]:
        kept = args.out / f"{slug_of(name)}.pt"
        if kept.exists() and name not in (args.again or []):
            found = torch.load(kept, weights_only=True)
        else:
            found = judged(args, name, judge, sets, {"style": styled, "subject": shown, "other": others}, nouns, base)
            torch.save(found, kept)
        base = found["others"].float() / 255 if name is None else base
        panel.append((name or "the base", found["row"], found["panel"]))
        print(found["row"], flush=True)
        if name in MINIMUM and (found["in style"] < MINIMUM[name][0] or found["subject"] < MINIMUM[name][1]):
            unmet.append(name)
    head = "| Method | style | kept | subject | drift | numbers | file | minutes, both |\n|---|---|---|---|---|---|---|---|\n"
    (args.out / "methods.md").write_text(head + "\n".join(row for _, row, _ in panel) + "\n")
    write_panel([(name, pictures) for name, _, pictures in panel], args.out / "methods.png")
    if unmet:
        sys.exit(f"methods.py: no effect: {', '.join(unmet)}")


def slug_of(name):
    return re.sub(r"\W+", "-", name or "base").strip("-").lower()


def judged(args, name, judge, sets, prompts, nouns, base):
    """Trains (the base: not), draws and judges. Pictures are uint8."""
    results, minutes, count = {"style": None, "subject": None}, 0, "-"
    if name:
        for what, steps in (("style", args.style_steps), ("subject", args.subject_steps)):
            results[what], spent, count = trained(args, name, METHODS[name], sets[what], steps)
            minutes += spent
    slug = slug_of(name)
    pictures = Taught(args, results["style"]).draw(prompts["style"], f"{slug}-pictures-style", seed=1000)
    portraits = Taught(args, results["subject"]).draw(prompts["subject"], f"{slug}-pictures-subject", seed=2000)
    others = torch.cat([Taught(args, results[what]).draw(prompts["other"], f"{slug}-pictures-other-{what}", seed=3000) for what in results])
    in_style = judge.in_style(pictures, ["fluent"] * len(nouns)).mean().item()
    right = judge.right(pictures, nouns, 5).mean().item()
    like = judge.right(portraits, [NAME] * len(portraits), 1).mean().item()
    drift = 255 * (others - (others if base is None else base)).square().mean((1, 2, 3)).sqrt().mean().item()
    size = size_of(results["style"]) if name else "-"
    return {
        "row": f"| {name or 'the base alone'} | {100 * in_style:.0f} % | {100 * right:.0f} % | {100 * like:.0f} % | {drift:.1f} | {count} | {size} | {minutes:.1f} |",
        "in style": in_style,
        "subject": like,
        "panel": (255 * torch.cat([pictures[[3, 20, 41, 60]], portraits[[0, 3, 4, 9]], others[[1, 5]]])).byte(),
        "others": (255 * others).round().byte() if name is None else None,
    }


def write_panel(panel, path, side=64, label=190):
    sheet = Image.new("RGB", (label + len(panel[0][1]) * (side + 2), len(panel) * (side + 2)), "white")
    for y, (name, pictures) in enumerate(panel):
        ImageDraw.Draw(sheet).text((4, y * (side + 2) + side // 2 - 6), name, fill="black", font_size=10)
        for x, picture in enumerate(pictures):
            sheet.paste(Image.fromarray(picture.permute(1, 2, 0).numpy()), (label + x * (side + 2), y * (side + 2)))
    sheet.save(path)


if __name__ == "__main__":
    main()
