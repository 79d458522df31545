"""Stage `edits`: does an edited picture of the engine show the new object, and else what it showed before?

Each edit begins with a held-out scene as it is drawn and asks for another object in one object's place, such that the
scene asked for is held out, too.
"""

import json
import random
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from detector import UNKNOWN, Detector, Finding
from evaluate import interval
from objects import OBJECTS, article
from runtime import World, save_atomically
from scenes import BIG, Renderer, Sampler, Scene, Sprite

FULL = 2  # pixels of the engine's picture a pixel of the scene's canvas
FEATHER = 4  # the engine's default seam
ADDED = 64  # pixels that outpainting adds to the right
SHOWN = 12  # edits on the sheet


@dataclass(frozen=True)
class Edit:
    before: Scene
    after: Scene
    old: Sprite
    new: Sprite

    @property
    def box(self) -> tuple[int, int, int, int]:
        """x, y, width and height of the object's window in the engine's pixels."""
        return tuple(FULL * n for n in (self.old.x, self.old.y, self.old.size, self.old.size))


def edits(sampler: Sampler, count: int) -> list[Edit]:
    """The first ones whose caption names an object that is there once, in the singular."""
    found, index = [], 0
    while len(found) < count:
        edit = _edit(sampler, sampler.scene(index), random.Random(f"{sampler.seed}/edits/{index}"))
        found += [edit] if edit else []
        index += 1
    return found


def _edit(sampler: Sampler, scene: Scene, rng: random.Random) -> Edit | None:
    once = [s for s in scene.sprites if scene.counts()[s.object] == 1]
    if not once:
        return None
    old = rng.choice(once)
    names = sorted(OBJECTS[old.object].names, key=len, reverse=True)
    # With the word before it, so that "ball" is not found within another name.
    phrases = [(f"{word} {name}", word) for name in names for word in (article(name), "one", "big", "large")]
    phrases = [(phrase, word) for phrase, word in phrases if f" {scene.caption} ".count(f" {phrase} ") == 1]
    others = [o for o in range(len(OBJECTS)) if o not in scene.counts()]
    for other in rng.sample(others, len(others)):
        if not phrases:
            break
        phrase, word = phrases[0]
        name = OBJECTS[other].names[0]
        word = word if word in ("one", "big", "large") else article(name)
        caption = f" {scene.caption} ".replace(f" {phrase} ", f" {word} {name} ").strip()
        new = replace(old, object=other)
        sprites = tuple(new if s is old else s for s in scene.sprites)
        after = replace(scene, sprites=sprites, caption=caption)
        if sampler._admissible(after):
            return Edit(scene, after, old, new)
    return None


class Engine:
    """The one place here that knows the engine's command line."""

    def __init__(self, args, directory: Path):
        self.args, self.directory = args, directory

    def make(self, kind: str, index: int, *arguments) -> np.ndarray:
        (self.directory / kind).mkdir(parents=True, exist_ok=True)
        path = self.directory / kind / f"{index:04}.png"
        if not path.exists():
            common = ["--model", self.args.model, "--seed", index, "--device", "cpu", "-o", path]
            threads = ["--threads", self.args.threads] if self.args.threads else []
            command = [self.args.muse, *arguments, *common, *threads]
            subprocess.run([str(part) for part in command], check=True, capture_output=True)
        return np.asarray(Image.open(path).convert("RGB"))


def judge_replaced(edit: Edit, found: Finding) -> dict[str, bool]:
    """The new object stands where the old one stood, the other objects and the background are as before."""
    others = set(edit.before.sprites) - {edit.old}
    here = (edit.old.x, edit.old.y)
    there = {s for s in found.sprites if (s.x, s.y) != here}
    return {
        "new object": edit.new in found.sprites,
        "old object gone": edit.old.object not in found.counts(),
        "background kept": found.background == edit.before.background,
        "other objects kept": there == others,
        "whole edit": set(found.sprites) == others | {edit.new} and found.background == edit.before.background,
    }


def judge_generated(edit: Edit, found: Finding) -> dict[str, bool]:
    """What can be asked of a picture made of the prompt alone, which says little of places."""
    background, wanted = found.background == edit.after.background, edit.after.counts()
    return {
        "new object": edit.new.object in found.counts(),
        "background kept": background,
        "whole edit": background and found.counts() == wanted,
    }


