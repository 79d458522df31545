"""Stage `eval`: does the picture show what the held-out prompt says?"""

import json
import math
import subprocess
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import vq
from data import load_vq
from decode import SETTINGS, decode
from detector import UNKNOWN, Detector, Finding
from runtime import World, sheet, to_bytes
from scenes import QUADRANTS, Renderer, Sampler, Scene
from text import TextEncoder
from train_masked import load_average

PIXELS = {"base": 64, "full": 128}
MEASURES = ("background", "object recall", "all objects", "n X exact", "relation", "whole scene")


def interval(successes: int, count: int) -> tuple[float, float]:
    """Wilson's 95 % interval."""
    if count == 0:
        return 0.0, 1.0
    z, p = 1.96, successes / count
    middle = (p + z * z / (2 * count)) / (1 + z * z / count)
    half = z * math.sqrt(p * (1 - p) / count + z * z / (4 * count * count)) / (1 + z * z / count)
    return middle - half, middle + half


def relation_holds(scene: Scene, found: Finding) -> bool:
    a, b = scene.sprites
    first = [s for s in found.sprites if s.object == a.object]
    second = [s for s in found.sprites if s.object == b.object]
    step = (b.x - a.x, b.y - a.y)
    return any((t.x - s.x, t.y - s.y) == step for s in first for t in second)


def judge(scene: Scene, found: Finding) -> dict[str, list[bool]]:
    """Answers per measure; a prompt contributes one answer per object to recall and to "n X"."""
    wanted, counts = scene.counts(), found.counts()
    exact = [counts.get(o, 0) == n for o, n in wanted.items()]
    answers = {
        "background": [found.background == scene.background],
        "object recall": [o in counts for o in wanted],
        "all objects": [all(o in counts for o in wanted)],
        "n X exact": exact if scene.kind in ("count", "kinds") else [],
        "relation": [relation_holds(scene, found)] if scene.kind == "relation" else [],
    }
    placed = all(answers["relation"]) and (
        scene.kind != "corner" or {(s.size, s.x, s.y) for s in found.sprites} <= _places(scene)
    )
    answers["whole scene"] = [answers["background"][0] and counts == wanted and placed]
    return answers


def _places(scene: Scene) -> set[tuple[int, int, int]]:
    """Where a corner prompt allows its object: the corner it names, or any quadrant."""
    sprite = scene.sprites[0]
    named = " top " in scene.caption or " bottom " in scene.caption
    return {(sprite.size, x, y) for x, y in ([(sprite.x, sprite.y)] if named else QUADRANTS)}


