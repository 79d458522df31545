#!/usr/bin/env python3
"""Writes tests/golden/clip_tokenizer.json: hashes of transformers' CLIPTokenizer's ids.

    python3 scripts/clip_vocabulary.py && .venv/bin/python tools/reference/clip_tokenizer.py [--vocabulary DIR]

Strings are made from a counter by both sides (`tests/clip_vocabulary.rs` has the same generator):
`RANDOM` of mixed characters, and a sweep of every Unicode code point between letters. The hash is
32-bit FNV-1a over the ids of the whole text, then over those padded or cut to 77; of the sweep, over
64 texts at a time.
"""

import argparse
import json
from pathlib import Path

import transformers
from transformers import CLIPTokenizer

RANDOM = 12_288
LENGTH = 77
WORDS = ("a photo of the cat, DOGS don't it's we'll I'D you've they're I'm 'S 'T 1234 3.14 unbelievable "
         "antidisestablishmentarianism <|startoftext|> <|endoftext|> <|EndOfText|> <|endoftext </w> #version ## # "
         "&amp; http://a.b/c?d=e 'tis rock'n'roll !!! ... ?! -- __ (a) [b] caf\u00e9 cafe\u0301 \u01c5 \ufb01ne "
         "stra\u00dfe \u0130stanbul \u03a3\u03a3 \u1f88 \u00bd \u2460 \u216b \u0663 \U0001f468\u200d\U0001f469 \u2764\ufe0f \U0001f1e9\U0001f1ea").split(" ")
SPACES = [9, 10, 11, 12, 13, 28, 29, 30, 31, 32, 0x85, 0xA0, 0x1680, 0x2003, 0x200B, 0x2028, 0x2029, 0x202F, 0x205F,
          0x3000, 0xFEFF, 0x180E]
RANGES = [(0x20, 0x7F), (0x00, 0x20), (0xA0, 0x250), (0x300, 0x370), (0x370, 0x530), (0x590, 0x780), (0x900, 0xE80),
          (0x1100, 0x1200), (0x2000, 0x2C00), (0x3000, 0x3400), (0x4E00, 0xA000), (0xAC00, 0xD7A4),
          (0xF900, 0x10000), (0x1D400, 0x1D800), (0x1F000, 0x1FB00), (0, 0x110000)]


class Counter:
    """SplitMix64."""

    def __init__(self, state: int) -> None:
        self.state = state

    def below(self, n: int) -> int:
        self.state = (self.state + 0x9E3779B97F4A7C15) % 2**64
        z = self.state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) % 2**64
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) % 2**64
        return (z ^ (z >> 31)) % n


def scalar(code: int) -> str:
    return chr(code if not 0xD800 <= code < 0xE000 else 0xFFFD)


def random_text(index: int) -> str:
    counter = Counter(index << 32)
    home = counter.below(len(RANGES))
    pieces = []
    for _ in range(counter.below(2000) if index % 256 == 255 else counter.below(24)):
        match counter.below(8):
            case 0:
                pieces.append(WORDS[counter.below(len(WORDS))] + " ")
            case 1:
                pieces.append(WORDS[counter.below(len(WORDS))])
            case 2:
                pieces.append(chr(SPACES[counter.below(len(SPACES))]))
            case 3:
                low, high = RANGES[counter.below(len(RANGES))]
                pieces.append(scalar(low + counter.below(high - low)))
            case _:
                low, high = RANGES[home]
                pieces.append(scalar(low + counter.below(high - low)))
    return "".join(pieces)


def sweep_text(index: int) -> str:
    return " ".join(f"a{scalar(16 * index + i)}b{scalar(16 * index + i)}" for i in range(16))


def fold(hash: int, ids: list[int]) -> int:
    for id in ids:
        hash = (hash ^ id) * 0x01000193 % 2**32
    return hash


def hashes(tokenizer: CLIPTokenizer, texts: list[str], group: int) -> list[int]:
    whole = tokenizer(texts).input_ids
    cut = tokenizer(texts, padding="max_length", truncation=True, max_length=LENGTH).input_ids
    out = []
    for start in range(0, len(texts), group):
        hash = 0x811C9DC5
        for i in range(start, min(start + group, len(texts))):
            hash = fold(fold(hash, whole[i]), cut[i])
        out.append(hash)
    return out


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    root = Path(__file__).parents[2]
    parser.add_argument("--vocabulary", type=Path, default=root / "target/clip")
    tokenizer = CLIPTokenizer.from_pretrained(parser.parse_args().vocabulary)
    golden = {"transformers": transformers.__version__,
              "random": hashes(tokenizer, [random_text(i) for i in range(RANDOM)], 1),
              "sweep": hashes(tokenizer, [sweep_text(i) for i in range(0x110000 // 16)], 64)}
    path = root / "tests/golden/clip_tokenizer.json"
    path.write_text(json.dumps(golden, separators=(",", ":")) + "\n")
