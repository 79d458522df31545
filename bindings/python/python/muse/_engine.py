"""The engine: load a model once, generate and edit any number of images."""

from __future__ import annotations

import threading
from os import PathLike
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np

from . import _embeddings, _images, _muse
from ._embeddings import Embeddings
from ._errors import OptionError
from ._images import Image
from ._options import choice, real, request, text, to_json, unusable, whole

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from typing_extensions import Unpack

    from ._options import Generation, Inpainting, Outpainting, Picture, Resampling, Variation


class Step:
    """What a callback sees after a step of an image."""

    def __init__(self, native: _muse.Step) -> None:
        self._native = native
        #: "base" or "superres"
        self.stage = native.stage
        # step of steps, from 0; window of windows, of which only outpainting has several; image of those that are
        # made side by side
        (self.step, self.steps), (self.window, self.windows), (self.image, self.images) = native.at
        #: what the step took
        self.seconds = native.seconds
        #: the id of a cell that is not settled yet
        self.mask_token = native.mask_token
        #: uint32 [rows, columns], of the whole grid
        self.tokens: NDArray[np.uint32] = np.frombuffer(native.tokens, np.uint32).reshape(native.grid)
        #: what this step's draws were compared by, float32 [rows, columns]; NaN where none was drawn
        self.confidence: NDArray[np.float32] = np.frombuffer(native.confidence, np.float32).reshape(native.grid)

    @property
    def masked(self) -> NDArray[np.bool_]:
        """Cells that are not settled yet, bool [rows, columns]."""
        return self.tokens == self.mask_token

    def preview(self) -> NDArray[np.uint8]:
        """The picture so far, masked cells hatched, uint8 [height, width, 3]. Only until the callback returns."""
        return _images.pixels(*self._native.preview())


