"""Checks the embedded picture set, prints its counts and sizes, and can draw a contact sheet.

usage: check_pictures.py data/emoji [SHEET.png]; needs Pillow. Exit code 1 and a list if anything
is wrong.
"""

import json
import sys
from collections import Counter
from pathlib import Path

from PIL import Image, ImageDraw

FOLDERS = {  # folder: number of pictures
    "twemoji": 32, "noto": 32, "fluent": 28, "fluent-unseen": 4, "subject": 6, "subject-2": 6, "subject-3": 6,
    "class": 16, "edit/before": 16, "edit/after": 16, "more/twemoji": 146, "more/noto": 146,
}
SHARED = ("class", "edit/before", "edit/after")  # their captions are also those of other pictures
MOST_BYTES = 1_500_000


def read_rows(folder):
    text = (folder / "metadata.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def check_picture(path):
    with Image.open(path) as image:
        image.load()
        if image.size != (64, 64):
            yield f"{path}: expected 64x64, got {image.size}"
        rgba = image.convert("RGBA")
        visible = sum(1 for a in rgba.getchannel("A").tobytes() if a > 128)
        if visible < 300:
            yield f"{path}: only {visible} visible pixels"


def check_folder(folder, expected):
    rows = read_rows(folder)
    named = sorted(row["file_name"] for row in rows)
    found = sorted(path.name for path in folder.glob("*.png"))
    if named != found:
        yield f"{folder}: metadata.jsonl and the PNG files differ: {set(named) ^ set(found)}"
    if len(rows) != expected:
        yield f"{folder}: expected {expected} pictures, got {len(rows)}"
    if not (folder / "NOTICE").exists():
        yield f"{folder}: NOTICE is missing"
    for row in rows:
        texts = row["text"]
        if len(texts) < (1 if folder.name == "class" else 2) or any(not t.strip() or t != t.strip() or not t.isascii() for t in texts):
            yield f"{folder}/{row['file_name']}: bad captions {texts}"
        if row["file_name"] in found:
            yield from check_picture(folder / row["file_name"])


def check_unique(root):
    """No caption names two pictures of one style, except the plain name shared by two styles."""
    owners = Counter()
    for name in FOLDERS.keys() - set(SHARED):
        for row in read_rows(root / name):
            for text in row["text"]:
                styled = any(s in text for s in ("twemoji", "noto ", "fluent"))
                owners[(text, "" if styled else name)] += 1
    for (text, _), count in owners.items():
        if count > 1:
            yield f"caption '{text}' is used {count} times"
    contents = Counter(path.read_bytes() for path in root.rglob("*.png"))
    if contents.most_common(1)[0][1] > 1:
        yield "two pictures are the same file"


def check_held_out(root):
    def texts(name):
        return " ".join(t for row in read_rows(root / name) for t in row["text"])

    for name in ("twemoji", "noto", "more/twemoji", "more/noto"):
        for word in ("fluent", "unicorn", "saxophone", "roller skate"):
            if word in texts(name):
                yield f"{name}: mentions the held-out '{word}'"
    overlap = {r["file_name"] for r in read_rows(root / "fluent")} & {
        r["file_name"] for r in read_rows(root / "fluent-unseen")}
    if overlap:
        yield f"fluent and fluent-unseen share {overlap}"


def draw_sheet(root, path, columns=24, step=78):
    pictures = [(name, root / name / row["file_name"]) for name in FOLDERS
                for row in read_rows(root / name)]
    rows = -(-len(pictures) // columns)
    sheet = Image.new("RGB", (columns * step, rows * step), "white")
    pen = ImageDraw.Draw(sheet)
    for i, (_, file) in enumerate(pictures):
        x, y = i % columns * step, i // columns * step
        image = Image.open(file).convert("RGBA")
        sheet.paste(image, (x + 7, y + 12), image)
        pen.text((x + 2, y), file.stem[:13], fill="black")
    sheet.save(path)


def main():
    root = Path(sys.argv[1])
    problems = [p for name, count in FOLDERS.items() for p in check_folder(root / name, count)]
    problems += [*check_unique(root), *check_held_out(root)]
    total = sum(path.stat().st_size for path in root.rglob("*") if path.is_file())
    if total > MOST_BYTES:
        problems.append(f"{total} bytes, expected at most {MOST_BYTES}")
    for name in FOLDERS:
        files = list((root / name).glob("*.png"))
        size = sum(path.stat().st_size for path in files)
        print(f"{name}: {len(files)} pictures, {size} bytes")
    print(f"total: {total} bytes")
    if len(sys.argv) > 2:
        draw_sheet(root, sys.argv[2])
    print("\n".join(problems), file=sys.stderr if problems else sys.stdout)
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
