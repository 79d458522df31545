"""Reads a picture back into a scene: which background, and which sprite in which window.

Every window is compared with every sprite drawn over every background. Quadrants tile the canvas,
so the explanation by four small windows and the one by a big sprite compete by squared error.
Pictures of 128 pixels are averaged down to 64.
"""

from dataclasses import dataclass

import numpy as np

from objects import BACKGROUNDS, OBJECTS
from scenes import BIG, CANVAS, QUADRANTS, SMALL, Renderer, Scene, Sprite

LIMIT = 0.16  # root mean square error, over the sprite's window, up to which a sprite counts as recognised
UNKNOWN = -1  # something is there, but no sprite fits


@dataclass(frozen=True)
class Finding:
    background: int
    sprites: tuple[Sprite, ...]

    def counts(self) -> dict[int, int]:
        counts: dict[int, int] = {}
        for sprite in self.sprites:
            counts[sprite.object] = counts.get(sprite.object, 0) + 1
        return counts


class Detector:
    def __init__(self, renderer: Renderer):
        self.renderer = renderer
        objects = range(len(OBJECTS))
        self.small = []  # per quadrant [backgrounds, 1 + objects, pixels]; number 0 is the bare background
        for x, y in QUADRANTS:
            bank = []
            for b in range(len(BACKGROUNDS)):
                drawn = [self._draw(renderer, b)] + [
                    self._draw(renderer, b, Sprite(o, SMALL, x, y)) for o in objects
                ]
                bank.append([d[y : y + SMALL, x : x + SMALL].ravel() for d in drawn])
            self.small.append(np.array(bank))
        self.big_places = [(x, y) for y in (0, 8, 16) for x in (0, 8, 16)]
        self.big = [
            np.array(
                [
                    self._draw(renderer, b, Sprite(o, BIG, x, y)).ravel()
                    for x, y in self.big_places
                    for o in objects
                ]
            )
            for b in range(len(BACKGROUNDS))
        ]  # per background [places * objects, pixels]

    @staticmethod
    def _draw(renderer: Renderer, background: int, *sprites: Sprite) -> np.ndarray:
        return renderer.draw(Scene("", background, sprites, ""))[0].astype(np.float32) / 255

    def find(self, picture: np.ndarray) -> Finding:
        """picture [64 or 128, same, 3] uint8."""
        image = _canvas(picture)
        errors = self._by_window(image)  # [4, b, 1 + o]
        by_quadrants = errors.min(2).sum(0)
        big_errors = np.stack([_squared(bank, image.ravel()) for bank in self.big])  # [b, places * objects]
        by_big = big_errors.min(1)
        if by_big.min() < by_quadrants.min():
            background = int(by_big.argmin())
            place, object_ = divmod(int(big_errors[background].argmin()), len(OBJECTS))
            known = _rms(by_big[background], BIG) <= LIMIT
            return Finding(background, (Sprite(object_ if known else UNKNOWN, BIG, *self.big_places[place]),))
        background = int(by_quadrants.argmin())
        return Finding(background, _sprites(QUADRANTS, errors[:, background]))

    def right_half(self, picture: np.ndarray) -> Finding:
        """What the right half of a picture shows, by itself, in small windows."""
        right = [i for i, (x, _) in enumerate(QUADRANTS) if x > 0]
        errors = self._by_window(_canvas(picture))[right]
        background = int(errors.min(2).sum(0).argmin())
        return Finding(background, _sprites([QUADRANTS[i] for i in right], errors[:, background]))

    def _by_window(self, image: np.ndarray) -> np.ndarray:
        """Squared errors [4 quadrants, backgrounds, 1 + objects]."""
        windows = [image[y : y + SMALL, x : x + SMALL].ravel() for x, y in QUADRANTS]
        return np.stack([_squared(bank, window) for bank, window in zip(self.small, windows)])


def _canvas(picture: np.ndarray) -> np.ndarray:
    """[64 or 128, same, 3] uint8 -> [64, 64, 3] in 0…1."""
    factor = picture.shape[0] // CANVAS
    return picture.astype(np.float32).reshape(CANVAS, factor, CANVAS, factor, 3).mean((1, 3)) / 255


def _sprites(places, errors: np.ndarray) -> tuple[Sprite, ...]:
    """The best explanation of each small window by one background's errors [windows, 1 + objects]."""
    sprites = []
    for (x, y), error in zip(places, errors):
        best = int(error.argmin())
        if _rms(error[best], SMALL) > LIMIT:
            sprites.append(Sprite(UNKNOWN, SMALL, x, y))
        elif best > 0:
            sprites.append(Sprite(best - 1, SMALL, x, y))
    return tuple(sprites)


def _squared(bank: np.ndarray, image: np.ndarray) -> np.ndarray:
    """Squared distances of [..., pixels] to [pixels], never below zero."""
    return np.maximum(np.square(bank).sum(-1) - 2 * bank @ image + np.square(image).sum(), 0)


def _rms(squared: float, side: int) -> float:
    return float(np.sqrt(squared / (side * side * 3)))
