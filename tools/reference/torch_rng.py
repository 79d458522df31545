#!/usr/bin/env python3
"""Writes tests/golden/torch_rng.json: what torch.Generator("cpu") draws, to the bit.

    torch_rng.py            writes the golden file
    torch_rng.py --study    holds torch's exponential_ to its definition on 64 million draws

Every run of draws is made by one call, as multinomial and rand make theirs. A checksum stands for all
of a run: the sum of (2 i + 1) * bits_i modulo 2^64.
"""

import argparse
import json
import math
from pathlib import Path

import numpy as np
import torch

SEEDS = [0, 1, 42, 2**32 - 1, 2**32 + 42, 0xDEAD_BEEF_CAFE_F00D]
SIZES = [*range(1, 65), 623, 624, 625, 8192, 1 << 20]
LONG = 4_194_304  # the exponentials of one step at 256 pixels


def bits(values: torch.Tensor) -> np.ndarray:
    return values.contiguous().view(torch.int32).numpy().view(np.uint32).reshape(-1)


def checksum(words: np.ndarray) -> int:
    weights = 2 * np.arange(words.size, dtype=np.uint64) + np.uint64(1)
    return int((words.astype(np.uint64) * weights).sum(dtype=np.uint64))


def exponential(generator: torch.Generator, count: int) -> np.ndarray:
    return bits(torch.empty(count).exponential_(1, generator=generator))


def uniform(generator: torch.Generator, count: int) -> np.ndarray:
    return bits(torch.rand(count, generator=generator))


def golden() -> dict:
    runs = []
    for seed in SEEDS:
        generator = torch.Generator().manual_seed(seed)
        run = {"seed": str(seed), "draws": []}
        # The first step at 256 pixels, a few of the second, and an odd count between the two kinds.
        for kind, count in [("exponential", LONG), ("uniform", 256), ("exponential", 7), ("uniform", LONG + 1),
                            ("exponential", 1000)]:
            words = {"exponential": exponential, "uniform": uniform}[kind](generator, count)
            run["draws"].append({"kind": kind, "count": count, "first": words[:4].tolist(),
                                 "last": words[-3:].tolist(), "checksum": str(checksum(words))})
        runs.append(run)
    return {"torch": torch.__version__, "runs": runs}


def study() -> None:
    """Where torch's values differ from the definition, computed from the words in extended precision."""
    draws = different = 0
    for seed in range(16):
        values = exponential(torch.Generator().manual_seed(seed), LONG)
        words = np.random.RandomState(seed).randint(0, 2**32, size=2 * LONG, dtype=np.uint32).astype(np.uint64)
        u = (((words[0::2] << np.uint64(32)) | words[1::2]) & np.uint64(2**53 - 1)).astype(np.float64) * 2.0**-53
        exact = (-np.log1p(-u.astype(np.longdouble))).astype(np.float32).view(np.uint32)
        for i in np.flatnonzero(values != exact):
            libm = np.float32(-math.log1p(-u[i]))
            print(f"seed {seed} draw {i}: u {u[i].hex()}, torch {values[i]:#x}, exact {exact[i]:#x}, "
                  f"libm {libm.view(np.uint32):#x}")
        draws, different = draws + LONG, different + int((values != exact).sum())
    print(f"{different} of {draws} exponentials differ from the correctly rounded definition")
    long = exponential(torch.Generator().manual_seed(42), LONG)
    for size in SIZES:
        short = exponential(torch.Generator().manual_seed(42), size)
        assert (short == long[:size]).all(), f"{size} exponentials are not the first of a longer run"
    for threads in (1, 2):
        torch.set_num_threads(threads)
        assert (exponential(torch.Generator().manual_seed(42), LONG) == long).all(), f"{threads} threads"
    rows = torch.full((3, 8192), 1 / 8192)
    drawn = torch.multinomial(rows, 1, generator=torch.Generator().manual_seed(42)).squeeze(1)
    noise = torch.from_numpy(long[: rows.numel()].view(np.float32)).reshape(rows.shape)
    assert (drawn == (rows / noise).argmax(1)).all(), "multinomial does not race these exponentials"
    print(f"sizes {SIZES[0]} to {LONG}, one and two threads, and multinomial agree")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--study", action="store_true")
    if parser.parse_args().study:
        study()
    else:
        path = Path(__file__).parents[2] / "tests/golden/torch_rng.json"
        path.write_text(json.dumps(golden(), indent=1) + "\n")
