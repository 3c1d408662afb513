"""Makes the embedded picture set (64x64 PNG + metadata.jsonl) from unpacked npm packages.

usage: make_pictures.py PACKAGES OUT; called by tools/pictures/build.
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

SIZE = 64

# Core subjects that the style folder leaves out, so that a style adapter can be tried on subjects
# it never saw.
STYLE_UNSEEN = ("a frog", "an apple", "a car", "a crown")


@dataclass(frozen=True)
class Style:
    name: str
    medium: str  # what a caption calls a picture of this style
    colours: int
    notice: str


@dataclass(frozen=True)
class Subject:
    phrase: str  # "a tiger"
    short_name: str  # the key in emoji.json
    category: str
    keywords: str

    @property
    def noun(self):
        return self.phrase.split(" ", 1)[1]

    @property
    def file_name(self):
        return self.noun.replace(" ", "_") + ".png"


TWEMOJI = Style(
    "twemoji", "flat emoji", 128,
    "Twemoji graphics, Copyright Twitter, Inc and other contributors,\n"
    "licensed under Creative Commons Attribution 4.0 International (CC BY 4.0):\n"
    "https://creativecommons.org/licenses/by/4.0/\n"
    "Project: https://github.com/jdecked/twemoji (v16.0.1)\n"
    "Taken from: npm package emoji-datasource-twitter 16.0.0, img/twitter/64\n"
    "  (https://github.com/iamcal/emoji-data; the package's code and data: MIT,\n"
    "  Copyright (c) 2013 Cal Henderson).\n")
NOTO = Style(
    "noto", "shaded emoji", 128,
    "Noto Emoji, Copyright Google LLC,\n"
    "licensed under the Apache License, Version 2.0: see data/LICENSES/Apache-2.0.txt.\n"
    "Project: https://github.com/googlefonts/noto-emoji (v2.048)\n"
    "Taken from: npm package emoji-datasource-google 16.0.0, img/google/64\n"
    "  (https://github.com/iamcal/emoji-data; the package's code and data: MIT,\n"
    "  Copyright (c) 2013 Cal Henderson).\n")
FLUENT = Style(
    "fluent", "3d emoji", 256,
    "Fluent Emoji (3D), Copyright (c) Microsoft Corporation, MIT License:\n"
    "see data/LICENSES/MIT-fluent-emoji.txt.\n"
    "Project: https://github.com/microsoft/fluentui-emoji\n"
    "Taken from: npm package @lobehub/fluent-emoji-3d 1.1.0, assets/. Its package.json states\n"
    "  \"license\": \"MIT\"; its README states \"Copyright (c) 2023 LobeHub. This project is MIT\n"
    "  licensed\" and describes the pictures as \"a collection of familiar, friendly, and modern\n"
    "  emoji from Microsoft\". The archive holds no licence file of its own.\n")

CHANGES = ("Changes made: cut down to a choice of subjects, scaled to 64x64 where larger, reduced to\n"
           "at most {colours} colours with transparency, renamed; captions added.\n")
SUBJECT_CHANGES = ("Changes made: scaled, moved and mirrored as the captions say, placed on plain\n"
                   "backgrounds, reduced to at most 256 colours; captions added.\n")


class Sources:
    """Finds a subject's picture in the unpacked packages."""

    def __init__(self, packages):
        self._twitter = packages / "emoji-datasource-twitter"
        self._google = packages / "emoji-datasource-google"
        self._fluent = packages / "fluent-emoji-3d"
        table = json.loads((self._twitter / "emoji.json").read_text(encoding="utf-8"))
        self._emoji = {entry["short_name"]: entry for entry in table}

    def picture(self, subject, style):
        entry = self._emoji[subject.short_name]
        if style is TWEMOJI:
            path = self._twitter / "img/twitter/64" / entry["image"]
        elif style is NOTO:
            path = self._google / "img/google/64" / entry["image"]
        else:
            path = self._fluent_path(entry["unified"].lower())
        with Image.open(path) as image:
            return image.convert("RGBA")

    def _fluent_path(self, code):
        for name in (code, code.replace("-fe0f", "")):
            path = self._fluent / "assets" / (name + ".webp")
            if path.exists():
                return path
        raise FileNotFoundError(f"no fluent picture for {code}")