class Engine:
    """A loaded model on one device. Any number of threads may use it, and are served in the order in which they came.

    device is "auto" (the first GPU, else the processor), "cpu", "cuda" or "cuda:N"; dtype "bf16", on the processor
    also "f32" or "int8"; threads those of the processor, all of its cores if None. Images do not depend on threads.

    Every call takes the options of the command line under the same names: muse.Options lists them. With count it
    returns a list of that many images, of the seed and those that follow it. callback(step) is called after every
    step of every image, and cancels by returning False or raising; cancel is a muse.Cancel.
    """

    def __init__(
        self,
        path: str | PathLike[str] = "models/demo",
        *,
        device: str = "auto",
        dtype: Literal["bf16", "f32", "int8"] = "bf16",
        threads: int | None = None,
    ) -> None:
        threads = None if threads is None else whole("threads", threads)
        self._native = _muse.Engine(path, device, dtype, threads)
        #: what the model is called
        self.name = self._native.name
        #: the device, in words
        self.device = self._native.device
        #: what it computes in
        self.dtype = self._native.dtype
        #: its stages, coarse to fine
        self.stages = self._native.stages

    @property
    def waiting(self) -> int:
        """Calls that wait for their turn."""
        return self._native.waiting

    @overload
    def generate(self, prompt: str, *, count: None = None, **options: Unpack[Generation]) -> Image: ...
    @overload
    def generate(self, prompt: str, *, count: int, **options: Unpack[Generation]) -> list[Image]: ...
    def generate(self, prompt, *, count=None, **options):
        """Makes an image of a prompt; toward=(PROMPT, PART) mixes its text with another one, from 0 to 1."""
        return self._make(prompt, count, options)

    @overload
    def inpaint(self, image: Picture, prompt: str, *, count: None = None, **options: Unpack[Inpainting]) -> Image: ...
    @overload
    def inpaint(self, image: Picture, prompt: str, *, count: int, **options: Unpack[Inpainting]) -> list[Image]: ...
    def inpaint(
        self, image, prompt, *, count=None, mask=None, boxes=(), strength=1.0, feather=4, decoded=False, fit="crop",
        **options,
    ):  # fmt: skip
        """Repaints what a mask and boxes (x, y, width, height) mark; without either, what is transparent."""
        edit = {"change": {"inpaint": {"strength": real("strength", strength)}}, "fit": _fit(fit)}
        edit |= _seam(feather, decoded)
        boxes = [_box(box) for box in boxes]
        return self._make(prompt, count, options, edit, image, _images.mask(mask), boxes)

    @overload
    def outpaint(self, image: Picture, prompt: str, *, count: None = None, **options: Unpack[Outpainting]) -> Image: ...
    @overload
    def outpaint(self, image: Picture, prompt: str, *, count: int, **options: Unpack[Outpainting]) -> list[Image]: ...
    def outpaint(
        self, image, prompt, *, count=None, left=0, right=0, top=0, bottom=0, overlap=None, feather=4, decoded=False,
        **options,
    ):  # fmt: skip
        """Paints beyond the edges of an image, by so many pixels."""
        margins = {"left": left, "right": right, "top": top, "bottom": bottom}
        margins = {side: whole(side, margin) for side, margin in margins.items()}
        overlap = None if overlap is None else whole("overlap", overlap)
        edit = {"change": {"outpaint": {"margins": margins, "overlap": overlap}}, **_seam(feather, decoded)}
        return self._make(prompt, count, options, edit, image)

    @overload
    def edit(self, image: Picture, prompt: str, *, count: None = None, **options: Unpack[Resampling]) -> Image: ...
    @overload
    def edit(self, image: Picture, prompt: str, *, count: int, **options: Unpack[Resampling]) -> list[Image]: ...
    def edit(
        self, image, prompt, *, count=None, strength=None, iterations=None, fraction=None, preserve=None, fit="crop",
        **options,
    ):  # fmt: skip
        """Changes an image to fit a prompt, without a mask; with strength, image to image."""
        if strength is None:
            rounds = {
                "iterations": 100 if iterations is None else whole("iterations", iterations),
                "fraction": 0.08 if fraction is None else real("fraction", fraction),
                "preserve": 0.0 if preserve is None else real("preserve", preserve),
            }
            return self._make(prompt, count, options, {"change": {"resample": rounds}, "fit": _fit(fit)}, image)
        if (iterations, fraction, preserve) != (None, None, None):
            raise OptionError("strength: it cannot be used with iterations, fraction or preserve; leave these out")
        return self._make(prompt, count, options, _repaint(strength, fit), image)

    @overload
    def vary(self, image: Picture, prompt: str = "", *, count: None = None, **options: Unpack[Variation]) -> Image: ...
    @overload
    def vary(self, image: Picture, prompt: str = "", *, count: int, **options: Unpack[Variation]) -> list[Image]: ...
    def vary(self, image, prompt="", *, count=None, strength=0.5, fit="crop", **options):
        """Makes an image like another one."""
        if not text("prompt", prompt).strip() and options.get("guidance") is None:
            options["guidance"] = 1.0  # no prompt to lead towards
        return self._make(prompt, count, options, _repaint(strength, fit), image)

    def encode(self, image: Picture, size: Literal["full", "base"] = "full") -> NDArray[np.uint32]:
        """Tokens of an image of the model's full or base size, row by row."""
        base = choice("size", size, ["full", "base"]) == "base"
        return np.frombuffer(self._native.encode(_images.picture(image), base), np.uint32)

    def decode(self, tokens: Any, size: Literal["full", "base"] = "full") -> NDArray[np.uint8]:
        """The picture of finished tokens, row by row, of the model's full or base size: uint8 [height, width, 3]."""
        base = choice("size", size, ["full", "base"]) == "base"
        tokens = _images.imported(tokens)
        if tokens.dtype.kind not in "iu" or tokens.size and not 0 <= int(tokens.min()) <= int(tokens.max()) < 2**32:
            raise unusable("tokens", f"an array of {tokens.dtype}", "whole numbers of 32 bits, 0 or more")
        return _images.pixels(*self._native.decode(tokens.ravel().tolist(), base))

    def embed(self, prompt: str) -> Embeddings:
        """A text as the model's text encoder leaves it: generate(prompt, embeddings=...) takes it."""
        return _embeddings.of(self._native.embed(text("prompt", prompt)))

    def _make(self, prompt, count, options, edit=None, image=None, mask=None, boxes=()):
        callback, cancel = options.pop("callback", None), options.pop("cancel", None)
        embeddings = _embeddings.native(options.pop("embeddings", None))
        asked = request(prompt, options)
        if edit is not None:
            asked["edit"] = edit
        number = 1 if count is None else count
        if whole("count", number) not in range(1, 1025):
            raise unusable("count", count, "1 to 1024")
        picture = None if edit is None else _images.picture(image)
        shown = None if callback is None else lambda step: callback(Step(step))
        signals = threading.current_thread() is threading.main_thread()
        made = self._native.generate(to_json(asked), number, picture, mask, boxes, embeddings, cancel, signals, shown)
        seeds = ((asked["seed"] + i) % 2**64 for i in range(number))
        images = [Image(self._native, {**asked, "seed": seed}, one) for seed, one in zip(seeds, made)]
        return images[0] if count is None else images


def _fit(fit: Any) -> str:
    return choice("fit", fit, ["crop", "stretch"])


def _box(box: Any) -> list[int]:
    if not isinstance(box, (tuple, list)) or len(box) != 4:
        raise unusable("boxes", box, "(x, y, width, height) each")
    return [whole("boxes", side) for side in box]


def _repaint(strength: Any, fit: Any) -> dict[str, Any]:
    return {"change": {"repaint": {"strength": real("strength", strength)}}, "fit": _fit(fit)}


def _seam(feather: Any, decoded: Any) -> dict[str, Any]:
    return {"feather": whole("feather", feather), "decoded": bool(decoded)}
