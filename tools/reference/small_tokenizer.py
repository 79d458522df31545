"""Writes tools/fixtures/tokenizer: a CLIP tokenizer small enough to commit, in the published files.

    .venv/bin/python tools/reference/small_tokenizer.py

Its merges are what byte pair encoding learns from the prompts of `amused.py`; the vocabulary is laid out as CLIP's:
byte characters, the same at a word's end, merges, start, end.
"""

import json
from collections import Counter

from transformers.convert_slow_tokenizer import bytes_to_unicode

import fixtures
from prompts import PROMPTS

MERGES = 126


def learn(texts: list[str], count: int) -> list[tuple[str, str]]:
    """The most frequent pair again and again, the first in order of the alphabet among equals."""
    characters = bytes_to_unicode()
    words = Counter(word for text in texts for word in text.lower().split())
    pieces = {}
    for word in words:
        letters = [characters[b] for b in word.encode()]
        pieces[word] = [*letters[:-1], letters[-1] + "</w>"]
    merges = []
    for _ in range(count):
        pairs = Counter()
        for word, parts in pieces.items():
            for pair in zip(parts, parts[1:]):
                pairs[pair] += words[word]
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        for parts in pieces.values():
            for i in range(len(parts) - 1, 0, -1):
                if tuple(parts[i - 1 : i + 1]) == best:
                    parts[i - 1 : i + 1] = ["".join(best)]
    return merges


def main() -> None:
    merges = learn([text for prompt in PROMPTS for text in (prompt["prompt"], prompt.get("negative", ""))], MERGES)
    characters = list(bytes_to_unicode().values())
    tokens = [*characters, *(c + "</w>" for c in characters), *("".join(pair) for pair in merges),
              "<|startoftext|>", "<|endoftext|>"]
    assert len(set(tokens)) == len(tokens) == 640
    folder = fixtures.FOLDER / "tokenizer"
    folder.mkdir(exist_ok=True)
    start, end = (json.dumps(token) for token in tokens[-2:])
    vocabulary = {token: i for i, token in enumerate(tokens)}
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False, separators=(",", ":")) + "\n")
    (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges))
    (folder / "special_tokens_map.json").write_text(
        f'{{"bos_token": {start}, "eos_token": {end}, "pad_token": {end}, "unk_token": {end}}}\n')
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "CLIPTokenizer"}\n')


if __name__ == "__main__":
    main()
