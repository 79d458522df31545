"""Stage `samplers`: how well prompts are followed with 1 to 24 steps, by order and guidance schedule, as a plot.

Pictures are the base stage's by the Rust engine, prompts held-out ones of a seed of their own: the defaults are chosen
from the plot, and `eval` measures them on others.
"""

import json
from pathlib import Path

from detector import Detector
from evaluate import engine_pictures, gained_and_lost, interval, judged, read
from runtime import World
from scenes import Renderer, Sampler, Scene

STEPS = (1, 2, 3, 4, 6, 8, 12, 16, 24)
SAMPLERS = {  # name: options of the engine; guidance is the model's where nothing is said; the first is the default
    "confidence": ["--order", "confidence"],
    "Halton": ["--order", "halton"],
    "random": ["--order", "random"],
    "confidence, rising guidance": ["--guidance-schedule", "linear"],
    "confidence, no guidance": ["--guidance", "1"],
}
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9")  # Okabe and Ito's
MEASURES = ("whole scene", "object recall")


def run(args) -> None:
    World(args.threads)
    renderer = Renderer(args.font)
    sampler, detector = Sampler(renderer, "test", args.seed), Detector(renderer)
    scenes = [sampler.scene(i) for i in range(args.count)]
    directory = Path(args.out) / f"samplers.{args.seed}"
    directory.mkdir(parents=True, exist_ok=True)
    prompts = directory / "prompts.txt"
    prompts.write_text("".join(scene.caption + "\n" for scene in scenes))
    records, default = [], {}
    for name, options in SAMPLERS.items():
        for steps in STEPS:
            pictures = directory / f"{name}.{steps}"
            if not (pictures / f"{args.count - 1:04}.png").exists():
                pictures.mkdir(exist_ok=True)
                engine_pictures(args, prompts, "base", pictures, 0, [*options, "--steps", str(steps)])
            answers = judged(scenes, [detector.find(picture) for picture in read(pictures, args.count)])
            whole = answers["whole scene"]
            gained, lost = gained_and_lost(default.setdefault(steps, whole), whole)
            shares = {measure: share(answers[measure]) for measure in MEASURES}
            records.append({"sampler": name, "steps": steps, "gained": gained, "lost": lost} | shares)
            row = " ".join(cell(measure, shares[measure]) for measure in MEASURES)
            print(f"{name:12} {steps:3} {row}, whole scenes gained {gained}, lost {lost}", flush=True)
            draw(directory / "steps.svg", records)
    (directory / "samplers.json").write_text(json.dumps(records, indent=1) + "\n")


def share(values: list[bool]) -> dict[str, float]:
    """Per cent, with a 95 % interval."""
    low, high = interval(sum(values), len(values))
    return {"percent": 100 * sum(values) / len(values), "low": 100 * low, "high": 100 * high}


def cell(measure: str, value: dict) -> str:
    return f"{measure} {value['percent']:5.1f} ({value['low']:.1f}–{value['high']:.1f})"


def draw(path: Path, records: list[dict]) -> None:
    """A panel a measure: per cent over steps, both axes by hand; bars are 95 % intervals."""
    side, top, left = (380, 300), 26, 46
    place = {steps: left + 16 + i * (side[0] - left - 30) / (len(STEPS) - 1) for i, steps in enumerate(STEPS)}

    def y(percent: float) -> float:
        return top + (side[1] - top - 40) * (1 - percent / 100)

    parts = []
    for panel, measure in enumerate(MEASURES):
        parts.append(f'<g transform="translate({panel * side[0]} 0)">')
        parts.append(f'<text x="{left}" y="16" font-weight="bold">{measure}, %</text>')
        for percent in range(0, 101, 20):
            parts.append(f'<path d="M{left} {y(percent):.1f}H{side[0] - 8}" stroke="#ddd"/>')
            parts.append(f'<text x="{left - 6}" y="{y(percent) + 4:.1f}" text-anchor="end">{percent}</text>')
        for steps, x in place.items():
            parts.append(f'<text x="{x:.1f}" y="{y(0) + 16:.1f}" text-anchor="middle">{steps}</text>')
        parts.append(f'<text x="{(left + side[0]) / 2}" y="{y(0) + 34:.1f}" text-anchor="middle">steps</text>')
        for number, (name, colour) in enumerate(zip(SAMPLERS, COLOURS)):
            points = [(place[r["steps"]] + 2 * (number - 2), r[measure]) for r in records if r["sampler"] == name]
            line = " ".join(f"{x:.1f},{y(value['percent']):.1f}" for x, value in points)
            parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="1.6"/>')
            for x, value in points:
                bar = f"M{x:.1f} {y(value['low']):.1f}V{y(value['high']):.1f}"
                parts.append(f'<path d="{bar}" stroke="{colour}" stroke-width=".7"/>')
        parts.append("</g>")
    for number, (name, colour) in enumerate(zip(SAMPLERS, COLOURS)):
        x, row = left + number % 3 * 240, side[1] + 14 + number // 3 * 18
        parts.append(f'<path d="M{x} {row - 4}h18" stroke="{colour}" stroke-width="3"/>')
        parts.append(f'<text x="{x + 24}" y="{row}">{name}</text>')
    width, height = len(MEASURES) * side[0], side[1] + 42
    style = 'font-family="sans-serif" font-size="12"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" {style}>'
    path.write_text("\n".join([head, f'<rect width="{width}" height="{height}" fill="white"/>', *parts, "</svg>\n"]))
