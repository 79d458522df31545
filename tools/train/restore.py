"""Stage `restore`: checkpoints to go on from, out of an exported directory, where the run's own are gone.

The weights are those that were exported (averaged, rounded to bf16); optimisers, counts and noise start anew.
Checkpoints that the run has are left alone.
"""

from pathlib import Path

import torch
from safetensors.torch import load_file

import vq
from runtime import save_atomically
from train_masked import CONFIGS, make


def run(args) -> None:
    out, model_dir = Path(args.out), Path(args.model)
    out.mkdir(parents=True, exist_ok=True)
    for name, size in (("vq_base", 64), ("vq_superres", 128)):
        model = vq.build(size)
        model.load_state_dict(load_file(model_dir / f"{name}.safetensors"))
        save(out / f"vq{size}.pt", {"model": model.state_dict()})
    for stage in CONFIGS:
        model, optimiser = make(stage)
        model.load_state_dict(load_file(model_dir / f"{stage}.safetensors"))
        start = [p.detach().float().clone() for p in optimiser.parameters]
        state = optimiser.state_dict() | {"masters": start, "average": start}
        save(out / f"{stage}.pt", {"optimiser": state})


def save(path: Path, state: dict) -> None:
    if path.exists():
        print(f"{path}: kept")
        return
    content = {"steps": 0, "samples": 0, "seconds": 0.0, "state": state}
    save_atomically(path, lambda part: torch.save(content, part))
    print(path)
