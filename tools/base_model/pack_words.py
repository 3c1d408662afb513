"""Makes the vectors of words that training never saw cheap to keep: rounded to multiples of 1/64, they pack to a quarter.

usage: pack_words.py MODEL DATA   (changes MODEL/text_encoder/model.safetensors in place)

Such vectors still are what they were drawn as, N(0, 0.05^2), but for that rounding: words stay different from each other.
"""

import json
import sys
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from transformers import CLIPTokenizer

TABLE = "text_model.embeddings.token_embedding.weight"


def main():
    model, data = Path(sys.argv[1]), Path(sys.argv[2])
    tokenizer = CLIPTokenizer.from_pretrained(model / "tokenizer", local_files_only=True)
    captions = {text for file in (data / "train").glob("*/metadata.jsonl") for line in file.read_text().splitlines()
                for text in json.loads(line)["text"]}  # fmt: skip
    seen = {token for caption in captions for token in tokenizer(caption).input_ids}
    path = model / "text_encoder/model.safetensors"
    with safe_open(path, "pt") as file:
        metadata, tensors = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}
    table = tensors[TABLE]
    unseen = torch.tensor(sorted(set(range(len(table))) - seen))
    table[unseen] = ((table[unseen].float() * 64).round() / 64).to(table.dtype)
    save_file(tensors, path, metadata=metadata)
    print(f"{len(seen)} of {len(table)} words were in captions; the vectors of the others are rounded")


if __name__ == "__main__":
    main()
