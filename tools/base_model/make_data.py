"""Makes the pictures that the base model is trained and judged on, from unpacked npm packages.

usage: make_data.py PACKAGES OUT

Writes folders of 64 x 64 PNG with metadata.jsonl. Besides `file_name` and `text` a row says what is to be seen, for
judging: `kind`, `style`, `subjects`, `background`. The same packages give the same files.

    train/plain        one subject, as its style draws it, on white
    train/background   one subject on a named colour
    train/size         a small, a big, two of a subject
    train/pairs        one subject left of another
    train/filtered     one subject on white and on a named colour, drawn in the styles of derived_styles.py
    validation/...     the same kinds, of what training never shows: see HELD_OUT
    subjects.json      every subject, and what is held out of it
"""

import colorsys
import hashlib
import json
import random
import sys
from dataclasses import dataclass, field
from pathlib import Path

from derived_styles import FILTERS, derived
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "pictures"))
from make_pictures import NOTO, SIZE, TWEMOJI, Sources, Style, read_subjects  # noqa: E402

STYLES = (TWEMOJI, NOTO)
CATEGORIES = {"Animals & Nature", "Food & Drink", "Travel & Places", "Activities", "Objects"}
# Clocks and signs differ by a hand or a letter; what an office sells looks like paper.
SUBCATEGORIES_LEFT_OUT = {"time", "sound", "mail", "other-object", "money", "award-medal"}
LEFT_OUT_WORDS = ("oncoming", "moon", "symbol", "sign", "skin", "globe", "sun behind", "earth", "arrow", "suit", "chart", "japan",
                  "with rain", "station", "dark", "sunset", "sunrise", "night", "cityscape", "fog", "silhouette", "shinto", "swirl",
                  "tanabata", "decoration", "ceremony", "card", "calendar", "notepad", "clipboard", "level slider", "control knobs",
                  "mahjong", "motorway", "track", "dashes", "departure", "arriving", "half", "stack", "without", "with ink", "page",
                  "folder", "bookmark", "ledger", "memo", "pushpin", "classical", "wedding", "sun with", "wind", "horizontal", "tram car",
                  "trolleybus", "light rail", "railway car", "front-facing", "rugby football", "umbrella on", "closed umbrella", "open lock",
                  "personal computer", "left-pointing", "dromedary", "office", "kaaba", "tower", "national park", "optical disc",
                  "paperclips", "mans shoe", "construction", "camping", "hot springs", "musical score", "microbe", "service dog",
                  "suspension", "pouring", "rosette", "low battery", "love hotel", "derelict", "film projector", "camera with", "wing",
                  "file cabinet", "motorized", "flying disc", "empty nest", "stuffed", "performing arts", "pill", "link", "bus stop")
MASS = {"bacon", "broccoli", "butter", "garlic", "popcorn", "spaghetti", "bread", "coral", "luggage", "sushi", "oden", "dango", "mount fuji",
        "curry and rice", "wood", "ginger root", "canned food"}
NAMES = {"mag_right": "magnifying glass", "flashlight": "flashlight", "hocho": "kitchen knife",
         "earth_asia": None, "corn": "corn", "eggplant": "eggplant", "hotdog": "hot dog", "ramen": "noodle soup", "icecream": None,
         "cake": "slice of cake", "fried_egg": "frying pan", "tea": "green tea", "tophat": "top hat", "art": "palette",
         "8ball": "billiard ball", "game_die": "die", "dart": "dartboard", "tada": "party popper", "tennis": "tennis racket",
         "poultry_leg": "drumstick", "bee": "bee", "dagger_knife": "dagger", "ship": "ship", "bike": "bicycle",
         "pencil2": "pencil", "black_nib": "pen nib", "sunny": "sun", "phone": "red telephone", "coffee": "cup of coffee",
         "boat": "sailboat", "t-rex": "tyrannosaurus", "sauropod": "sauropod", "blowfish": "blowfish", "rice": "bowl of rice",
         "izakaya_lantern": "red lantern", "rotating_light": "siren", "blue_car": "blue van", "golf": "golf flag",
         "house_with_garden": None, "house_buildings": None, "european_castle": "castle", "mortar_board": "graduation cap"}
