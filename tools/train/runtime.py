"""What every training stage shares: processes, time budget, checkpoints, log, picture sheets.

All randomness of a step is a function of (seed, samples seen, rank), so a resumed run goes on with
the noise it would have had.
"""

import json
import os
import textwrap
import time
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from PIL import Image, ImageDraw


class World:
    """This process among the others; a world of one needs no torchrun."""

    def __init__(self, threads: int):
        self.size = int(os.environ.get("WORLD_SIZE", "1"))
        self.rank = int(os.environ.get("RANK", "0"))
        torch.set_num_threads(threads or max(1, (os.cpu_count() or 1) // self.size))
        if self.size > 1:
            dist.init_process_group("gloo")

    @property
    def first(self) -> bool:
        return self.rank == 0

    def sum_(self, *tensors: torch.Tensor) -> None:
        """Sums the tensors over all processes, in place, in one message."""
        if self.size == 1:
            return
        flat = torch.cat([t.reshape(-1).float() for t in tensors])
        dist.all_reduce(flat)
        for tensor, part in zip(tensors, flat.split([t.numel() for t in tensors])):
            tensor.copy_(part.view_as(tensor))

    def mean_gradients_(self, parameters) -> None:
        if self.size == 1:
            return
        gradients = [p.grad for p in parameters]
        self.sum_(*gradients)
        torch._foreach_div_(gradients, self.size)

    def from_first(self, tensor: torch.Tensor) -> torch.Tensor:
        if self.size > 1:
            dist.broadcast(tensor, 0)
        return tensor

    def barrier(self) -> None:
        if self.size > 1:
            dist.barrier()

    def close(self) -> None:
        self.barrier()
        if self.size > 1:
            dist.destroy_process_group()


def save_atomically(path: Path, write) -> None:
    """Calls `write(temporary path)` and renames: a reader never sees half a file."""
    temporary = path.with_name(path.name + ".part")
    write(temporary)
    os.replace(temporary, path)


class Loop:
    """Counts steps and samples against a budget of minutes or steps; checkpoints; logs.

    `state` maps names to objects with state_dict/load_state_dict. The budget counts training time
    over all sessions of the run, so a longer budget continues a finished run.
    """

    CHECKPOINT_SECONDS = 180

    def __init__(
        self,
        world: World,
        out: Path,
        name: str,
        state: dict,
        batch: int,
        minutes: float,
        steps: int,
        seed: int,
    ):
        self.world, self.name, self.state, self.batch, self.seed = world, name, state, batch, seed
        self.minutes, self.max_steps = minutes, steps
        self.path = out / f"{name}.pt"
        self.log_path = out / f"{name}.jsonl"
        self.steps = self.samples = 0
        self.seconds = 0.0
        if self.path.exists():
            saved = torch.load(self.path, map_location="cpu", weights_only=True)
            for key, value in state.items():
                value.load_state_dict(saved["state"][key])
            self.steps, self.samples, self.seconds = saved["steps"], saved["samples"], saved["seconds"]
            self.print(
                f"{name}: resumed at step {self.steps}, {self.samples} samples, {self.seconds / 60:.1f} min"
            )
        now = time.monotonic()
        self.last, self.saved_at, self.logged_at, self.logged_samples = now, now, now, self.samples
        self.sums: dict[str, float] = {}
        self.summed = 0

    def print(self, line: str) -> None:
        if self.world.first:
            print(time.strftime("%H:%M:%S"), line, flush=True)

    def progress(self) -> float:
        """0 at the start, 1 at the end of the budget; the same on every process."""
        if self.max_steps:
            return min(1.0, self.steps / self.max_steps)
        value = torch.tensor([min(1.0, self.seconds / (60 * self.minutes))], dtype=torch.float64)
        return self.world.from_first(value).item()

    def seed_of_step(self) -> int:
        """A seed of this step's own, different on every process."""
        return (self.seed * 1_000_003 + self.samples) * 64 + self.world.rank

    def indices(self) -> range:
        """The global sample numbers of this process's share of the next batch."""
        start = self.samples + self.world.rank * self.batch
        return range(start, start + self.batch)

    def tick(self, metrics: dict[str, float], every: float = 20.0) -> bool:
        """Counts one step. True when a progress line was written."""
        now = time.monotonic()
        self.seconds += now - self.last
        self.last = now
        self.steps += 1
        self.samples += self.batch * self.world.size
        for key, value in metrics.items():
            self.sums[key] = self.sums.get(key, 0.0) + float(value)
        self.summed += 1
        if self.world.first and now - self.saved_at > self.CHECKPOINT_SECONDS:
            self.save()
        if now - self.logged_at < every:
            return False
        means = {key: round(value / self.summed, 5) for key, value in self.sums.items()}
        rate = (self.samples - self.logged_samples) / (now - self.logged_at)
        record = {
            "step": self.steps,
            "samples": self.samples,
            "minutes": round(self.seconds / 60, 2),
            "samples_per_second": round(rate, 1),
            **means,
        }
        if self.world.first:
            with self.log_path.open("a") as file:
                file.write(json.dumps(record) + "\n")
        self.print(f"{self.name} " + " ".join(f"{k}={v}" for k, v in record.items()))
        self.sums, self.summed, self.logged_at, self.logged_samples = {}, 0, now, self.samples
        return True

    def save(self) -> None:
        if not self.world.first:
            return
        content = {
            "steps": self.steps,
            "samples": self.samples,
            "seconds": self.seconds,
            "state": {key: value.state_dict() for key, value in self.state.items()},
        }
        save_atomically(self.path, lambda path: torch.save(content, path))
        self.saved_at = time.monotonic()


def learning_rate(steps: int, progress: float, start: float, end: float = 0.02) -> float:
    """Factor of the learning rates: short warm-up, constant until `start` of the budget, linear to `end`."""
    warm = min(1.0, (steps + 1) / 50)
    return warm if progress < start else 1.0 + (end - 1.0) * (progress - start) / (1.0 - start)


def sheet(path: Path, rows: list[list[np.ndarray]], captions: list[str] | None = None, zoom: int = 1) -> None:
    """Pictures [h, w, 3] uint8 as a table, with captions (row by row) under them when given."""
    side = max(p.shape[0] for row in rows for p in row) * zoom
    text = 40 if captions else 0
    table = Image.new("RGB", (len(rows[0]) * (side + 4), len(rows) * (side + 4 + text)), "white")
    draw = ImageDraw.Draw(table)
    for r, row in enumerate(rows):
        for c, picture in enumerate(row):
            x, y = c * (side + 4), r * (side + 4 + text)
            table.paste(Image.fromarray(picture).resize((side, side), Image.NEAREST), (x, y))
            if captions:
                lines = textwrap.wrap(captions[r * len(rows[0]) + c], side // 6)[:3]
                draw.text((x, y + side + 2), "\n".join(lines), fill="black", font_size=10, spacing=1)
    save_atomically(path, lambda p: table.save(p, "PNG"))


def to_bytes(images: torch.Tensor) -> list[np.ndarray]:
    """[n, 3, h, w] in 0…1 to a list of uint8 pictures."""
    return list((images.float().clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).contiguous().numpy())
