#!/usr/bin/env python3
"""One decode step on the simulator, as a table: python3 benches/step.py [--amused MODEL] [--device h100] [-o FILE.md]

Builds ptxsim and runs benches/step.rs with 0 steps and with 1 or, for `--amused amused-256`, muse on the made-up model
of that name (tools/fixtures), an image of 1 step and one of 2; and tabulates the difference: launches, modelled bound
and what binds, traffic to DRAM against what is compulsory, sectors and banks. Nothing here is a time that a GPU took.
Needs Rust and Python 3; takes some minutes and 3 GiB of memory, aMUSEd 7 GiB, and as much disk for the model.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SECTOR = 32  # bytes
LAYERS = 22
TRUNK = """The transformer: 22 layers of 1024
channels, 16 heads of 64, 16 × 16 tokens with guidance (512 rows), 77 rows of text, a codebook of 8192; weights are noise.
"""
AMUSED = """The transformer is {model}'s with
made-up weights, 22 layers of 1024 channels between 12 blocks of convolution and attention of 768, at a guidance scale
of 10 (512 rows). It is the second step of two, which has 181 of 256 positions to draw.
"""
HEAD = """# One decode step, modelled

**Modelled by the simulator from public figures of the device; never measured on a GPU.** The bound ranks kernels, its
microseconds are not a latency ([how it is made](../../tools/ptxsim/README.md)). {about}
Made by `python3 benches/step.py {options}--device {device} -o benches/results/{name}`.

"""


def cargo(*arguments: str) -> str:
    return subprocess.run(["cargo", *arguments], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout


def benchmark() -> list[list]:
    """The commands without a step and with one."""
    for line in cargo("bench", "--locked", "--bench", "step", "--no-run", "--message-format=json").splitlines():
        message = json.loads(line)
        if message.get("reason") == "compiler-artifact" and message["target"]["name"] == "step":
            return [[message["executable"], "--bench", str(steps)] for steps in (0, 1)]
    sys.exit("step.py: cargo built no benchmark called step")


def images(release: Path, model: str, folder: Path) -> list[list]:
    """The commands of an image of one step and of two: the other one begins with 181 of 256 positions masked."""
    cargo("build", "--release", "--locked", "-p", "muse", "-p", "fixtures")
    subprocess.run([release / "fixtures", model, folder / model], check=True)
    command = [release / "muse", "generate", "a photo of a cat", "--model", folder / model, "--device", "cuda"]
    return [[*command, "--steps", str(steps), "-o", folder / f"{steps}.png"] for steps in (1, 2)]


def report(ptxsim: Path, command: list, device: str, file: Path) -> dict:
    """ptxsim's report of a command."""
    options = ["run", "--counters", "--mma", "f32", "--device", device, "--report", file, "--"]
    subprocess.run([ptxsim, *options, *command], check=True, stdout=subprocess.DEVNULL)
    found = json.loads(file.read_text())
    if found["findings"]:
        sys.exit(f"step.py: the simulator has findings: {found['findings']}")
    return found


def minus(a, b):
    """Numbers of `a` less those of `b`, at every depth."""
    if isinstance(a, dict):
        b = b if isinstance(b, dict) else {}
        return {key: minus(value, b.get(key)) for key, value in a.items()}
    return a - b if isinstance(a, int | float) and isinstance(b, int | float) else a


def sums(kernel: dict) -> dict:
    """What the table says of a kernel, or of all."""
    counters, bound = kernel["counted"]["counters"], kernel["counted"]["modelled_bound"]
    kinds = [counters["global"][kind] for kind in ("loads", "stores", "copies", "atomics")]
    shared = list(counters["shared"].values())
    binds = {term: value for term, value in bound["binds"].items() if value > 0.005 * bound["microseconds"]}
    of = counters["global"]
    return {
        "launches": kernel["launches"],
        "bound": bound["microseconds"],
        "binds": sorted(binds, key=binds.get, reverse=True),
        "dram": SECTOR * (of["dram_reads"] + of["dram_writes"]),
        "first": SECTOR * (of["first_reads"] + of["first_writes"]),
        "asked": sum(kind["bytes"] for kind in kinds),
        "sectors": SECTOR * sum(kind["sectors"] for kind in kinds),
        "conflicts": sum(kind["conflicts"] for kind in shared),
        "wavefronts": sum(kind["wavefronts"] for kind in shared),
    }


def row(name: str, s: dict, first: bool) -> str:
    conflicts = 100 * s["conflicts"] / max(s["wavefronts"], 1)
    compulsory = f"| {s['first'] / 1e6:.1f} " if first else ""
    return (
        f"| {name} | {s['launches']} | {s['bound']:.0f} | {', '.join(s['binds'][:2])} | {s['dram'] / 1e6:.1f} "
        f"{compulsory}| {100 * s['asked'] / max(s['sectors'], 1):.1f} % | {conflicts:.2f} % |"
    )


def table(step: dict, first: bool) -> str:
    """`first`: the step is a run's first, so that what it reads for the first time is what it must read."""
    rows = {name: sums(kernel) for name, kernel in step["kernels"].items() if kernel["launches"]}
    compulsory = "| compulsory, MB " if first else ""
    lines = [
        f"| kernel | launches | modelled bound, µs | bound by | DRAM, MB {compulsory}| bytes asked of sectors moved "
        "| wavefronts by conflicts |",
        f"|---|---:|---:|---|---:|{'---:|' if first else ''}---:|---:|",
    ]
    lines += [row(name, s, first) for name, s in sorted(rows.items(), key=lambda item: -item[1]["bound"])]
    whole = sums(step["run"])
    lines.append(row("**step**", whole, first))
    per_layer = sum(s["launches"] for s in rows.values() if s["launches"] >= LAYERS) / LAYERS
    traffic = (
        f"traffic to DRAM {whole['dram'] / max(whole['first'], 1):.2f} × what is compulsory (each sector read, and written, "
        "by a launch for the first time since the host wrote it)"
        if first
        else f"{whole['dram'] / 1e6:.0f} MB of traffic to DRAM"
    )
    lines += [
        "",
        f"{whole['launches']} launches, {per_layer:.1f} in each of {LAYERS} layers; modelled bound "
        f"{whole['bound'] / 1e3:.2f} ms; {traffic}. The row of the step holds what L2 has still to write back at its end.",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--device", default="h100", help="ptxsim's preset: h100, a100, rtx4090, rtx5090")
    arguments.add_argument("-o", "--output", type=Path, help="also write the table to this Markdown file")
    arguments.add_argument("--amused", metavar="MODEL", choices=["amused-256", "amused-512"], help="a step of aMUSEd")
    given = arguments.parse_args()
    cargo("build", "--release", "--locked", "-p", "ptxsim")
    release = Path(json.loads(cargo("metadata", "--format-version=1", "--no-deps"))["target_directory"]) / "release"
    with tempfile.TemporaryDirectory() as folder:
        commands = images(release, given.amused, Path(folder)) if given.amused else benchmark()
        file = Path(folder) / "report.json"
        before, after = (report(release / "ptxsim", command, given.device, file) for command in commands)
    text = f"Device: {after['device']}.\n\n" + table(minus(after, before), first=not given.amused)
    print(text)
    if given.output:
        about = AMUSED.format(model=given.amused) if given.amused else TRUNK
        options = f"--amused {given.amused} " if given.amused else ""
        head = HEAD.format(about=about, options=options, device=given.device, name=given.output.name)
        given.output.parent.mkdir(parents=True, exist_ok=True)
        given.output.write_text(head + text)


if __name__ == "__main__":
    main()