def read_subjects(path):
    sets = {"core": [], "more": [], "subject": []}
    for line in path.read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            kind, *fields = line.split("\t")
            sets[kind].append(Subject(*fields))
    return sets


def captions(subject, style, plain):
    """Captions that vary; the first is the one to draw with. plain: also one without the style."""
    s = style.name
    lines = [
        f"{subject.phrase}, {s} style",
        f"{s} style {subject.noun}",
        f"{s} {style.medium} of {subject.phrase}, {subject.category}",
        f"{subject.phrase}, {subject.keywords}, {s} style",
    ]
    return lines + [subject.phrase] if plain else lines


def quantise(image, colours):
    """A palette picture with transparency (about 40 dB from the original, a third of its bytes)."""
    flat = image.convert("RGBa").convert("RGBA")  # clears the colour of transparent pixels
    return flat.quantize(colours, method=Image.Quantize.FASTOCTREE)


def write_png(image, path, colours):
    quantise(image, colours).save(path, "PNG", optimize=True)


def write_metadata(folder, rows):
    lines = [json.dumps({"file_name": name, "text": text}) for name, text in rows]
    (folder / "metadata.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


def make_style_folder(sources, subjects, style, folder, plain):
    folder.mkdir(parents=True)
    rows = []
    for subject in subjects:
        image = sources.picture(subject, style)
        if image.size != (SIZE, SIZE):
            image = image.resize((SIZE, SIZE), Image.Resampling.LANCZOS)
        write_png(image, folder / subject.file_name, style.colours)
        rows.append((subject.file_name, captions(subject, style, plain)))
    write_metadata(folder, rows)
    changes = CHANGES.format(colours=style.colours)
    (folder / "NOTICE").write_text(style.notice + changes, encoding="utf-8")


# The held-out subject: style, scale, centre (x, y), mirrored, background, captions ({} = the noun).
PLACEMENTS = (
    ("twemoji", TWEMOJI, 1.0, (32, 32), False, (255, 255, 255),
     ("a {}, twemoji style", "twemoji flat emoji of a {}, fantasy animal")),
    ("twemoji_small", TWEMOJI, 0.7, (22, 42), True, (190, 225, 250),
     ("a small {} on a light blue background, twemoji style", "twemoji style {}, light blue")),
    ("noto", NOTO, 1.0, (32, 32), False, (255, 255, 255),
     ("a {}, noto style", "noto shaded emoji of a {}, fantasy animal")),
    ("noto_small", NOTO, 0.75, (27, 36), True, (255, 240, 185),
     ("a small {} on a light yellow background, noto style", "noto style {}, light yellow")),
    ("fluent", FLUENT, 1.0, (32, 32), False, (255, 255, 255),
     ("a {}, fluent style", "fluent 3d emoji of a {}, fantasy animal")),
    ("fluent_small", FLUENT, 0.8, (26, 38), True, (205, 240, 205),
     ("a small {} on a light green background, fluent style", "fluent style {}, light green")),
)


def place(image, scale, centre, mirrored, background):
    side = round(SIZE * scale)
    image = image.resize((side, side), Image.Resampling.LANCZOS)
    if mirrored:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    corner = (centre[0] - side // 2, centre[1] - side // 2)
    layer = Image.new("RGBA", (SIZE, SIZE), (0, 0, 0, 0))
    layer.paste(image, corner)
    return Image.alpha_composite(Image.new("RGBA", (SIZE, SIZE), background + (255,)), layer)


def make_subject_folder(sources, subject, folder):
    folder.mkdir(parents=True)
    rows = []
    word = subject.noun.replace(" ", "_")
    for name, style, scale, centre, mirrored, background, texts in PLACEMENTS:
        image = place(sources.picture(subject, style), scale, centre, mirrored, background)
        file_name = f"{word}_{name}.png"
        write_png(image, folder / file_name, 256)
        rows.append((file_name, [text.format(subject.noun).replace("fantasy animal", subject.category) for text in texts]))
    write_metadata(folder, rows)
    notices = [f"{word}_{s.name}*.png:\n{s.notice}" for s in (TWEMOJI, NOTO, FLUENT)]
    (folder / "NOTICE").write_text("\n".join(notices) + "\n" + SUBJECT_CHANGES, encoding="utf-8")


# Class pictures for prior preservation: what kind of thing the first held-out subject is, on colours of their own.
CLASS_BACKGROUNDS = ((255, 255, 255), (215, 235, 255), (255, 245, 205), (220, 245, 220))


def make_class_folder(sources, subjects, folder):
    folder.mkdir(parents=True)
    rows = []
    for number, subject in enumerate(subjects):
        style = (TWEMOJI, NOTO)[number % 2]
        image = place(sources.picture(subject, style), 0.9, (32, 33), True, CLASS_BACKGROUNDS[number % 4])
        write_png(image, folder / subject.file_name, 256)
        rows.append((subject.file_name, [f"an animal, {style.name} style"]))
    write_metadata(folder, rows)
    (folder / "NOTICE").write_text(f"Those captioned \"{TWEMOJI.name} style\":\n{TWEMOJI.notice}\n"
                                   f"Those captioned \"{NOTO.name} style\":\n{NOTO.notice}\n" + SUBJECT_CHANGES, encoding="utf-8")


def make_edit_folders(sources, subjects, crown, folder):
    """The same picture before and after an edit, for concept editing: here, wearing a crown."""
    for name, change in (("before", ""), ("after", " wearing a crown")):
        (folder / name).mkdir(parents=True)
        rows = []
        for subject in subjects:
            image = place(sources.picture(subject, NOTO), 0.78, (32, 39), False, (255, 255, 255))
            if change:
                top = sources.picture(crown, NOTO).resize((28, 28), Image.Resampling.LANCZOS)
                image.alpha_composite(top, (18, 0))
            write_png(image, folder / name / subject.file_name, 256)
            rows.append((subject.file_name, [f"{subject.phrase}{change}, noto style", f"noto style {subject.noun}{change}"]))
        write_metadata(folder / name, rows)
        (folder / name / "NOTICE").write_text(NOTO.notice + SUBJECT_CHANGES, encoding="utf-8")


def main():
    packages, out = Path(sys.argv[1]), Path(sys.argv[2])
    sets = read_subjects(Path(__file__).with_name("subjects.tsv"))
    sources = Sources(packages)
    for style in (TWEMOJI, NOTO):
        make_style_folder(sources, sets["core"], style, out / style.name, plain=True)
        make_style_folder(sources, sets["more"], style, out / "more" / style.name, plain=True)
    seen = [s for s in sets["core"] if s.phrase not in STYLE_UNSEEN]
    unseen = [s for s in sets["core"] if s.phrase in STYLE_UNSEEN]
    make_style_folder(sources, seen, FLUENT, out / "fluent", plain=False)
    make_style_folder(sources, unseen, FLUENT, out / "fluent-unseen", plain=False)
    for number, subject in enumerate(sets["subject"]):
        make_subject_folder(sources, subject, out / ("subject" if number == 0 else f"subject-{number + 1}"))
    animals = [s for s in sets["core"] + sets["more"] if s.category == "animal"]
    make_class_folder(sources, animals[:16], out / "class")
    crown = next(s for s in sets["core"] if s.noun == "crown")
    make_edit_folders(sources, animals[:16], crown, out / "edit")


if __name__ == "__main__":
    main()