def through_tokenizer(args, sampler: Sampler, size: str) -> list[np.ndarray]:
    model = load_vq(Path(args.out), PIXELS[size])
    renderer = Renderer(args.font, PIXELS[size] // 64)
    pictures = []
    for start in range(0, args.count, 32):
        images, _ = vq.batch_of(sampler, renderer, range(start, min(start + 32, args.count)))
        pictures += to_bytes(vq.detokenise(model, vq.tokenise(model, images)))
    return pictures


def sampled(out: Path, captions: list[str], settings: dict, full: bool) -> dict[str, list[np.ndarray]]:
    """Base pictures, and full ones if asked for, by the decode loop of decode.py."""
    *texts, empty = TextEncoder().encode(captions + [""])
    base, superres = load_average(out, "base"), None
    if full:
        superres, fine_vq = load_average(out, "superres"), load_vq(out, 128)
    coarse_vq = load_vq(out, 64)
    pictures: dict[str, list[np.ndarray]] = {"base": [], "full": []}
    for start in range(0, len(texts), 32):
        part = texts[start : start + 32]
        generator = torch.Generator().manual_seed(start)
        coarse = decode(base, part, empty, settings["base"], generator)
        pictures["base"] += to_bytes(vq.detokenise(coarse_vq, coarse))
        if superres:
            fine = decode(superres, part, empty, settings["superres"], generator, coarse)
            pictures["full"] += to_bytes(vq.detokenise(fine_vq, fine))
    return pictures


def gained_and_lost(before: list[bool], after: list[bool]) -> tuple[int, int]:
    """Answers to the same prompts that became right, and those that were."""
    return sum(b > a for a, b in zip(before, after)), sum(b < a for a, b in zip(before, after))


def engine_pictures(args, prompts: Path, size: str, directory: Path, seed: int, options: list[str]) -> None:
    """Pictures of prompts: DIR/0000.png … one per line of the file, with seeds from `seed` on."""
    command = [
        args.muse,
        "generate",
        "--model",
        args.model,
        "--prompts",
        prompts,
        "--seed",
        seed,
        "--size",
        size,
        "-o",
        directory,
        "--force",
        *options,
    ]
    subprocess.run([str(part) for part in command], check=True)


def run(args) -> None:
    World(args.threads)
    out = Path(args.out)
    renderer = Renderer(args.font)
    sampler = Sampler(renderer, "test", 0, "unseen" if args.unseen else "names")
    scenes = [sampler.scene(i) for i in range(args.count)]
    captions = [s.caption for s in scenes]
    settings = {stage: dict(values) for stage, values in SETTINGS.items()}
    for assignment in args.set:
        key, value = assignment.split("=")
        stage, name = key.split(".")
        settings[stage][name] = type(settings[stage][name])(float(value))
    pictures: dict[str, list[np.ndarray]] = {}
    if args.torch:
        pictures = sampled(out, captions, settings, "full" in args.sizes)
    for size in args.sizes:
        if args.ceiling:
            pictures[size] = through_tokenizer(args, sampler, size)
        elif not args.torch:
            directory = Path(args.images or out / "eval") / size
            if not args.images:
                directory.mkdir(parents=True, exist_ok=True)
                prompts = out / "eval" / "prompts.txt"
                prompts.write_text("\n".join(captions) + "\n")
                engine_pictures(args, prompts, size, directory, args.seed, ["--dtype", args.dtype])
            pictures[size] = read(directory, args.count)
    report(
        out,
        scenes,
        {size: pictures[size] for size in args.sizes if pictures.get(size)},
        Detector(renderer),
        args,
    )


def read(directory: Path, count: int) -> list[np.ndarray]:
    return [np.asarray(Image.open(directory / f"{i:04}.png").convert("RGB")) for i in range(count)]


def judged(scenes: list[Scene], findings: list[Finding]) -> dict[str, list[bool]]:
    """The answers of all scenes, measure by measure."""
    answers: dict[str, list[bool]] = {measure: [] for measure in MEASURES}
    for scene, found in zip(scenes, findings):
        for measure, values in judge(scene, found).items():
            answers[measure] += values
    return answers


def report(out: Path, scenes: list[Scene], pictures: dict, detector: Detector, args) -> None:
    """Prints the table, appends it to eval.jsonl and draws the sheets of the first sixteen prompts."""
    source = "ceiling" if args.ceiling else "torch" if args.torch else "engine"
    print(f"{'%':>14} " + " ".join(f"{m:>17}" for m in MEASURES))
    for size, shown in pictures.items():
        findings = [detector.find(picture) for picture in shown]
        unknown = sum(any(s.object == UNKNOWN for s in found.sprites) for found in findings)
        answers = judged(scenes, findings)
        record = {
            "source": source,
            "size": size,
            "prompts": len(scenes),
            "unseen": args.unseen,
            "dtype": args.dtype,
            "set": args.set,
            "with unknown sprite": round(100 * unknown / len(scenes), 1),
        }
        cells = []
        for measure, values in answers.items():
            low, high = interval(sum(values), len(values))
            share = 100 * sum(values) / max(1, len(values))
            record[measure] = {
                "percent": round(share, 1),
                "low": round(100 * low, 1),
                "high": round(100 * high, 1),
                "count": len(values),
            }
            cells.append(f"{share:5.1f} ({100 * low:4.1f}–{100 * high:5.1f})")
        print(f"{source + ' ' + size:>14} " + " ".join(f"{c:>17}" for c in cells), flush=True)
        if args.against:
            others = [detector.find(picture) for picture in read(Path(args.against) / size, len(scenes))]
            before, after = (judged(scenes, f)["whole scene"] for f in (others, findings))
            record["gained"], record["lost"] = gained, lost = gained_and_lost(before, after)
            points, spread = (gained - lost) / len(scenes), (gained + lost) / len(scenes)
            half = 1.96 * math.sqrt((spread - points**2) / len(scenes))
            print(
                f"{'':>14} whole scenes against {args.against}: gained {gained}, lost {lost}, "
                f"{100 * points:+.1f} ± {100 * half:.1f} points"
            )
        with (out / "eval.jsonl").open("a") as file:
            file.write(json.dumps(record) + "\n")
        name = f"eval.{source}.{size}{'.unseen' if args.unseen else ''}.png"
        sheet(
            out / name,
            [shown[i : i + 4] for i in range(0, 16, 4)],
            [s.caption for s in scenes[:16]],
            2 if size == "base" else 1,
        )