COLOURS = {"red": (0.0, 0.75, 0.85), "orange": (0.08, 0.85, 0.98), "yellow": (0.15, 0.65, 0.98), "green": (0.34, 0.55, 0.70),
           "blue": (0.60, 0.65, 0.85), "purple": (0.77, 0.50, 0.72), "pink": (0.93, 0.32, 0.98), "brown": (0.07, 0.60, 0.45),
           "black": (0.0, 0.0, 0.06), "grey": (0.0, 0.0, 0.60)}  # hue, saturation, value
NAMED = [colorsys.hsv_to_rgb(*colour) for colour in COLOURS.values()]  # red, green, blue in [0, 1]
HELD_OUT = {"subjects": 30, "pairs of subject and style": 0.1, "pairs of subjects": 0.1}  # the filters' styles among them
BACKGROUNDS_PER_PICTURE = 3
COMPOSITIONS = 5000
VALIDATION = 200  # of each kind


@dataclass(frozen=True)
class Thing:
    noun: str
    short_name: str  # the key in emoji.json
    category: str

    @property
    def phrase(self):
        sounds_open = self.noun[0] in "aeiou" and not self.noun.startswith(("uni", "eu")) or self.noun == "x-ray"
        return self.noun if self.is_plural or self.noun in MASS else f"{'an' if sounds_open else 'a'} {self.noun}"

    @property
    def is_plural(self):
        return self.noun.endswith("s") and not self.noun.endswith(("ss", "us", "ros"))

    @property
    def plural(self):
        noun = self.noun
        if " of " in noun:
            head, rest = noun.split(" of ", 1)
            return f"{head}s of {rest}"
        if self.is_plural or noun in MASS:
            return noun
        if noun.endswith(("s", "sh", "ch", "x")):
            return noun + "es"
        if noun.endswith("y") and noun[-2] not in "aeiou":
            return noun[:-1] + "ies"
        return {"mouse": "mice", "wolf": "wolves", "knife": "knives", "sheep": "sheep", "fish": "fish", "die": "dice"}.get(noun, noun + "s")


@dataclass(frozen=True)
class Filtered:
    """The style that the filter of that name makes of another's pictures."""

    name: str
    of: Style