def outside_kept(edit: Edit, source: np.ndarray, picture: np.ndarray) -> bool:
    """Every pixel but for the box and its seam is the original's."""
    x, y, width, height = edit.box
    same = (source == picture).all(-1)
    same[max(0, y - FEATHER) : y + height + FEATHER, max(0, x - FEATHER) : x + width + FEATHER] = True
    return bool(same.all())


def judge_outpainted(edit: Edit, detector: Detector, source: np.ndarray, picture: np.ndarray) -> dict[str, bool]:
    """The added windows show the scene's background, with whole objects or none."""
    side = source.shape[1]
    assert picture.shape[1] == side + ADDED
    beside = "a big one" if edit.old.size == BIG else "small ones"
    found, seam = detector.right_half(picture[:, -side:]), side - FEATHER
    return {
        "original pixels kept": bool((picture[:, :seam] == source[:, :seam]).all()),
        "background continued": found.background == edit.before.background,
        f"no broken object beside {beside}": UNKNOWN not in found.counts(),
    }


def run(args) -> None:
    World(args.threads)
    detector = Detector(Renderer(args.font))
    sampler = Sampler(detector.renderer, "test", args.seed)
    chosen = edits(sampler, args.count)
    directory = Path(args.out) / f"edits.{args.seed}"
    engine, fine = Engine(args, directory), Renderer(args.font, FULL)
    answers: dict[str, dict[str, list[bool]]] = {}
    rows = []

    def note(kind: str, values: dict[str, bool]) -> None:
        for measure, value in values.items():
            answers.setdefault(kind, {}).setdefault(measure, []).append(value)

    (directory / "source").mkdir(parents=True, exist_ok=True)
    for index, edit in enumerate(chosen):
        source, path = fine.draw(edit.before)[0], directory / "source" / f"{index:04}.png"
        Image.fromarray(source).save(path)
        before, after = edit.before.caption, edit.after.caption
        row = [source]
        for kind in args.kinds:
            name, *options = kind.split()
            tag = kind.replace(" ", "")
            if name == "generate":
                picture = engine.make(tag, index, "generate", after, *options)
                note(kind, judge_generated(edit, detector.find(picture)))
            elif name == "outpaint":
                picture = engine.make(tag, index, "outpaint", path, before, "--right", ADDED, *options)
                note(kind, judge_outpainted(edit, detector, source, picture))
            else:
                box = ["--box", ",".join(map(str, edit.box))] if name == "inpaint" else []
                picture = engine.make(tag, index, name, path, after, *box, *options)
                kept = {"original pixels kept": outside_kept(edit, source, picture)} if box else {}
                note(kind, kept | judge_replaced(edit, detector.find(picture)))
            row.append(picture)
        old, new = (OBJECTS[sprite.object].names[0] for sprite in (edit.old, edit.new))
        rows.append((row, f"{old} to {new}: {after}"))
    report(Path(args.out), args, answers)
    draw_sheet(Path(args.out) / f"edits.{args.seed}.webp", rows[:SHOWN])


def report(out: Path, args, answers: dict[str, dict[str, list[bool]]]) -> None:
    for kind, measures in answers.items():
        record = {"kind": kind, "seed": args.seed, "edits": args.count}
        for measure, values in measures.items():
            low, high = (round(100 * end, 1) for end in interval(sum(values), len(values)))
            percent = round(100 * sum(values) / len(values), 1)
            record[measure] = {"percent": percent, "low": low, "high": high, "count": len(values)}
            print(f"{kind:24} {measure:34} {percent:5.1f} ({low:.1f}–{high:.1f}) of {len(values)}")
        with (out / "edits.jsonl").open("a") as file:
            file.write(json.dumps(record) + "\n")


def draw_sheet(path: Path, rows: list[tuple[list[np.ndarray], str]]) -> None:
    """Two edits a line, each with its pictures side by side and what was asked for below."""
    gap, text = 4, 16
    width = sum(picture.shape[1] + gap for picture in rows[0][0]) + 2 * gap
    height = max(picture.shape[0] for picture in rows[0][0]) + text + gap
    table = Image.new("RGB", (2 * width, (len(rows) + 1) // 2 * height), "white")
    draw = ImageDraw.Draw(table)
    for index, (pictures, caption) in enumerate(rows):
        x, y = index % 2 * width, index // 2 * height
        draw.text((x, y + height - text - gap), caption, fill="black", font_size=11)
        for picture in pictures:
            table.paste(Image.fromarray(picture), (x, y))
            x += picture.shape[1] + gap
    save_atomically(path, lambda p: table.save(p, "WEBP", quality=80, method=6))
