"""Scenes and their captions: emoji sprites on the 8-pixel grid of the tokenizer's stride.

A scene is data (which sprite where, on what); `Renderer` draws it at 64 or 128 pixels; `sample`
makes the scene of a given split and index, so that nothing needs to be stored and every process
can make its own share. Object pairs and object-background pairs are held out by a stable hash.
"""

import hashlib
import random
from dataclasses import dataclass
from functools import cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from objects import BACKGROUNDS, OBJECTS, WHITE, article, plural

FONT_SIZE = 109  # the one bitmap size of Noto Color Emoji
CANVAS = 64  # scene coordinates are pixels of the 64-pixel canvas; 128 doubles everything
SMALL, BIG = 32, 48
QUADRANTS = ((0, 0), (32, 0), (0, 32), (32, 32))  # top left, top right, bottom left, bottom right
CENTRE = (8, 8)  # of a big sprite: one place, as tokens drawn side by side cannot agree on one of nine
# Quadrants of two, three and four small sprites, in the order of the caption, as one reads. A few layouts alone: cells
# that are drawn side by side cannot agree on one of many.
LAYOUTS = {2: ((0, 1), (2, 3)), 3: ((0, 1, 2), (0, 2, 3)), 4: ((0, 1, 2, 3),)}
CORNERS = ("top left", "top right", "bottom left", "bottom right")
NUMBERS = ("zero", "one", "two", "three", "four")
RELATIONS = {
    "left": ("to the left of", "left of"),
    "right": ("to the right of", "right of"),
    "above": ("above", "on top of"),
    "below": ("below", "under"),
}
KINDS = {  # share of each kind of scene
    "test": {"single": 0.10, "big": 0.07, "corner": 0.08, "count": 0.25, "kinds": 0.25, "relation": 0.25},
    # A big sprite has 36 cells and is alone, a small one 16 and has company: what is rare stays blurred.
    # Several kinds are the hardest to bind to their counts, relations the easiest.
    "train": {"single": 0.10, "big": 0.07, "corner": 0.05, "count": 0.15, "kinds": 0.55, "relation": 0.08},
}
# Share of captions that name no background: white. Fewer in training, so that white is not several times
# as frequent as any other background.
BARE = {"test": 0.13, "train": 0.03}


@dataclass(frozen=True)
class Sprite:
    object: int
    size: int
    x: int
    y: int


@dataclass(frozen=True)
class Scene:
    kind: str
    background: int
    sprites: tuple[Sprite, ...]
    caption: str
    relation: str = ""  # of the first sprite to the second

    def counts(self) -> dict[int, int]:
        counts: dict[int, int] = {}
        for sprite in self.sprites:
            counts[sprite.object] = counts.get(sprite.object, 0) + 1
        return counts


def _hash_fraction(text: str) -> float:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") / 2**32


@cache
def pair_held_out(a: int, b: int) -> bool:
    names = sorted((OBJECTS[a].names[0], OBJECTS[b].names[0]))
    return _hash_fraction("pair:" + "+".join(names)) < 0.12


@cache
def background_held_out(a: int, background: int) -> bool:
    return _hash_fraction(f"background:{OBJECTS[a].names[0]}+{BACKGROUNDS[background].name}") < 0.12


class Renderer:
    """Draws scenes at `scale` times 64 pixels."""

    def __init__(self, font: str, scale: int = 1):
        self.scale = scale
        side = CANVAS * scale
        self.backgrounds = [_background(b, side, scale) for b in BACKGROUNDS]
        emoji_font = ImageFont.truetype(font, FONT_SIZE)
        pictures = [_emoji(o.emoji, emoji_font) for o in OBJECTS]
        # (object, size) -> premultiplied colour [s, s, 3], 255 - alpha [s, s, 1], both uint16
        self.sprites = {
            (i, size): _sprite(picture, size * scale)
            for i, picture in enumerate(pictures)
            for size in (SMALL, BIG)
        }
        # pairs that captions avoid; judged at 64 pixels, so that a scene does not depend on the scale
        self.invisible = {
            (i, b)
            for i, picture in enumerate(pictures)
            for b, background in enumerate(BACKGROUNDS)
            if _invisible(_sprite(picture, SMALL), background.colour)
        }

    def draw(self, scene: Scene) -> tuple[np.ndarray, np.ndarray]:
        """The image [side, side, 3] and the foreground mask [side, side], both uint8."""
        image = self.backgrounds[scene.background].copy()
        mask = np.zeros(image.shape[:2], np.uint8)
        for sprite in scene.sprites:
            colour, rest = self.sprites[sprite.object, sprite.size]
            side = sprite.size * self.scale
            rows = slice(sprite.y * self.scale, sprite.y * self.scale + side)
            columns = slice(sprite.x * self.scale, sprite.x * self.scale + side)
            image[rows, columns] = colour + (image[rows, columns] * rest + 127) // 255
            mask[rows, columns] |= rest[..., 0] < 128
        return image, mask