@dataclass
class Folder:
    path: Path
    rows: list = field(default_factory=list)

    def add(self, image, name, texts, **labels):
        self.path.mkdir(parents=True, exist_ok=True)
        image.convert("RGB").save(self.path / f"{name}.png", "PNG")
        self.rows.append({"file_name": f"{name}.png", "text": texts, **labels})

    def close(self):
        lines = [json.dumps(row) for row in self.rows]
        (self.path / "metadata.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


def chance(*what):
    """A generator of its own for everything: adding a subject changes no other picture."""
    return random.Random(int.from_bytes(hashlib.sha256("/".join(map(str, what)).encode()).digest()[:8], "big"))


def noun_of(entry):
    name = entry["name"].lower().replace("’", "'").replace("womans", "woman's")
    for end in (" face", " symbol", " building", " emoji"):
        name = name.removesuffix(end)
    for start in ("black ", "white ", "wrapped ", "slice of ", "steaming "):
        name = name.removeprefix(start) if name != "black cat" and name != "black bird" else name
    return name


def things(packages):
    """Curated names first; then the table's own, where they are a plain noun that no other has."""
    table = json.loads((packages / "emoji-datasource-twitter/emoji.json").read_text(encoding="utf-8"))
    sets = read_subjects(Path(__file__).resolve().parent.parent / "pictures/subjects.tsv")
    chosen = {s.noun: Thing(s.noun, s.short_name, s.category) for s in sets["core"] + sets["more"] + sets["subject"]}
    known = {thing.short_name for thing in chosen.values()}
    for entry in sorted(table, key=lambda entry: entry["sort_order"]):
        short = entry["short_name"]
        if entry["category"] not in CATEGORIES or entry["subcategory"] in SUBCATEGORIES_LEFT_OUT or short in known:
            continue
        noun = NAMES[short] if short in NAMES else noun_of(entry)
        if not noun or len(noun.split()) > 3 or any(word in noun for word in LEFT_OUT_WORDS) or noun in chosen:
            continue
        if entry["has_img_twitter"] and entry["has_img_google"]:
            chosen[noun] = Thing(noun, short, entry["category"].lower())
    return sorted(chosen.values(), key=lambda thing: thing.noun)


def hold_out(all_things):
    """The subjects left out, and of the others the styles that training sees, by noun."""
    by_chance = sorted(all_things, key=lambda thing: chance("subject", thing.noun).random())
    curated = {s.noun for s in read_subjects(Path(__file__).resolve().parent.parent / "pictures/subjects.tsv")["core"]}
    unseen = {"unicorn"} | {t.noun for t in [t for t in by_chance if t.noun not in curated][: HELD_OUT["subjects"] - 1]}
    styles = {}
    for thing in all_things:
        if thing.noun in unseen:
            continue
        draw, share = chance("style", thing.noun).random(), HELD_OUT["pairs of subject and style"]
        styles[thing.noun] = STYLES if draw >= 2 * share or thing.noun in curated else (STYLES[0],) if draw < share else (STYLES[1],)
    return unseen, styles


def shade(name, random_):
    hue, saturation, value = COLOURS[name]
    hue += random_.uniform(-0.01, 0.01)
    saturation = min(1, saturation * random_.uniform(0.93, 1.07))
    value = min(1, value * random_.uniform(0.95, 1.05))
    return tuple(round(255 * x) for x in colorsys.hsv_to_rgb(hue % 1, saturation, value))


def compose(parts, background):
    """Pictures with side and centre, one over the other, on a colour."""
    canvas = Image.new("RGBA", (SIZE, SIZE), background + (255,))
    for image, side, (x, y) in parts:
        scaled = image.convert("RGBa").resize((side, side), Image.Resampling.LANCZOS).convert("RGBA") if side != SIZE else image
        layer = Image.new("RGBA", (SIZE, SIZE), (0, 0, 0, 0))
        layer.paste(scaled, (x - side // 2, y - side // 2))
        canvas = Image.alpha_composite(canvas, layer)
    return canvas


def captions(phrase, where, style):
    """Where no style is named, it is one of the two sets'."""
    named = [f"{phrase}{where}, {style.name} style", f"{phrase}, {style.name} style{where}", f"{style.name} style, {phrase}{where}"]
    return named + [f"{phrase}{where}"] if style in STYLES else named


class Painter:
    """Draws each kind of picture into a folder."""

    def __init__(self, packages, out):
        self._sources, self._out, self._folders, self._cache = Sources(packages), out, {}, {}

    def folder(self, name):
        return self._folders.setdefault(name, Folder(self._out / name))

    def close(self):
        for folder in self._folders.values():
            folder.close()

    def picture(self, thing, style):
        key = thing.noun, style.name
        if key not in self._cache and isinstance(style, Filtered):
            self._cache[key] = derived(self.picture(thing, style.of), style.name)
        elif key not in self._cache:
            image = self._sources.picture(thing, style)
            self._cache[key] = image if image.size == (SIZE, SIZE) else image.resize((SIZE, SIZE), Image.Resampling.LANCZOS)
        return self._cache[key]

    def backdrop(self, random_, share):
        """A colour, its name, and how a caption says so."""
        if random_.random() >= share:
            return (255, 255, 255), "white", ""
        name = random_.choice(sorted(COLOURS))
        return shade(name, random_), name, f" on a{'n' if name == 'orange' else ''} {name} background"

    def add(self, folder, kind, name, parts, phrase, things_, style, random_, coloured):
        rgb, background, where = self.backdrop(random_, coloured)
        self.folder(folder).add(compose(parts, rgb), name.replace(" ", "_"), captions(phrase, where, style), kind=kind, style=style.name,
                                subjects=[thing.noun for thing in things_], background=background)

    def plain(self, folder, thing, style):
        whole = [(self.picture(thing, style), SIZE, (SIZE // 2, SIZE // 2))]
        self.add(folder, "plain", f"{thing.noun}_{style.name}", whole, thing.phrase, [thing], style, chance(), 0)

    def background(self, folder, thing, style, number):
        random_ = chance("background", thing.noun, style.name, number)
        side = random_.randint(48, 60)
        x, y = (SIZE // 2 + random_.randint(-2, 2) for _ in range(2))
        whole = [(self.picture(thing, style), side, (x, y))]
        self.add(folder, "background", f"{thing.noun}_{style.name}_{number}", whole, thing.phrase, [thing], style, random_, 1)

    def sizes(self, folder, thing, style):
        random_ = chance("sizes", thing.noun, style.name)
        image, middle = self.picture(thing, style), SIZE // 2
        spot = lambda reach: (middle + random_.randint(-reach, reach), middle + random_.randint(-reach, reach))
        dy = random_.randint(-3, 3)
        self.add(folder, "small", f"{thing.noun}_{style.name}_small", [(image, random_.randint(26, 30), spot(8))], f"a small {thing.noun}",
                 [thing], style, random_, 0.4)
        self.add(folder, "big", f"{thing.noun}_{style.name}_big", [(image, random_.randint(82, 90), spot(3))], f"a big {thing.noun}",
                 [thing], style, random_, 0.4)
        two = [(image, 30, (16, middle + dy)), (image, 30, (48, middle + dy))]
        self.add(folder, "two", f"{thing.noun}_{style.name}_two", two, f"two {thing.plural}", [thing, thing], style, random_, 0.4)

    def pair(self, folder, left, right, style, number):
        random_ = chance("pair", left.noun, right.noun, style.name)
        middle = SIZE // 2
        parts = [(self.picture(left, style), 30, (16, middle + random_.randint(-4, 4))),
                 (self.picture(right, style), 30, (48, middle + random_.randint(-4, 4)))]
        phrase = f"{left.phrase} left of {right.phrase}" if random_.random() < 0.5 else f"{right.phrase} right of {left.phrase}"
        self.add(folder, "pair", f"{number:05d}_{style.name}", parts, phrase, [left, right], style, random_, 0.4)


def paint_filtered(painter, thing, styles):
    for name in FILTERS:
        random_ = chance("filter", thing.noun, name)
        style, held = Filtered(name, random_.choice(styles)), random_.random() < HELD_OUT["pairs of subject and style"]
        folder = "validation/filtered" if held else "train/filtered"
        painter.plain(folder, thing, style)
        painter.background(folder, thing, style, 0)


def main():
    packages, out = Path(sys.argv[1]), Path(sys.argv[2])
    all_things = things(packages)
    unseen, seen_styles = hold_out(all_things)
    painter = Painter(packages, out)
    held_pairs = []
    for thing in all_things:
        for style in STYLES:
            if style in seen_styles.get(thing.noun, ()):
                painter.plain("train/plain", thing, style)
                for number in range(BACKGROUNDS_PER_PICTURE):
                    painter.background("train/background", thing, style, number)
                painter.sizes("train/size", thing, style)
            else:
                painter.plain("validation/subjects" if thing.noun in unseen else "validation/plain", thing, style)
                held_pairs.append((thing, style))
        if thing.noun not in unseen:
            paint_filtered(painter, thing, seen_styles[thing.noun])
    for number, (thing, style) in enumerate(sorted(held_pairs, key=lambda pair: chance("held", pair[0].noun, pair[1].name).random())[:VALIDATION]):
        painter.background("validation/background", thing, style, number)
    by_style = {style: [t for t in all_things if style in seen_styles.get(t.noun, ())] for style in STYLES}
    pairs, number = chance("pairs"), 0
    kept = 0
    while number < COMPOSITIONS or kept < VALIDATION:
        style = STYLES[number % 2]
        left, right = pairs.sample(by_style[style], 2)
        held = chance("held", left.noun, right.noun).random() < HELD_OUT["pairs of subjects"]
        if held and kept < VALIDATION:
            painter.pair("validation/pairs", left, right, style, kept)
            kept += 1
        elif not held and number < COMPOSITIONS:
            painter.pair("train/pairs", left, right, style, number)
            number += 1
    painter.close()
    table = [{"noun": t.noun, "phrase": t.phrase, "short_name": t.short_name, "category": t.category,
              "trained": [style.name for style in seen_styles.get(t.noun, ())]} for t in all_things]
    (out / "subjects.json").write_text("[\n" + ",\n".join(json.dumps(row) for row in table) + "\n]\n", encoding="utf-8")
    print(f"{len(all_things)} subjects, {len(unseen)} of them held out; {len(held_pairs)} pictures held out;",
          f"{sum(len(f.rows) for f in painter._folders.values())} pictures in {out}")


if __name__ == "__main__":
    main()
