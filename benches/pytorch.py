"""Seconds per image: muse against the training tool's PyTorch, same checkpoint, same settings,
interleaved on one machine. Loading is left out on both sides.

    cargo build --release
    python benches/pytorch.py [--rounds 7] [--threads 2]

Needs tools/train/requirements.txt. Prints one line a round and the medians with their ratio.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools" / "train"))

import torch  # noqa: E402
from safetensors.torch import load_file  # noqa: E402

import vq  # noqa: E402
from decode import decode  # noqa: E402
from text import TextEncoder  # noqa: E402
from train_masked import make  # noqa: E402

PROMPT = "two apples and a cat on a blue background"


class Torch:
    """The whole pipeline in PyTorch, transformers in `dtype`."""

    def __init__(self, model: Path, dtype: torch.dtype):
        self.config = json.loads((model / "config.json").read_text())
        self.text = TextEncoder()
        self.stages = {}
        for stage in ("base", "superres"):
            transformer = make(stage, dtype)[0]
            transformer.load_state_dict({k: v.float() for k, v in load_file(model / f"{stage}.safetensors").items()})
            self.stages[stage] = transformer.eval().requires_grad_(False)
        self.vq = vq.build(128)
        self.vq.load_state_dict({k: v.float() for k, v in load_file(model / "vq_superres.safetensors").items()})
        self.vq.eval()

    @torch.inference_mode()
    def image(self, seed: int) -> float:
        start = time.perf_counter()
        text, empty = self.text.encode([PROMPT, ""])
        generator = torch.Generator().manual_seed(seed)
        settings = {stage: self.config[stage]["decode"] for stage in self.stages}
        coarse = decode(self.stages["base"], [text], empty, settings["base"], generator)
        fine = decode(self.stages["superres"], [text], empty, settings["superres"], generator, coarse)
        vq.detokenise(self.vq, fine)
        return time.perf_counter() - start


def muse(program: Path, model: Path, threads: int) -> float:
    """The second image of a process: the first one warms up, as PyTorch's earlier rounds do."""
    with tempfile.TemporaryDirectory() as directory:
        command = [program, "generate", PROMPT, "--model", model, "--count", "2", "--threads", threads, "--json", "-o", directory]
        lines = subprocess.run([str(c) for c in command], check=True, capture_output=True, text=True).stdout.splitlines()
    seconds = json.loads(lines[1])["seconds"]
    return sum(seconds[stage] for stage in ("text", "base", "superres", "vq"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--model", type=Path, default=ROOT / "models" / "demo")
    parser.add_argument("--muse", type=Path, default=ROOT / "target" / "release" / "muse")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    peers = {"torch f32": Torch(arguments.model, torch.float32), "torch bf16": Torch(arguments.model, torch.bfloat16)}
    for peer in peers.values():
        peer.image(0)  # warm-up
    seconds = {name: [] for name in ("muse", *peers)}
    for seed in range(arguments.rounds):
        seconds["muse"].append(muse(arguments.muse, arguments.model, arguments.threads))
        for name, peer in peers.items():
            seconds[name].append(peer.image(seed))
        print("  ".join(f"{name} {s[-1]:.3f}" for name, s in seconds.items()), flush=True)
    medians = {name: statistics.median(s) for name, s in seconds.items()}
    best = min(medians[name] for name in peers)
    print(f"median of {arguments.rounds} interleaved rounds, {arguments.threads} threads: "
          + ", ".join(f"{name} {s:.3f} s" for name, s in medians.items())
          + f"; muse is {best / medians['muse']:.2f} times as fast as the faster PyTorch")


if __name__ == "__main__":
    main()