def _invisible(sprite: tuple[np.ndarray, np.ndarray], colour: tuple[int, int, int]) -> bool:
    """Whether most of the sprite's opaque pixels are close to the colour."""
    premultiplied, rest = sprite
    opaque = premultiplied[rest[..., 0] == 0].astype(np.int32)
    distance = np.abs(opaque - np.array(colour)).sum(axis=1)
    return float((distance < 110).mean()) > 0.5


def _emoji(text: str, font: ImageFont.FreeTypeFont) -> Image.Image:
    """The glyph cut to its visible box."""
    picture = Image.new("RGBA", (180, 180))
    ImageDraw.Draw(picture).text((20, 20), text, font=font, embedded_color=True)
    return picture.crop(picture.getchannel("A").getbbox())


def _sprite(picture: Image.Image, side: int) -> tuple[np.ndarray, np.ndarray]:
    """The picture fitted into a square with a margin of 1/32, colours premultiplied by alpha."""
    room = side - side // 16
    ratio = room / max(picture.size)
    fitted = picture.resize([max(1, round(n * ratio)) for n in picture.size], Image.LANCZOS)
    square = Image.new("RGBA", (side, side))
    square.paste(fitted, ((side - fitted.width) // 2, (side - fitted.height) // 2))
    pixels = np.asarray(square).astype(np.uint16)
    alpha = pixels[..., 3:]
    return (pixels[..., :3] * alpha + 127) // 255, 255 - alpha


def _background(background, side: int, scale: int) -> np.ndarray:
    """A plain colour, or tiles of 8 pixels of the 64-pixel canvas, so that few tokens describe it."""
    small = np.empty((CANVAS, CANVAS, 3), np.uint8)
    small[:] = background.colour
    if background.texture == "grass":
        for x, y in ((1, 5), (1, 6), (2, 4), (5, 1), (5, 2), (6, 0)):
            small[y::8, x::8] = (75, 145, 40)
        for x, y in ((3, 5), (3, 6), (6, 2)):
            small[y::8, x::8] = (150, 210, 90)
    elif background.texture == "night":
        for row in range(8):
            for column in range(8):
                if (row * 3 + column * 5) % 7 == 0:
                    small[row * 8 + 3 : row * 8 + 5, column * 8 + 3 : column * 8 + 5] = (255, 250, 200)
    elif background.texture == "sea":
        for x, y in ((0, 3), (1, 2), (2, 2), (3, 3), (4, 4), (5, 5), (6, 5), (7, 4)):
            small[y::8, x::8] = (120, 190, 225)
    elif background.texture == "desert":
        for x, y in ((0, 5), (1, 4), (2, 4), (3, 4), (4, 5), (5, 6), (6, 6), (7, 6)):
            small[y::8, x::8] = (200, 160, 100)
    return np.repeat(np.repeat(small, scale, axis=0), scale, axis=1)


class Sampler:
    """Scenes of one split. `train` holds no held-out pair; `test` holds at least one in each scene."""

    def __init__(self, renderer: Renderer, split: str, seed: int = 0, names: str = "names"):
        assert split in ("train", "test") and names in ("names", "unseen")
        self.renderer, self.split, self.seed, self.names = renderer, split, seed, names
        self.objects = [i for i, o in enumerate(OBJECTS) if getattr(o, names)]

    def scene(self, index: int) -> Scene:
        rng = random.Random(f"{self.seed}/{self.split}/{self.names}/{index}")
        kind = rng.choices(*zip(*KINDS[self.split].items()))[0]
        while True:
            scene = self._draw(kind, rng)
            if self._admissible(scene):
                return scene

    def _admissible(self, scene: Scene) -> bool:
        objects = sorted(scene.counts())
        if any((o, scene.background) in self.renderer.invisible for o in objects):
            return False
        pairs = [pair_held_out(a, b) for a in objects for b in objects if a < b]
        with_background = [background_held_out(o, scene.background) for o in objects]
        if self.split == "train":
            return not any(pairs) and not any(with_background)
        return any(pairs) if pairs else any(with_background)

    def _name(self, object_: int, rng: random.Random) -> str:
        names = getattr(OBJECTS[object_], self.names)
        return names[0] if rng.random() < 0.6 else rng.choice(names)

    def _one(self, object_: int, rng: random.Random) -> str:
        name = self._name(object_, rng)
        return f"{article(name)} {name}"

    def _many(self, object_: int, count: int, rng: random.Random) -> str:
        if count == 1:
            return self._one(object_, rng)
        return f"{NUMBERS[count]} {_plural_phrase(self._name(object_, rng))}"

    def _draw(self, kind: str, rng: random.Random) -> Scene:
        relation = ""
        if kind in ("single", "big", "corner"):
            object_ = rng.choice(self.objects)
            name = self._name(object_, rng)
            size, (x, y) = BIG, CENTRE
            if kind == "single":
                text = rng.choice(
                    (f"{article(name)} {name}",) * 3 + (f"one {name}", f"a picture of {article(name)} {name}")
                )
            elif kind == "big":
                text = f"a {rng.choice(('big', 'big', 'large'))} {name}"
            elif rng.random() < 0.25:
                size, (x, y) = SMALL, rng.choice(QUADRANTS)
                text = f"a {rng.choice(('small', 'little'))} {name}"
            else:
                corner = rng.randrange(4)
                size, (x, y) = SMALL, QUADRANTS[corner]
                text = f"{article(name)} {name} {rng.choice(('in', 'at'))} the {CORNERS[corner]}"
                text += rng.choice(("", " corner", " corner"))
            sprites = (Sprite(object_, size, x, y),)
        elif kind == "relation":
            a, b = rng.sample(self.objects, 2)
            relation = rng.choice(list(RELATIONS))
            first, second = {"left": (0, 1), "right": (1, 0), "above": (0, 2), "below": (2, 0)}[relation]
            shift = rng.randrange(2) * (2 if relation in ("left", "right") else 1)
            sprites = (
                Sprite(a, SMALL, *QUADRANTS[first + shift]),
                Sprite(b, SMALL, *QUADRANTS[second + shift]),
            )
            text = f"{self._one(a, rng)} {rng.choice(RELATIONS[relation])} {self._one(b, rng)}"
        else:
            if kind == "count":
                counts = [rng.choice((2, 3, 4))]
            else:
                counts = list(
                    rng.choice(
                        (
                            (1, 1),
                            (1, 1),
                            (2, 1),
                            (1, 2),
                            (2, 2),
                            (3, 1),
                            (1, 3),
                            (1, 1, 1),
                            (1, 1, 1),
                            (2, 1, 1),
                            (1, 2, 1),
                            (1, 1, 2),
                        )
                    )
                )
            objects = rng.sample(self.objects, len(counts))
            places = rng.choice(LAYOUTS[sum(counts)])
            owners = [o for o, n in zip(objects, counts) for _ in range(n)]
            sprites = tuple(Sprite(o, SMALL, *QUADRANTS[place]) for o, place in zip(owners, places))
            parts = [self._many(o, n, rng) for o, n in zip(objects, counts)]
            text = parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]
        background = rng.randrange(len(BACKGROUNDS)) if rng.random() < 1 - BARE[self.split] else None
        if background is None:
            return Scene(kind, WHITE, sprites, text, relation)
        phrase = rng.choice(BACKGROUNDS[background].phrases)
        caption = f"{text} {phrase}" if rng.random() < 0.9 else f"{phrase}, {text}"
        return Scene(kind, background, sprites, caption, relation)


def _plural_phrase(name: str) -> str:
    head, of, tail = name.partition(" of ")
    return plural(head) + of + tail
